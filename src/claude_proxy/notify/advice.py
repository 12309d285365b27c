"""What a failure means for a person and what to do.

`protocol/providers` explains providers' errors and the error types of the Messages API; the table here explains our own kinds
(`errors.py`, and those of the relay). An unknown kind gets a default.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_proxy.exchange import Failure
from claude_proxy.notify.notice import plain
from claude_proxy.protocol.judge import explain
from claude_proxy.protocol.providers import GENERIC, Class, Code, Provider, Text, by_name
from claude_proxy.protocol.providers.base import WAIT, Scope
from claude_proxy.protocol.providers.generic import TYPES


class Advice(NamedTuple):
    """What one class of error means.

    Attributes:
        name: a few words for the title.
        do: a sentence or two: what to do.
        priority: ntfy's, from 3 (recovers by itself) to 5 (nothing works until someone acts).
        tag: emoji short code.
        scope: whether the whole upstream is affected or one model; an answer of another model is then no recovery.
    """

    name: Text
    do: Text
    priority: int = 3
    tag: str = "warning"
    scope: Scope = "upstream"


_LOUDNESS = {
    Class.CONCURRENCY: (3, "traffic_light"),
    Class.RATE: (3, "traffic_light"),
    Class.OVERLOAD: (3, "hot_face"),
    Class.SERVER: (3, "warning"),
    Class.STOP_UNTIL: (4, "hourglass"),
    Class.ACCOUNT: (4, "no_entry"),
    Class.AUTH: (4, "key"),
    Class.CLIENT: (3, "warning"),
}
_BREAKS_OFF = Advice(Text("answers break off", "응답이 중간에 끊김"), WAIT, 3, "scissors")
_LOST = Advice(Text("connection lost", "연결 끊김"), WAIT, 3, "electric_plug")
_SLOW = Advice(Text("no answer in time", "제시간에 응답 없음"), WAIT, 3, "turtle")
_NOT_THE_API = Text(
    "Something that is not the API answers at BASE_URL: a firewall, a bot check, a company portal or a login page. "
    "Open the address in a browser, or ask your network administrator.",
    "BASE_URL에서 API가 아닌 것이 응답합니다. 방화벽, 봇 검사, 회사 포털, 로그인 페이지일 수 있습니다. "
    "브라우저로 열어 보거나 네트워크 담당자에게 문의하세요.",
)
_NOT_BY_THE_API = Advice(Text("refused, but not by the API", "API가 아닌 곳에서 거부"), _NOT_THE_API, 4, "no_entry")
OWN = {
    "connect_failed": Advice(
        Text("not reachable", "연결할 수 없음"),
        Text(
            "Check BASE_URL, the network and HTTPS_PROXY: `claude-proxy doctor` tells which.",
            "BASE_URL, 네트워크, HTTPS_PROXY를 확인하세요. `claude-proxy doctor`가 원인을 알려 줍니다.",
        ),
        4,
        "electric_plug",
    ),
    "name_not_found": Advice(
        Text("name not found", "호스트 이름을 찾을 수 없음"),
        Text("Check BASE_URL and this machine's DNS.", "BASE_URL과 이 컴퓨터의 DNS를 확인하세요."),
        4,
        "electric_plug",
    ),
    "tls_failed": Advice(
        Text("TLS failed", "TLS 실패"),
        Text(
            "Check the certificate, UPSTREAM_CA_FILE and this machine's clock.",
            "인증서, UPSTREAM_CA_FILE, 이 컴퓨터의 시계를 확인하세요.",
        ),
        4,
        "lock",
    ),
    "proxy_refused": Advice(
        Text("outbound proxy refused", "외부 프록시가 거부"),
        Text(
            "Check HTTPS_PROXY and that it lets us reach the upstream.",
            "HTTPS_PROXY를 확인하고, 그 프록시가 업스트림 연결을 허용하는지 확인하세요.",
        ),
        4,
        "electric_plug",
    ),
    "connect_timeout": Advice(
        Text("not reachable in time", "제시간에 연결되지 않음"),
        Text("Check the network and HTTPS_PROXY.", "네트워크와 HTTPS_PROXY를 확인하세요.") + WAIT,
        4,
        "electric_plug",
    ),
    "stale_connection": _LOST,
    "connection_lost": _LOST,
    "bad_response": Advice(
        Text("unusable answer", "쓸 수 없는 응답"),
        Text("Check that BASE_URL is an Anthropic-compatible API.", "BASE_URL이 Anthropic 호환 API인지 확인하세요."),
    ),
    "http_401": _NOT_BY_THE_API,
    "http_403": _NOT_BY_THE_API,
    "http_407": _NOT_BY_THE_API,
    "upstream_timeout": _SLOW,
    "response_head_timeout": _SLOW,
    "write_timeout": Advice(Text("requests get stuck", "요청이 멈춤"), WAIT, 3, "turtle"),
    "upstream_is_self": Advice(
        Text("BASE_URL points at this proxy", "BASE_URL이 이 프록시를 가리킴"),
        Text("Set BASE_URL to the provider's address.", "BASE_URL을 제공자 주소로 설정하세요."),
        4,
        "repeat",
    ),
    "upstream_redirect": Advice(
        Text("BASE_URL redirects", "BASE_URL이 리디렉션됨"),
        Text(
            "Set BASE_URL to the address that answers without a redirect: often https instead of http, or another host or path. "
            "If it leads to a login page, a portal stands in between.",
            "리디렉션 없이 응답하는 주소로 BASE_URL을 설정하세요. http 대신 https이거나 호스트나 경로가 다른 경우가 많습니다. "
            "로그인 페이지로 이어진다면 중간에 포털이 있는 것입니다.",
        ),
        4,
        "arrow_right_hook",
    ),
    "stream_cut": _BREAKS_OFF,
    "stream_unfinished": Advice(Text("answers end early", "응답이 끝나기 전에 종료됨"), WAIT, 3, "scissors"),
    "stream_idle": Advice(Text("answers fall silent", "응답이 멈춤"), WAIT, 3, "turtle"),
    "unavailable": Advice(
        Text("all connections in use", "모든 연결 사용 중"),
        Text("Raise MAX_CONNECTIONS, or run fewer clients.", "MAX_CONNECTIONS를 늘리거나 클라이언트를 줄이세요."),
    ),
    "out_of_descriptors": Advice(
        Text("out of file descriptors", "파일 디스크립터 부족"),
        Text(
            "Raise this process's limit on open files (ulimit -n; LimitNOFILE= under systemd; ulimits in Compose), "
            "or run fewer clients.",
            "이 프로세스의 열린 파일 한도를 늘리거나(ulimit -n, systemd의 LimitNOFILE=, Compose의 ulimits) "
            "클라이언트를 줄이세요.",
        ),
        4,
        "no_entry",
    ),
    "out_of_memory": Advice(
        Text("out of memory", "메모리 부족"),
        Text("Free memory, or raise the container's limit.", "메모리를 확보하거나 컨테이너의 한도를 늘리세요."),
        4,
        "no_entry",
    ),
    "out_of_threads": Advice(
        Text("out of threads", "스레드 부족"),
        Text(
            "Raise the limit of processes (ulimit -u, the container's pids limit).",
            "프로세스 한도를 늘리세요(ulimit -u, 컨테이너의 pids 한도).",
        ),
        4,
        "no_entry",
    ),
    "internal": Advice(
        Text("error in the proxy", "프록시 오류"),
        Text("Please report it, with the log line.", "로그 줄과 함께 알려 주세요."),
        4,
        "bug",
    ),
    "ejected": Advice(
        Text("taken out of rotation", "순환에서 제외됨"),
        Text("Requests go to other upstreams; it comes back by itself.", "요청은 다른 업스트림으로 갑니다. 저절로 돌아옵니다."),
        3,
        "no_entry",
    ),
}


def advise(failure: Failure, provider: Provider = GENERIC) -> Advice:
    """What `failure` means for a person.

    Args:
        provider: the upstream's provider, which may have special advice for our own kinds of failure.
    """
    code = explain(failure) or TYPES.get(failure.kind)
    if code is not None:
        return of_code(code)
    own = OWN.get(failure.kind)
    if own is not None:
        return own._replace(do=provider.fixes.get(failure.kind, own.do))
    words = plain(failure.kind, 40).removesuffix("_error").replace("http_", "HTTP ").replace("_", " ")
    return Advice(Text(words, words), WAIT)


def of_code(code: Code) -> Advice:
    """Return the advice from a provider's table, with the priority of its class."""
    priority, tag = (5, "money_with_wings") if code.urgent else _LOUDNESS[code.class_]
    return Advice(code.meaning, code.fix, priority, tag, code.scope)


def reset(failure: Failure, provider: Provider = GENERIC) -> Text:
    """Say when a quota resets if the failure says so, else return an empty text.

    If the provider names no time zone, its own words are quoted too, because the assumed zone may be wrong.
    """
    found = (provider if failure.provider is None else by_name(failure.provider)).reset(failure.message)
    if found is None:
        return Text("", "")
    utc = f"{found.at:%Y-%m-%d %H:%M} UTC"
    if not found.assumed:
        return Text(f"Resets at {utc}.", f"{utc}에 초기화됩니다.")
    return Text(
        f"Resets at {found.stated} by the provider's clock: probably {found.assumed}, that is {utc}.",
        f"제공자 시각으로 {found.stated}에 초기화됩니다. 아마 {found.assumed}이므로 {utc}입니다.",
    )
