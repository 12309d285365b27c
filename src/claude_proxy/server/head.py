"""The checks of a request's head that llhttp does not make: pure functions that raise RefusedError.

llhttp in its strict mode already refuses bare LF and CR, obs-fold, NUL and other control bytes, a space
before the colon, Content-Length that is doubled, empty, signed, a list or too large, Transfer-Encoding
beside Content-Length, and `chunked` that is not last (tests/server/test_hostile.py holds the bytes).
"""

import re
from functools import lru_cache
from typing import NamedTuple

from .refusal import RefusedError

Headers = list[tuple[bytes, bytes]]

# These are not lists (RFC 9110 section 5.5): given two, different parsers could use different ones.
SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})

# RFC 3986 section 3.2.2 with an optional port; no user, no empty host.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)

_FIX = "Nothing was sent upstream; fix the client, or whatever is between it and this proxy."


class Target(NamedTuple):
    """A request target in origin form; `authority` only if the client sent the absolute form."""

    path: bytes
    query: bytes
    authority: bytes | None


def refuse(status: int, code: str, what: str) -> RefusedError:
    """Return the error for a client's mistake: `what` says what is wrong, the advice is appended."""
    return RefusedError(status, code, f"{what} {_FIX}")


def check_version(version: str) -> None:
    """Accept only HTTP/1.1 and 1.0 (RFC 9110 section 15.6.6)."""
    if version not in ("1.1", "1.0"):
        raise refuse(505, "http_version", f"The request says HTTP/{version}, this server speaks HTTP/1.1 and HTTP/1.0.")


@lru_cache(maxsize=64)
def check_target(method: str, target: bytes) -> Target:
    """Split an origin-form target, convert the absolute form (RFC 9112 section 3.2.2), refuse the others."""
    if b"#" in target:
        raise refuse(400, "bad_target", "The request target contains a fragment ('#'), which clients must not send.")
    if target[:1] == b"/" and method != "CONNECT":
        path, _, query = target.partition(b"?")
        return Target(path, query, None)
    if method == "CONNECT":
        raise refuse(400, "connect", "The request is CONNECT: this is a proxy for the Anthropic API, not a forward proxy.")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise refuse(400, "bad_target", "The request target is neither a path nor an http(s) URL.")
    authority, rest = absolute.groups()
    if not _HOST.fullmatch(authority):
        raise refuse(400, "bad_target", "The URL in the request line has no usable host.")
    path, _, query = rest.partition(b"?")
    return Target(path or b"/", query, authority)


def check_framing(version: str, coding: bytes) -> None:
    """Require Transfer-Encoding to be exactly `chunked`, and none in HTTP/1.0 (RFC 9112 section 6.1)."""
    if version == "1.0":
        raise refuse(400, "bad_framing", "The request has Transfer-Encoding although it is HTTP/1.0.")
    if coding.lower() != b"chunked":
        raise refuse(501, "transfer_encoding", "The request's Transfer-Encoding is not 'chunked', the only one supported.")


@lru_cache(maxsize=64)
def check_host(version: str, host: bytes | None) -> None:
    """Require a valid Host (RFC 9112 section 3.2); HTTP/1.0 may omit it."""
    if host is None:
        if version == "1.0":
            return
        raise refuse(400, "bad_host", "The request has no Host header, which HTTP/1.1 requires.")
    if not _HOST.fullmatch(host):
        raise refuse(400, "bad_host", "The request's Host header is not a host name with an optional port.")


def doubled(name: bytes) -> RefusedError:
    """Return the error for a header that is repeated but may occur only once."""
    return refuse(400, "doubled_header", f"The request has more than one {name.decode('ascii').title()} header.")


def without_upgrade(headers: Headers) -> Headers:
    """Return the headers without the `Upgrade` that this server ignores (RFC 9110 section 7.8)."""
    kept: Headers = []
    for name, value in headers:
        if name in (b"upgrade", b"http2-settings"):
            continue
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            value = b", ".join(t for t in tokens if t.lower() not in (b"upgrade", b"http2-settings"))
            if not value:
                continue
        kept.append((name, value))
    return kept


def wants_websocket(headers: Headers) -> bool:
    """Whether `Upgrade` lists websocket."""
    return any(
        token.strip().lower().partition(b"/")[0] == b"websocket"
        for name, value in headers
        if name == b"upgrade"
        for token in value.split(b",")
    )


def explain(reason: str, data: bytes) -> RefusedError:
    """Return the error for bytes that llhttp could not parse; `reason` is its own message."""
    if data[:2] == b"\x16\x03":
        what = "These bytes look like TLS, and this port speaks plain HTTP: use http:// here, or a TLS proxy in front."
        return RefusedError(400, "tls_on_plain_port", what)
    if data[:14] == b"PRI * HTTP/2.0":
        return refuse(505, "http_version", "The client speaks HTTP/2 and this port HTTP/1.1.")
    if "method" in reason:
        return refuse(501, "unknown_method", "The request's method is not one that HTTP knows.")
    return refuse(400, "bad_request", f"The request is not valid HTTP/1.1 ({reason}).")
