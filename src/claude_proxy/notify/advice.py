"""What a failure means for a person and what to do.

`protocol/providers` explains providers' errors and the error types of the Messages API; the table here explains our own kinds
(`errors.py`, and those of the relay). An unknown kind gets a default.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_proxy.exchange import Failure
from claude_proxy.notify.notice import plain
from claude_proxy.protocol.judge import explain
from claude_proxy.protocol.providers import GENERIC, Class, Code, Provider, Reset, Text, by_name
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
        group: failures of one upstream and group are one incident, because one outage shows itself in many ways; "" keeps each
            kind on its own.
        final: the client cannot get through by trying again, so the first failure is worth a notice.
        until_reset: it ends at a time that the provider names.
        of_account: one account is affected, not the upstream: another account's answer is then no recovery.
    """

    name: Text
    do: Text
    priority: int = 3
    tag: str = "warning"
    scope: Scope = "upstream"
    group: str = ""
    final: bool = False
    until_reset: bool = False
    of_account: bool = False


ACCOUNT_OUT = "account_out"  # our own refusal while an account is out: the upstream said why, to an earlier request
LIMIT, TROUBLE, UNREACHABLE = "limit", "trouble", "unreachable"
_LOUDNESS = {
    Class.CONCURRENCY: (3, "traffic_light", LIMIT),
    Class.RATE: (3, "traffic_light", LIMIT),
    Class.OVERLOAD: (3, "hot_face", TROUBLE),
    Class.SERVER: (3, "warning", TROUBLE),
    Class.STOP_UNTIL: (4, "hourglass", ""),
    Class.ACCOUNT: (4, "no_entry", ""),
    Class.AUTH: (4, "key", ""),
    Class.CLIENT: (3, "warning", ""),
}
_BREAKS_OFF = Advice(Text("answers break off", "응답이 중간에 끊김"), WAIT, 3, "scissors", group=TROUBLE)
_LOST = Advice(Text("connection lost", "연결 끊김"), WAIT, 3, "electric_plug", group=TROUBLE)
_SLOW = Advice(Text("no answer in time", "제시간에 응답 없음"), WAIT, 3, "turtle", group=TROUBLE)
_NOT_THE_API = Text(
    "Something that is not the API answers at BASE_URL: a firewall, a bot check, a company portal or a login page. "
    "Open the address in a browser, or ask your network administrator.",
    "BASE_URL에서 API가 아닌 것이 응답합니다. 방화벽, 봇 검사, 회사 포털, 로그인 페이지일 수 있습니다. "
    "브라우저로 열어 보거나 네트워크 담당자에게 문의하세요.",
)
_NOT_BY_THE_API = Advice(Text("refused, but not by the API", "API가 아닌 곳에서 거부"), _NOT_THE_API, 4, "no_entry", final=True)
OWN = {
    "connect_failed": Advice(
        Text("not reachable", "연결할 수 없음"),
        Text(
            "Check BASE_URL, the network and HTTPS_PROXY: `claude-proxy doctor` tells which.",
            "BASE_URL, 네트워크, HTTPS_PROXY를 확인하세요. `claude-proxy doctor`가 원인을 알려 줍니다.",
        ),
        4,
        "electric_plug",
        group=UNREACHABLE,
    ),
    "name_not_found": Advice(
        Text("name not found", "호스트 이름을 찾을 수 없음"),
        Text("Check BASE_URL and this machine's DNS.", "BASE_URL과 이 컴퓨터의 DNS를 확인하세요."),
        4,
        "electric_plug",
        group=UNREACHABLE,
    ),
    "tls_failed": Advice(
        Text("TLS failed", "TLS 실패"),
        Text(
            "Check the certificate, UPSTREAM_CA_FILE and this machine's clock.",
            "인증서, UPSTREAM_CA_FILE, 이 컴퓨터의 시계를 확인하세요.",
        ),
        4,
        "lock",
        group=UNREACHABLE,
    ),
    "proxy_refused": Advice(
        Text("outbound proxy refused", "외부 프록시가 거부"),
        Text(
            "Check HTTPS_PROXY and that it lets us reach the upstream.",
            "HTTPS_PROXY를 확인하고, 그 프록시가 업스트림 연결을 허용하는지 확인하세요.",
        ),
        4,
        "electric_plug",
        group=UNREACHABLE,
    ),
    "connect_timeout": Advice(
        Text("not reachable in time", "제시간에 연결되지 않음"),
        Text("Check the network and HTTPS_PROXY.", "네트워크와 HTTPS_PROXY를 확인하세요.") + WAIT,
        4,
        "electric_plug",
        group=UNREACHABLE,
    ),
    "stale_connection": _LOST,
    "connection_lost": _LOST,
    "bad_response": Advice(
        Text("unusable answer", "쓸 수 없는 응답"),
        Text("Check that BASE_URL is an Anthropic-compatible API.", "BASE_URL이 Anthropic 호환 API인지 확인하세요."),
        group=TROUBLE,
    ),
    "http_401": _NOT_BY_THE_API,
    "http_403": _NOT_BY_THE_API,
    "http_407": _NOT_BY_THE_API,
    "upstream_timeout": _SLOW,
    "response_head_timeout": _SLOW,
    "write_timeout": Advice(Text("requests get stuck", "요청이 멈춤"), WAIT, 3, "turtle", group=TROUBLE),
    "upstream_is_self": Advice(
        Text("BASE_URL points at this proxy", "BASE_URL이 이 프록시를 가리킴"),
        Text("Set BASE_URL to the provider's address.", "BASE_URL을 제공자 주소로 설정하세요."),
        4,
        "repeat",
        final=True,
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
        final=True,
    ),
    "stream_cut": _BREAKS_OFF,
    "stream_unfinished": Advice(Text("answers end early", "응답이 끝나기 전에 종료됨"), WAIT, 3, "scissors", group=TROUBLE),
    "stream_idle": Advice(Text("answers fall silent", "응답이 멈춤"), WAIT, 3, "turtle", group=TROUBLE),
    "queue_timeout": Advice(
        Text("requests wait too long for their turn", "요청이 차례를 너무 오래 기다림"),
        Text(
            "More runs than the account takes at a time: run fewer agents, or add an account.",
            "계정이 한 번에 처리하는 것보다 많이 실행 중입니다. 에이전트를 줄이거나 계정을 추가하세요.",
        ),
        3,
        "traffic_light",
        group=LIMIT,
    ),
    "queue_full": Advice(
        Text("too many requests wait", "대기 중인 요청이 너무 많음"),
        Text("Run fewer agents, or add an account.", "에이전트를 줄이거나 계정을 추가하세요."),
        3,
        "traffic_light",
        group=LIMIT,
    ),
    ACCOUNT_OUT: Advice(
        Text("account out of use", "계정을 사용할 수 없음"),
        Text(
            "Its usage is used up, or its key is refused. Wait for the reset, replace the key, or add an account.",
            "사용량을 모두 썼거나 키가 거부되었습니다. 초기화를 기다리거나, 키를 바꾸거나, 계정을 추가하세요.",
        ),
        4,
        "no_entry",
        final=True,
        of_account=True,
    ),
    "account_gone": Advice(
        Text("account removed while requests waited for it", "대기 중에 계정이 삭제됨"),
        Text(
            "Its settings were changed. New requests go to the accounts that are left.",
            "설정이 변경되었습니다. 새 요청은 남은 계정으로 전송됩니다.",
        ),
        3,
        "wastebasket",
        of_account=True,
    ),
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
    "ledger_losing": Advice(
        Text("the books lose exchanges", "장부 기록 유실"),
        Text(
            "Requests are still served. Look at the disk or the database of the ledger (docs/books.md).",
            "요청은 계속 처리됩니다. 디스크나 장부 데이터베이스를 확인하세요(docs/books.md).",
        ),
        4,
        "ledger",
    ),
    "disk_low": Advice(
        Text("the disk is nearly full", "디스크 공간 부족"),
        Text(
            "Free space in DATA_DIR, or lower LEDGER_MAX_BYTES and CAPTURE_MAX_BYTES.",
            "DATA_DIR의 공간을 확보하거나 LEDGER_MAX_BYTES와 CAPTURE_MAX_BYTES를 줄이세요.",
        ),
        4,
        "floppy_disk",
    ),
    "crashed": Advice(
        Text("was killed and has started again", "강제 종료 후 다시 시작됨"),
        Text(
            "Exchanges of its last second may be missing in the books. If you did not do it: the machine's log often knows, "
            "such as an out-of-memory kill.",
            "마지막 1초의 기록이 장부에 없을 수 있습니다. 직접 종료하지 않았다면 메모리 부족 등 시스템 로그를 확인하세요.",
        ),
        3,
        "boom",
    ),
    "slow": Advice(
        Text("unusually slow", "평소보다 느림"),
        Text(
            "Answers take far longer to begin than usual. Nothing failed; another model or hour may be faster.",
            "응답이 시작되기까지 평소보다 훨씬 오래 걸립니다. 실패는 없으며 다른 모델이나 시간대가 더 빠를 수 있습니다.",
        ),
        3,
        "snail",
    ),
    "network": Advice(
        Text("your network", "네트워크 연결 끊김"),
        Text(
            "Neither the upstreams nor ntfy could be reached, so this machine's network is the likely cause.",
            "업스트림과 ntfy 모두 연결되지 않았습니다. 이 컴퓨터의 네트워크가 원인일 가능성이 높습니다.",
        ),
        4,
        "electric_plug",
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
    return Advice(Text(words, words), WAIT, group=TROUBLE)


def of_code(code: Code) -> Advice:
    """Return the advice from a provider's table, with the priority of its class."""
    priority, tag, group = _LOUDNESS[code.class_]
    if code.urgent:
        priority, tag = 5, "money_with_wings"
    return Advice(
        code.meaning,
        code.fix,
        priority,
        tag,
        code.scope,
        group if code.scope == "upstream" else "",
        final=not code.retry,
        until_reset=code.class_ is Class.STOP_UNTIL,
        of_account=code.class_ in (Class.STOP_UNTIL, Class.ACCOUNT, Class.AUTH),
    )


def reset(failure: Failure, provider: Provider = GENERIC) -> Reset | None:
    """Return when a quota resets, if the failure says so."""
    return (provider if failure.provider is None else by_name(failure.provider)).reset(failure.message)
