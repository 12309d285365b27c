"""Every regular expression and every scan over foreign bytes, with the worst that somebody could send it.

`python -m tests.architecture.hostile` prints how long each takes. An expression that meets no foreign bytes is in `OWN`.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from types import SimpleNamespace
from typing import Any

import brotli

try:
    from compression import zstd
except ImportError:
    from backports import zstd

from claude_proxy import cleaning, logs
from claude_proxy.access.login_cookie import values_in
from claude_proxy.access.logins import Logins
from claude_proxy.access.origin import OriginRules
from claude_proxy.access.viewers import shows
from claude_proxy.cli.doctor import recognise
from claude_proxy.errors import ProxyError
from claude_proxy.ledger.capture import cutting
from claude_proxy.ledger.capture.assembling import Answer, events
from claude_proxy.ledger.capture.redacting import Redactor
from claude_proxy.ledger.prices import table
from claude_proxy.ledger.prices.quota import QuotaUnreadable, parse
from claude_proxy.ledger.samples import window_of
from claude_proxy.ledger.when import moment
from claude_proxy.notify import answer as ntfy
from claude_proxy.notify import command, notice
from claude_proxy.protocol import sse
from claude_proxy.protocol.blocks import cut
from claude_proxy.protocol.decoding import decompressor
from claude_proxy.protocol.judge import judge
from claude_proxy.protocol.model_map import remap
from claude_proxy.protocol.peek import peek, peek_prefix
from claude_proxy.protocol.project import folder_name, project_in
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Provider
from claude_proxy.protocol.status_line import MAX_INPUT, Status, read_client, render
from claude_proxy.protocol.usage import ErrorBody, StreamReader, read_answer
from claude_proxy.proxy import headers, results_url, target
from claude_proxy.proxy.count_tokens import looks_missing
from claude_proxy.server import head
from claude_proxy.server.refusal import RefusedError
from claude_proxy.upstream import failures
from claude_proxy.web import address, negotiation
from claude_proxy.web.login import MAX_FORM, fields_in, own_place

MIB = 1024 * 1024
HEAD = 64 * 1024  # the most that fits into a request's head: larger ones are refused (431)

# Only what this machine's own user wrote meets these.
OWN = {
    "settings/cleaning.py:_FIELD_NAME": "settings",
    "settings/cleaning.py:LABEL": "settings",
    "settings/cleaning.py:_BEARER": "settings",
    "settings/cleaning.py:_WHOLE_PLACEHOLDER": "settings",
    "settings/cleaning.py:_PLACEHOLDER": "settings",
    "settings/kinds.py:_HOST_NAME": "settings",
    "settings/kinds.py:_ORIGIN": "settings",
    "settings/kinds.py:_PATTERN": "settings",
    "settings/kinds.py:_USUAL_PORT": "settings",
    "settings/problems.py:_CREDENTIALS": "settings",
    "settings/tables.py:_MODEL_NAME": "settings",
    "settings/urls.py:_SEVERAL": "settings",
    "settings/urls.py:_DOUBLED": "settings",
    "settings/urls.py:_HOST": "settings",
    "settings/urls.py:_NOT_IN_URLS": "settings",
    "settings/urls.py:_API": "settings",
    "ledger/prices/read.py:_PLACE": "the user's prices.toml",
    "ledger/prices/read.py:_ENTRY": "the user's prices.toml",
    "upstream/origin.py:_CREDENTIALS": "HTTPS_PROXY",
    "upstream/no_proxy.py:_SEPARATORS": "NO_PROXY",
    "upstream/no_proxy.py:_PORT": "NO_PROXY",
    "notify/command.py:_HANDED_ON": "names in the environment",
    "simulator/api.py:FRAME": "scenarios",
    "simulator/script.py:NTH": "scenarios",
    "simulator/dialogue.py:REMINDER": "prompts to the simulator, which serves whoever tests with it",
    "simulator/dialogue.py:USE": "prompts to the simulator",
    "simulator/dialogue.py:RUN": "prompts to the simulator",
    "simulator/dialogue.py:SUBAGENT": "prompts to the simulator",
    "simulator/dialogue.py:PARALLEL": "prompts to the simulator",
    "simulator/dialogue.py:SEPARATOR": "prompts to the simulator",
    "simulator/resources.py:FILE_NAME": "uploads to the simulator",
    "simulator/resources.py:PART_TYPE": "uploads to the simulator",
}

Hostile = str | tuple[str, str, str]


@dataclass(frozen=True)
class Case:
    """One scan and what could slow it down.

    Attributes:
        name: what is scanned.
        run: the scan.
        hostile: what is repeated to fill the size; with what stands before and behind it.
        covers: the expressions of the source that it uses, as `file:NAME`.
        most: bytes that can reach it.
        text: whether it reads text.
    """

    name: str
    run: Callable[[Any], object]
    hostile: tuple[Hostile, ...]
    covers: tuple[str, ...] = ()
    most: int = MIB
    text: bool = False

    def inputs(self, size: int) -> list[Any]:
        """What to run it on, each about `size` bytes."""
        whole = [filled(unit, size) for unit in self.hostile]
        return whole if self.text else [text.encode("latin-1") for text in whole]

    def seconds(self, value: Any) -> float:
        """CPU time of one run, without the garbage collector: its share grows with all that lives in the process."""
        gc.disable()
        try:
            began = time.thread_time()
            with contextlib.suppress(ProxyError, RefusedError, QuotaUnreadable):
                self.run(value)
            return time.thread_time() - began
        finally:
            gc.enable()


def filled(hostile: Hostile, size: int) -> str:
    """Before, as many repetitions as fit, behind."""
    before, unit, behind = ("", hostile, "") if isinstance(hostile, str) else hostile
    return before + unit * ((size - len(before) - len(behind)) // len(unit)) + behind


def in_chunks(feed: Callable[[bytes], object], data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        feed(data[at : at + size])


def split(size: int) -> Callable[[bytes], object]:
    return lambda data: in_chunks(sse.Splitter().feed, data, size)


def read_stream(size: int) -> Callable[[bytes], object]:
    return lambda data: in_chunks(StreamReader().feed, data, size)


def decode(coding: bytes, size: int) -> Callable[[bytes], object]:
    return lambda data: in_chunks(decompressor(coding).feed, data, size)


def assembled(data: bytes) -> None:
    answer = Answer()
    for event in events(data[at : at + 256 * 1024] for at in range(0, len(data), 256 * 1024)):
        answer.feed(event)
    answer.message()


def judged(provider: Provider) -> Callable[[str], object]:
    def run(message: str) -> None:
        judge(400, ErrorBody("error", message, None), provider=provider, credential_held=True, secrets=["sk-secret", "aaaaaa"])
        provider.reset(message)

    return run


EVENTS = (
    "a", "\n", "\r", "\r\n", "\r\r\n", "\n\r", "a\n\n", "a\r\n\r\n", "a\r", ":\n", "data: \n", "data\r", "event: x\r\n",
    "message_", "message_\n\n", "error\n", '"code"\r', "message_\n\nerror\n\n",
    ("event: e\r\ndata: ", "a", ""),
    ("message_\n\n", "a", ""), ("message_", "\n\n", "error"), ("", "\r", "\n\n"), ("", "a", "\n\nmessage_"),
)  # fmt: skip
JSON = (
    "[", '{"a":', '"', "\\", "1", "[],", " ", '{"usage":{"input_tokens":"x"},', "\xff",
    ('{"usage":1,"a":[', "[],", "0]}"), ('{"usage":1,"a":[', '"",', "0]}"), ('{"usage":1,"a":{', '"b":0,', '"c":1}}'),
    ('{"error":{"message":"', "a", '"}}'), ('{"error":{"message":"', "\\n", '"}}'), ('{"usage":{"input_tokens":', "9", "}}"),
    ('{"type":1,"model":"', "\\u00e9", '"}'),
)  # fmt: skip
WORDS = (
    "a", " ", "\n", "\x1b", "\u202e", "\u00e9", "[", "]", "[130]", "[1302][", "[1302][]", "sk-", "sk-aaaaaa ", "tk_", "bearer ",
    "Bearer\n", "basic ", "eyJ", "eyJaaaaaaaa.", "://", "://a", "@", "0123456789abcdef", "0123456789abcdef0123456789abcdef.",
    ("[1302][", "]", "x"), ("[1302][", "] ", "x"), ("[1302][", "][", "x"), ("[1302][", " ", "]"), ("[1302]", " ", "x"),
    ("[1302][x]", " ", "x"), ("[1302][x]", "[", "x"), ("bearer", " ", ""), ("://", "a", ""), ("a", "sk-secre", ""),
)  # fmt: skip
ERRORS = (  # how providers write codes and times, begun and not ended
    "(1234)", "(1234) ", "(", "(1", "reset at ", "reset at 2026-", "resets at 2026-01-01T", "regain access on 2026-",
    "reached your ", "reached your a ", "reached your a (", "reached your a (b) ", "reached your API ",
    "insufficient ", "credit balance is too ", "[1302]",
    ("[1302][", "]", "x"), ("[1302][", "] ", "x"), ("[1302][x]", " ", "x"), ("(1234)", " ", "x"),
    ("reached your ", "a", ""), ("reached your a (", "b", ""), ("reset at ", "1", ""),
)  # fmt: skip
FIELD = (
    "a", ",", " ", "a,", "a, ", ";", "q=", "a;q=1,", ":", "[", "]", ".", "1.", "%", "=", "\t", "-", "http://", "\xe9", "http://[",
    ("[", ":", ""), ("http://", "a", ":"), ("http://", "1.", ""), ("a:", "1", ""), ("text/html", ";q=0", ""), ("", "ko-", ""),
)  # fmt: skip
PATHS = (
    "/",
    ".",
    "%",
    "%2",
    "%2e",
    "/.",
    "..",
    "\\",
    "%5c",
    "a",
    "/..a",
    "%2f",
    "%2f.",
    "\xe9",
    ("/", "%2e%2e", "a"),
    ("/", ".", "a"),
)
RESULTS = (
    '"results_url"', '"results_url":', '"results_url":"', '"results_url":"https:', '"results_url":"https://u', '"results_url" ',
    ('"results_url"', " ", ""), ('"results_url":"https://', "u", ""), ('"results_url":"https://u', "/v1", '"'),
    ('"results_url":"https://u', "/v1/messages", '"'), ('"results_url":"https://u', "\\/", '"'),
    ('"results_url":"https:', "/", '"'),
    '"results_url":"https://u/v1/messages/batches/a",', '"results_url":"https:\\/\\/u"', "https://u/v1/messages/batches", "\\",
)  # fmt: skip
REPLIES = (
    '{"code":1,"http":429', '{"code":1,"http":429}', '{"code":', '{"code":1', "}", "\n", "1", '{"error":"', "[", "\x1b", "a",
    ('{"code":', "1", ""), ('{"code":1,"http":429', "a", ""), ('{"code":1,"http":429', "}", "\n"),
    ('{"code":1,"http":429,"error":"', "\\n", '"}'), ('{"code":1,"http":429,"error":"', "a", '"}'),
)  # fmt: skip

COOKIES = (
    "a", ";", "=", " ", "; ", "claude_proxy=a;", "claude_proxy", "\xff",
    ("claude_proxy=", "a", ""), ("x=", ";", "claude_proxy=1"),
)  # fmt: skip
TOKENS = ("a", " ", ":", ".", "[", ("Bearer ", "a", ""), ("Bearer ", " ", ""), ("signed.", "1", ""), ("signed.", ".", ""))
FORMS = ("a", "&", "=", "%", "%2", "%ff", "+", "a=b&", ("secret=", "a", ""), ("secret=", "%23code%3d", ""), ("to=", "/", ""))

MODELS = ("a", "-", "@", "-2025", "-20251001", "@20251001", ("claude-opus-5-5-", "2", ""), ("", "2", "-20251001"))
PROMPT = '{"messages":[{"role":"user","content":['
BLOCKS = (
    *JSON,
    (PROMPT, '{"type":"text","text":""},', "{}]}]}"), (PROMPT, "{},", "{}]}]}"), (PROMPT + "{", '"a":1,', '"b":1}]}]}'),
    (PROMPT, '{"content":[', ""), (PROMPT + '{"content":[', "{},", "{}]}]}]}"), (PROMPT, '{"content":[{"a":[1]},{}]},', "{}]}]}"),
    ('{"messages":[', '{"role":"user","content":"a"},', '{"role":"user","content":""}]}'),
    ('{"tools":[', '{"name":"a"},', '{}],"messages":[]}'), ('{"system":[', "{},", '{}],"messages":[]}'),
    (PROMPT + '{"text":"', "a", '"}]}]}'), (PROMPT + '{"text":"', '\\"cache_control\\"', '"}]}]}'),
    (PROMPT + '{"a":[', '{"cache_control":1},', "0]}]}]}"), (PROMPT + '{"a":[', '{"b":1,"cache_control":null},', "0]}]}]}"),
    (PROMPT + '{"a":[{"cache_control":', " ", '{}},{"b":[' + "1," * 50 + "1]}]}]}]}"),
    (PROMPT + '{"a":[{}', "," + " " * 500, "{}]}]}"),
    (PROMPT + '{"a":[{"b":0,', " ", '"cache_control":{}}]}]}]}'), (PROMPT + '{"a":{"cache_control":{', '"b":1,', '"c":1}}}]}]}'),
)  # fmt: skip
QUOTA = (
    *JSON, ('{"code":200,"data":{"limits":[', "{},", "{}]}}"), ('{"code":200,"data":{"limits":[{"usage":', "9", "}]}}"),
    ('{"code":200,"data":{"limits":[{"usage":"', "9", '"}]}}'),
    ('{"code":200,"data":{"limits":[{"unit":3,"number":', "9", "}]}}"),
)  # fmt: skip

PEM = "-----BEGIN PRIVATE KEY-----"
CREDENTIALS = (
    "a", " ", "\n", "\x1b", *JSON[:9], ".", "_", "-", "=", "sk-", "sk-a", " sk-aaaaa", "\\nsk-", "0123456789abcdef",
    "0123456789abcdef0123456789abcdef.", "Bearer ", "bearer aaaaa ", "basic ", "api_key", "api_key=", "api_key:", 'api_key":"',
    "api_key ", "password:aaaaa ", "token", "AKIA", " AKIA", "ghp_", " ghp_aaa", "xoxa-", " eyJ", " eyJaaaaaaaaaaaaaaaa.", " SG.",
    " SG.aaaaaaaaaaaaaaaa.", "://", "://a:", "://a:a", PEM, "-----BEGIN ", "PRIVATE KEY-----", PEM + "\\n", "exact-credentia",
    "exact-credential", (" sk-", "a", ""), ("Bearer ", "a", ""), ("Bearer ", " ", ""), ("api_key", "\\", ""),
    ("api_key=", "a", ""), ("api_key", " ", ""), (" SG.", "a", ""), (" eyJ", "a", ""), (" eyJaaaaaaaaaaaaaaaa", ".a", ""),
    ("://", "a", ""), ("://a:", "a", ""), (PEM, "\\", ""), (PEM, "\\n", ""), ("-----BEGIN ", "A", ""),
)  # fmt: skip
DELTA = 'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
STREAMED = (
    *EVENTS, DELTA, DELTA.replace('"index":0', '"index":7'), DELTA.replace("text_delta", "citations_delta"),
    'data: {"type":"content_block_start","index":0,"content_block":{}}\n\n', 'data: {"error":1}\n\n',
)  # fmt: skip

ZEROS = bytes(MIB)
COMPRESSED: dict[bytes, tuple[Hostile, ...]] = {
    coding: (*(compress(data).decode("latin-1") for data in (b"", b"a", ZEROS)), "\0", "\xff")
    for coding, compress in {
        b"gzip": gzip.compress,
        b"deflate": zlib.compress,
        b"br": brotli.compress,
        b"zstd": zstd.compress,
    }.items()
}


def asked_time(text: str) -> None:
    """A `since` or `until` of the API."""
    with contextlib.suppress(ValueError):
        moment(text, UTC, 1_790_000_000.0, end=True)


LOGINS = Logins()
NO_AMOUNTS = SimpleNamespace(limit_micro=None, used_micro=None, used_ppm=None, resets_at=None)

SYSTEM = '{"messages":[{"role":"system","content":"'
PROJECTS = ("\\n", " ", "\\n ", " - ", "-", "*", "/", "\\\\", "Primary working directory: ", "\\nPrimary working directory:")
CASES = (
    *(
        Case(f"events split, {size} bytes at a time", split(size), EVENTS, ("protocol/sse.py:_BOUNDARY",))
        for size in (64, 4096, MIB)
    ),
    *(
        Case(f"a stream read, {size} bytes at a time", read_stream(size), EVENTS, ("protocol/sse.py:_BOUNDARY",))
        for size in (64, 4096, MIB)
    ),
    Case("events parsed", lambda data: list(sse.parse(data)), EVENTS, ("protocol/sse.py:_END_OF_LINE",)),
    Case("events sought", lambda data: list(sse.holding(data, (b"message_", b"error", b'"code"'))), EVENTS),
    Case("a request peeked at", peek, JSON),
    Case(
        "a request whose model is replaced",
        lambda data: remap(data, "glm-5.3"),
        (
            *JSON,
            ('{"', '\\"', '":1,"model":1}'),
            ('{"', "\\u0041", '":1,"model":1}'),
            ("{", " ", '"model":1}'),
            ('{"model":', " ", "1}"),
            ("{", '"a":0,', '"model":1}'),
            ('{"a":[', "[],", '0],"model":1}'),
            ('{"model":[', "{},", "0]}"),
        ),
        ("protocol/model_map.py:_STRING", "protocol/model_map.py:_SPACE"),
        most=8 * MIB,
    ),
    Case(
        "the beginning of a request",
        peek_prefix,
        (
            *JSON,
            '"model"',
            '{"model":',
            ('{"model"', " ", ""),
            ('{"', "\\a", ""),
            ('{"', "\\", ""),
            '"\\""',
            ('{"model":"', "a", ""),
            "}",
        ),
        ("protocol/peek.py:_QUOTED", "protocol/peek.py:_STRING", "protocol/peek.py:_STEP"),
    ),
    Case("a request cut into blocks", cut, BLOCKS, ("protocol/blocks.py:_INNER_MARK",)),
    Case(
        "credentials taken out",
        Redactor([b"exact-credential"]),
        CREDENTIALS,
        tuple(
            f"ledger/capture/redacting.py:{name}"
            for name in ("_SK", "_ZAI", "_SCHEME", "_PREFIXED", "_PEM", "_NAMED", "_USERINFO")
        ),
    ),
    Case("a request cut into slices", cutting.cut, (*BLOCKS, ('{"messages":[{},', "0,", "0]}"), ('{"', 'a":0,"', 'a":0}'))),
    Case("a streamed answer put together", assembled, STREAMED),
    Case(
        "a project's name",
        project_in,
        tuple((f"{SYSTEM}Primary working directory: ", unit, '"}]}') for unit in PROJECTS),
        ("protocol/project.py:_LINE", "protocol/project.py:_WINDOWS"),
    ),
    Case("a path's last part", folder_name, ("/", "\\", "a/", " ", ("C:", "\\", ""), "\u202e"), text=True),
    Case(
        "a status line",
        lambda data: render(Status(model=read_client(data).model), 80),
        (
            "{",
            "[",
            '"',
            '{"model":',
            ('{"model": {"display_name": "', "\\u1100", '"}}'),
            ('{"cost": {"total_cost_usd": ', "9", "}}"),
        ),
        most=MAX_INPUT,
    ),
    Case("a model's price", lambda text: table._DATED.sub("", text), MODELS, ("ledger/prices/table.py:_DATED",), text=True),
    Case("a quota", parse, QUOTA, most=256 * 1024),
    Case("an answer read", read_answer, JSON),
    Case("a missing endpoint", lambda data: looks_missing(400, data), JSON),
    Case(
        "an error of nobody known",
        judged(GENERIC),
        (*WORDS, *ERRORS),
        ("protocol/judge.py:_SECRET",),
        text=True,
    ),
    *(Case(f"an error of {provider.name}", judged(provider), ERRORS, text=True) for provider in PROVIDERS),
    Case(
        "results_url",
        lambda data: results_url.rewrite(data, b"http://h"),
        RESULTS,
        ("proxy/results_url.py:_START", "proxy/results_url.py:_HOST", "proxy/results_url.py:_PATH"),
    ),
    Case(
        "a request's path",
        lambda data: target.parse.__wrapped__("POST", data, b""),
        PATHS,
        ("proxy/target.py:_UNPRINTABLE", "proxy/target.py:_DOT_SEGMENT"),
        HEAD,
    ),
    Case("a request's query", lambda data: target.parse.__wrapped__("POST", b"/", data), PATHS, most=HEAD),
    Case("a Connection field", headers.named_by_connection, FIELD, most=HEAD),
    Case("a Host field", lambda data: head.check_host.__wrapped__("1.1", data), FIELD, ("server/head.py:_HOST",), HEAD),
    Case(
        "an absolute target", lambda data: head.check_target.__wrapped__("GET", data), FIELD, ("server/head.py:_ABSOLUTE",), HEAD
    ),
    Case("an Upgrade field", lambda data: head.wants_websocket([(b"upgrade", data)]), FIELD, most=HEAD),
    Case("a Connection field with upgrade", lambda data: head.without_upgrade([(b"connection", data)]), FIELD, most=HEAD),
    Case("an allowed host", lambda text: OriginRules(["*.example.org"]).allows_host(text), FIELD, most=HEAD, text=True),
    Case("an origin", lambda data: OriginRules().check({"headers": [(b"host", b"h"), (b"origin", data)]}), FIELD, most=HEAD),
    Case("a Cookie field", lambda data: list(values_in({"headers": [(b"cookie", data)]})), COOKIES, most=HEAD),
    Case("a bearer", lambda data: shows([(b"authorization", data)], b"token"), TOKENS, most=HEAD),
    Case("a login's cookie", lambda text: (LOGINS.find(text), LOGINS.is_signed(text, b"key")), TOKENS, most=HEAD, text=True),
    Case("a code", LOGINS.take_code, (*TOKENS, "#code=", "\u00e9"), most=MAX_FORM, text=True),
    Case("a login form", lambda text: own_place(fields_in(text.encode()).get("to", "")), FORMS, most=MAX_FORM, text=True),
    Case("an Accept field", negotiation.prefers_html, FIELD, ("web/negotiation.py:_WEIGHT",), HEAD, text=True),
    Case(
        "a weight", negotiation._WEIGHT.fullmatch, (*FIELD, ("q=1.", "0", "")), ("web/negotiation.py:_WEIGHT",), HEAD, text=True
    ),
    Case("the page's address", address._PLAIN.fullmatch, FIELD, ("web/address.py:_PLAIN",), HEAD, text=True),
    Case(
        "a foreign string cleaned",
        lambda text: cleaning.clean(text, MIB),
        WORDS,
        ("cleaning.py:_BREAKS", "cleaning.py:_INVISIBLE", "cleaning.py:_SURROGATES"),
        text=True,
    ),
    Case("foreign bytes cleaned", lambda data: cleaning.clean(data, MIB), FIELD),
    Case("a foreign string cut, 100 times", lambda text: [cleaning.clean(text, 300) for _ in range(100)], WORDS, text=True),
    Case("foreign bytes cut, 100 times", lambda data: [cleaning.clean(data, 300) for _ in range(100)], FIELD),
    Case("a line for a terminal", lambda text: logs.show_controls(None, "", {"a": text}), WORDS, text=True),
    Case(
        "a notice",
        lambda text: notice.Notice(text, text, 3, (), "s").scrubbed(["aaaaaa"]),
        WORDS,
        ("notify/notice.py:_SECRET", "notify/notice.py:_USERINFO"),
        text=True,
    ),
    Case("foreign words in a notice", notice.plain, WORDS, text=True),
    Case(
        "the title of a page in the API's place",
        recognise.title_of,
        ("<title", "<title>", "<title ", "just a moment", ("<title", "a", ""), ("<title>", "a", ""), ("<title>", "&amp;", "")),
        ("cli/doctor/recognise.py:TITLE",),
    ),
    Case(
        "words of a challenge page",
        lambda text: recognise.CHALLENGE.search(text),
        ("just a momen", "verify you are huma", "captch", "a", "ddo"),
        ("cli/doctor/recognise.py:CHALLENGE",),
        text=True,
    ),
    Case("what the ntfy command says", command.failed, REPLIES),
    Case("what an ntfy server says", lambda data: ntfy.judge(429, {}, data), (*REPLIES, *JSON)),
    Case(
        "a time in a query",
        asked_time,
        ("7", "7d", " ", "2026-", ("2026-11-01T10:00", " 09", ""), (" ", "1", "d"), ("2026-11-01T", "0", " 09:00"), "d"),
        ("ledger/when.py:_AGO", "ledger/when.py:_MONTH", "ledger/when.py:_UNQUOTED_PLUS"),
        most=HEAD,
        text=True,
    ),
    Case(
        "a kept quota window",
        lambda text: window_of(text, NO_AMOUNTS),
        (" (", " (credits)", ("5h (", "tokens", ""), "(", " ", "5", ("", "5", "h"), (" (tool-calls", ")", "")),
        ("ledger/samples.py:_LABEL", "ledger/samples.py:_HOURS"),
        text=True,
    ),
    Case("a Retry-After", lambda text: ntfy.judge(429, {"retry-after": text}, b""), FIELD, most=HEAD, text=True),
    Case(
        "numbers of a failed dial",
        lambda text: failures._NUMBERS.findall(text),
        ("[Errno ", "[Errno 1", ("[Errno ", "1", ""), "["),
        ("upstream/failures.py:_NUMBERS",),
        text=True,
    ),
    *(
        Case(f"{coding.decode()}, {size} bytes at a time", decode(coding, size), units)
        for coding, units in COMPRESSED.items()
        for size in (4096, MIB)
    ),
)


def main() -> None:
    """Print the worst input of each case."""
    print(f"{'ms':>9}  KiB  scan")  # noqa: T201
    for case in CASES:
        size = min(case.most, MIB)
        worst, hostile = max((case.seconds(value), repr(value[:40])) for value in case.inputs(size))
        print(f"{worst * 1000:9.2f} {size // 1024:4}  {case.name}: {hostile}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
