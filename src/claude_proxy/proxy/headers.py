"""Which header fields are forwarded: all but two closed lists, one for each direction (docs/design.md, "What is changed")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from operator import itemgetter

from claude_proxy.fronts import added_by_front
from claude_proxy.names import NameMemory

Header = tuple[bytes, bytes]

# RFC 9110 section 7.6.1: fields about one connection. A Connection field may name more of them.
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
_NOT_UPSTREAM = HOP_BY_HOP | {b"host", b"expect", b"cookie", b"content-length"}
_NOT_TO_CLIENT = HOP_BY_HOP | {b"date", b"server"}
CREDENTIALS = (b"authorization", b"x-api-key")
_name = itemgetter(0)
_line = b": ".join


@lru_cache(64)
def _goes_upstream(withheld: frozenset[bytes]) -> Callable[[bytes], bool]:
    """Whether a field of that name goes on, if those in `withheld`, of which there are few different sets, do not."""
    return NameMemory(lambda name: not (name in _NOT_UPSTREAM or name in withheld or added_by_front(name))).__getitem__


_goes_to_client = NameMemory(lambda name: name not in _NOT_TO_CLIENT).__getitem__


def _those(headers: Sequence[Header], goes: Callable[[bytes], bool]) -> Iterator[Header]:
    """The fields whose name `goes`. No Python code runs for a field, which halves the time of a head."""
    return compress(headers, map(goes, map(_name, headers)))


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
    headers: Sequence[Header],
    fields: Mapping[bytes, bytes],
    *,
    credential: Header | None,
    withheld: frozenset[bytes],
    framing: bytes,
) -> bytes:
    """The head of a request to the upstream, without the fields of the closed list and those that a front added.

    No `Via` is added, although RFC 9110 section 7.6.3 requires it: a proxy that changes nothing should not be noticeable.

    Args:
        fields: the same headers by name.
        credential: the header that carries the proxy's own credential; then none of the client's is sent.
        withheld: names (lower-case) of fields that are not sent, besides the closed list.
        framing: the field that frames the body, with its line end, or b"".

    Raises:
        ValueError: two fields give the body different lengths.
    """
    going = _those(headers, _goes_upstream(withheld))
    if len(fields) != len(headers) or fields.get(b"connection", b"keep-alive") != b"keep-alive":
        named = _named(headers)
        going = (pair for pair in going if pair[0] not in named)
    lines = [*map(_line, going)]
    if credential is not None:
        lines.append(_line(credential))
    block = b"\r\n".join(lines)
    end = b"\r\n" if block else b""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b%b\r\n" % (method, target, host, block, end, framing)


def refuse_breaks(headers: Iterable[Header]) -> None:
    """Check header fields that came through a server that does not check them itself (ours does).

    Raises:
        ValueError: a field holds a line break or a NUL.
    """
    text = b"".join([_line(pair) for pair in headers])
    if b"\n" in text or b"\r" in text or b"\0" in text:
        raise ValueError("a line break or NUL inside a header field")


def _named(headers: Iterable[Header]) -> frozenset[bytes]:
    """The fields that Connection names.

    Two different Content-Length fields are rejected here too, because this runs whenever a field occurs twice.

    Raises:
        ValueError: two fields give the body different lengths (RFC 9112 section 6.3).
    """
    named: frozenset[bytes] = frozenset()
    lengths = set()
    for name, value in headers:
        if name == b"connection":
            named |= named_by_connection(value) - _NOT_UPSTREAM
        elif name == b"content-length":
            lengths.add(value)
    if len(lengths) > 1:
        raise ValueError("two lengths of one body")
    return named


def response_headers(headers: Sequence[Header], fields: Mapping[bytes, bytes]) -> list[Header]:
    """The fields of an upstream's response that go on to the client; `fields` are the same by name."""
    going = [*_those(headers, _goes_to_client)]
    if len(fields) != len(headers) or fields.get(b"connection", b"close") not in (b"keep-alive", b"close"):
        named = frozenset[bytes]().union(*[named_by_connection(value) for name, value in headers if name == b"connection"])
        return [pair for pair in going if pair[0] not in named]
    return going
