"""Which header fields pass: open lists both ways, and the closed list of what does not (DESIGN section 5, invariant 1)."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]

# RFC 9110 section 7.6.1: meant for one connection only. `connection` names more of them.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
_FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"))
_NOT_UPSTREAM = HOP_BY_HOP | _FORWARDED | {b"host", b"expect", b"cookie", b"content-length"}
_NOT_TO_CLIENT = HOP_BY_HOP | {b"date", b"server"}
CREDENTIALS = (b"authorization", b"x-api-key")


def get(headers: Iterable[Header], name: bytes) -> bytes | None:
    """The first value of `name` (lower-case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def named_by_connection(value: bytes) -> frozenset[bytes]:
    """The field names that a Connection field lists."""
    return frozenset(token.strip().lower() for token in value.split(b",") if token.strip())


def is_chunked(headers: Iterable[Header]) -> bool:
    """Whether a request announces a body of unknown length."""
    return get(headers, b"transfer-encoding") is not None


def content_length(headers: Iterable[Header]) -> int | None:
    """The announced length of the body; None without one.

    Raises:
        ValueError: not a number, or two that differ.
    """
    found: int | None = None
    for name, value in headers:
        if name == b"content-length":
            if not (value.isdigit() and value.isascii()) or (found is not None and int(value) != found):
                raise ValueError(value.decode("latin-1"))
            found = int(value)
    return found


def request_head(
    method: bytes,
    target: bytes,
    host: bytes,
    headers: Iterable[Header],
    *,
    credential: Header | None,
    withheld: frozenset[bytes],
    framing: bytes,
) -> bytes:
    """The head of a request to the upstream.

    Args:
        credential: the header that carries the proxy's own credential; then none of the client's leaves.
        withheld: names (lower-case) of fields that stay here besides the closed list.
        framing: the field that frames the body, with its line end, or b"".

    Raises:
        ValueError: a field holds a line break or a NUL.
    """
    lines = [b"%b %b HTTP/1.1\r\nhost: %b" % (method, target, host)]
    for name, value in headers:
        if name in _NOT_UPSTREAM:
            if name == b"connection":
                withheld |= named_by_connection(value)
        elif name not in withheld and not name.startswith(b"x-forwarded-"):
            lines.append(b"%b: %b" % (name, value))
    if withheld:
        lines = lines[:1] + [line for line in lines[1:] if line.partition(b":")[0] not in withheld]
    if credential is not None:
        lines.append(b"%b: %b" % credential)
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        raise ValueError("a line break or NUL inside a header field")
    return b"%b\r\n%b\r\n" % (head, framing)


def response_headers(headers: list[Header]) -> list[Header]:
    """The fields of an upstream's response that go on to the client."""
    named: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name == b"connection":
            named |= named_by_connection(value)
    if named - HOP_BY_HOP:
        return [h for h in headers if h[0] not in _NOT_TO_CLIENT and h[0] not in named]
    return [h for h in headers if h[0] not in _NOT_TO_CLIENT]
