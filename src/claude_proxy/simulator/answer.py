"""An answer in parts, and its framing on the wire: head, chunks or length, tail."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus

import msgspec

from .codecs import encoded
from .scenario import Scenario, Usage

SERIAL = b"sim_0000000000"
"""Placeholder in rendered answers for the request's number, of the same length, so that content lengths stay right."""

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Error type per status (docs.anthropic.com/en/api/errors)."""

USUAL_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"request-id", b"req_" + SERIAL),
    (b"anthropic-organization-id", b"5f1e0000-0000-4000-8000-000000000000"),
    (b"anthropic-ratelimit-requests-limit", b"4000"),
    (b"anthropic-ratelimit-requests-remaining", b"3999"),
    (b"anthropic-ratelimit-requests-reset", b"2026-08-31T18:19:41Z"),
    (b"server", b"simulator"),
)


def serial(number: int) -> bytes:
    """Return what replaces ``SERIAL`` in the answer to request ``number``."""
    return b"sim_%010d" % number


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and the body in parts: one per SSE event, or a single one."""

    status: int
    parts: tuple[bytes, ...]
    content_type: str = "application/json"
    stream: bool = False
    reports: tuple[tuple[int, Usage], ...] = ()
    """(part index, usage that a reader knows once that part has arrived), in order."""
    headers: tuple[tuple[str, str], ...] = ()
    ready: list[bytes] = field(default_factory=list, repr=False, compare=False)
    """The cached bytes of the plain answer, without the status line and the date."""

    def with_parts(self, parts: tuple[bytes, ...]) -> Answer:
        """Return a copy with other parts; usage of removed parts is not reported."""
        kept = tuple((index, usage) for index, usage in self.reports if index < len(parts) and parts[index] == self.parts[index])
        return replace(self, parts=parts, reports=kept, ready=[])

    def with_newlines(self, newline: str) -> Answer:
        """Return a copy with these line ends in its SSE frames."""
        end = newline.encode()
        return replace(self, parts=tuple(part.replace(b"\n", end) for part in self.parts), ready=[])


@dataclass(frozen=True, slots=True)
class Request:
    """What the framing depends on in the request."""

    method: str
    http_version: str = "1.1"
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class Framed:
    """An answer with its framing."""

    head: bytes
    parts: tuple[bytes, ...]
    chunked: bool
    close: bool
    tail: bytes = b""
    interim: bytes = b""

    def framed(self, index: int) -> bytes:
        """Return a part as sent on the wire."""
        part = self.parts[index]
        if not self.chunked:
            return part
        return b"%x\r\n%b\r\n" % (len(part), part) if part else b""

    def halves(self, index: int) -> tuple[bytes, bytes]:
        """Return a part in two pieces, cut in the middle; each is whole in the chunked framing."""
        part = self.parts[index]
        middle = len(part) // 2
        if not self.chunked:
            return part[:middle], part[middle:]
        first, second = part[:middle], part[middle:]
        return b"%x\r\n%b\r\n" % (len(first), first), b"%x\r\n%b\r\n" % (len(second), second)


def error_type_of(status: int) -> str:
    """Return Anthropic's error type for a status."""
    return ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def error_body(error_type: str, message: str, code: str | None = None) -> bytes:
    """Return an error in Anthropic's envelope, as JSON."""
    inner = {"type": error_type, "message": message}
    if code is not None:
        inner["code"] = code
    return msgspec.json.encode(
        {"type": "error", "error": inner, "request_id": "req_" + SERIAL.decode()},
    )


def error_answer(status: int, message: str, error_type: str = "", code: str | None = None) -> Answer:
    """Return an error answer; the type follows from the status if it is not given."""
    return Answer(status, (error_body(error_type or error_type_of(status), message, code),))


def json_answer(value: object, status: int = 200) -> Answer:
    """Return a JSON answer."""
    return Answer(status, (msgspec.json.encode(value),))


_date = (0, b"")


def date_line() -> bytes:
    """Return the ``date`` header line, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n")
    return _date[1]


def status_line(status: int, http_version: str = "1.1") -> bytes:
    """Return the status line; a status without a standard name, such as 529, gets an empty reason."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Overloaded" if status == 529 else ""
    return f"HTTP/{http_version} {status} {reason}\r\n".encode()


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def plain(answer: Answer, scenario: Scenario, request: Request, number: int) -> tuple[bytes, bool]:
    """Return the whole answer as one piece of bytes, and whether the connection closes after it.

    Cheap if the same ``Answer`` object is sent again: only the date and the request's number are filled in.
    """
    usual = request.http_version == "1.1" and request.keep_alive and request.method != "HEAD"
    if not usual or scenario.encoding is not None:
        framed = frame(answer, scenario, request, number)
        parts = b"".join(map(framed.framed, range(len(framed.parts))))
        return framed.interim + framed.head + parts + framed.tail, framed.close
    if not answer.ready:
        mode, close = _framing(answer, scenario, request)
        chunked = mode == "chunked"
        framed = Framed(b"", answer.parts, chunked, close)
        body = b"".join(map(framed.framed, range(len(answer.parts)))) if _has_body(answer, request) else b""
        headers = _lines(_headers(answer, scenario, mode, close, sum(map(len, answer.parts))))
        answer.ready[:] = [
            _interim(scenario) + status_line(answer.status),
            headers + b"\r\n" + body + (_tail(scenario) if chunked else b""),
            b"close" if close else b"",
        ]
    start, rest, closes = answer.ready
    return start + date_line() + rest.replace(SERIAL, serial(number)), bool(closes)


def frame(answer: Answer, scenario: Scenario, request: Request, number: int) -> Framed:
    """Frame an answer, with this request's number in its ids."""
    number_bytes = serial(number)
    parts = tuple(part.replace(SERIAL, number_bytes) for part in answer.parts)
    if scenario.encoding is not None:
        parts = tuple(encoded(parts, scenario.encoding))
    mode, close = _framing(answer, scenario, request)
    headers = _lines(_headers(answer, scenario, mode, close, sum(map(len, parts))))
    version = "1.1" if request.http_version == "1.1" else "1.0"
    head = status_line(answer.status, version) + date_line() + headers.replace(SERIAL, number_bytes) + b"\r\n"
    body = _has_body(answer, request)
    chunked = mode == "chunked"
    tail = _tail(scenario) if chunked and body else b""
    return Framed(head, parts if body else (), chunked, close, tail, _interim(scenario))


def _has_body(answer: Answer, request: Request) -> bool:
    return request.method != "HEAD" and answer.status not in (204, 304)


def _framing(answer: Answer, scenario: Scenario, request: Request) -> tuple[str, bool]:
    fault = scenario.fault
    mode: str = scenario.framing
    if mode == "auto":
        mode = "chunked" if answer.stream or scenario.trailers else "length"
    if scenario.trailers or (fault is not None and fault.kind == "bad-chunk"):
        mode = "chunked"
    if mode == "chunked" and request.http_version != "1.1":
        mode = "close"
    closing = fault is not None and fault.kind == "early" and fault.then != "drain"
    return mode, mode == "close" or closing or scenario.then == "close" or not request.keep_alive


def _headers(answer: Answer, scenario: Scenario, mode: str, close: bool, size: int) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", answer.content_type.encode()), *USUAL_HEADERS]
    if answer.stream:
        headers.append((b"cache-control", b"no-cache"))
    if answer.status not in (204, 304):
        if mode == "length":
            headers.append((b"content-length", b"%d" % size))
        elif mode == "chunked":
            headers.append((b"transfer-encoding", b"chunked"))
    if scenario.encoding is not None:
        headers.append((b"content-encoding", scenario.encoding.encode()))
    if scenario.trailers:
        headers.append((b"trailer", b", ".join(name for name, _ in _pairs(scenario.trailers))))
    if close:
        headers.append((b"connection", b"close"))
    own = _pairs((*answer.headers, *scenario.headers))
    replaced = {name.lower() for name, _ in own}
    return [header for header in headers if header[0] not in replaced] + own


def _tail(scenario: Scenario) -> bytes:
    return b"0\r\n" + _lines(_pairs(scenario.trailers)) + b"\r\n"


def _interim(scenario: Scenario) -> bytes:
    return b"".join(status_line(status) + _lines(_pairs(headers)) + b"\r\n" for status, headers in scenario.interim)
