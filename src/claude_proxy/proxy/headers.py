"""Which header fields pass: open lists both ways, and the closed list of what does not (DESIGN section 5, invariant 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        ValueError: a field holds a line break or a NUL, or two fields give the body different lengths.
    """
    parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    length: bytes | None = None
    for name, value in headers:
        if name in _NOT_UPSTREAM:
            if name == b"connection":
                withheld |= named_by_connection(value) - _NOT_UPSTREAM
            elif name == b"content-length" and length not in (None, value):
                raise ValueError("two lengths of one body")
            elif name == b"content-length":
                length = value
        else:
            parts += (name, b": ", value, b"\r\n")
    head = b"".join(parts)
    if withheld or b"x-forwarded-" in head:
        parts = [*parts[:6], *_without(headers, withheld)]
        head = b"".join(parts)
    if credential is not None:
        parts += (credential[0], b": ", credential[1], b"\r\n")
        head += b"".join(parts[-4:])
    lines = len(parts) // 4 + 1  # the request line and host are six parts and two lines, a field is four and one
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise ValueError("a line break or NUL inside a header field")
    return b"%b%b\r\n" % (head, framing)


def _without(headers: Iterable[Header], withheld: frozenset[bytes]) -> Iterator[bytes]:
    for name, value in headers:
        if name not in _NOT_UPSTREAM and name not in withheld and not name.startswith(b"x-forwarded-"):
            yield from (name, b": ", value, b"\r\n")


def response_headers(headers: list[Header]) -> list[Header]:
    """The fields of an upstream's response that go on to the client."""
    kept = []
    named: frozenset[bytes] = frozenset()
    for pair in headers:
        if pair[0] not in _NOT_TO_CLIENT:
            kept.append(pair)
        elif pair[0] == b"connection":
            named |= named_by_connection(pair[1]) - HOP_BY_HOP
    return [pair for pair in kept if pair[0] not in named] if named else kept
