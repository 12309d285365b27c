"""Where below the prefix a request points, and what kind of request it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from claude_proxy.errors import BadRequest
from claude_proxy.exchange import Kind
from claude_proxy.proxy.client import Scope

PREFIX = "/api/anthropic"
_RAW_PREFIX = PREFIX.encode()
_UNPRINTABLE = re.compile(rb"[^\x21-\x7e]")
# The ";" because Java servers cut path parameters off before they resolve dots: "/..;x/" is "/../" to them.
_DOT_SEGMENT = re.compile(rb"(?i)(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\;]|%2f|%5c|%3b)")


@dataclass(frozen=True, slots=True)
class Target:
    """A request's target below the prefix.

    Attributes:
        path: percent-encoding as it came, beginning with "/" or empty.
        path_and_query: the same with the query, as it goes upstream.
        kind: what is asked for; `POST /v1/messages` is the call that is billed and streams.
    """

    path: str
    path_and_query: bytes
    kind: Kind = Kind.OTHER


def raw_path(scope: Scope) -> bytes:
    """The path as received, without the root path.

    Only uvicorn puts its root path in front of `path` and `raw_path`, even if a front proxy has left it there already, so it is
    removed as often as it occurs (docs/facts.md, "ASGI servers").
    """
    raw: bytes = scope.get("raw_path") or quote(scope["path"], safe="/%:@!$&'()*+,;=~-._").encode()
    if raw.startswith(_RAW_PREFIX):
        return raw
    root = scope.get("root_path", "").rstrip("/").encode()
    while root and raw.startswith(root) and not raw.startswith(_RAW_PREFIX):
        raw = raw[len(root) :]
    return raw


def below_prefix(scope: Scope) -> bytes | None:
    """The path as received, after the prefix: empty or beginning with "/". None if it is outside the proxied API."""
    raw = scope.get("raw_path") or b""
    if not raw.startswith(_RAW_PREFIX):
        raw = raw_path(scope)
        if not raw.startswith(_RAW_PREFIX):
            return None
    path = raw[len(_RAW_PREFIX) :]
    return path if not path or path.startswith(b"/") else None


def is_probe(method: str, path: bytes) -> bool:
    """Whether Claude Code asks if anything listens (docs/facts.md, "Claude Code"): `HEAD <base>`, `HEAD <base>/api/hello`."""
    return method in ("HEAD", "GET") and path in (b"", b"/", b"/api/hello")


@lru_cache(maxsize=512)
def parse(method: str, path: bytes, query: bytes) -> Target:
    """Read a request target.

    Args:
        path: the raw path below the prefix.

    Raises:
        BadRequest: it contains what no URL may contain, or would leave the base path.
    """
    if _UNPRINTABLE.search(path) or _UNPRINTABLE.search(query) or b"#" in path:
        raise BadRequest(
            "The request path holds characters that no URL may hold. The client has to encode them.", code="bad_path"
        )
    if b"%00" in path:
        raise BadRequest(
            "The request path holds %00, a NUL, which no path of the API has. The client has to leave it out.", code="bad_path"
        )
    if b"." in path or b"%2" in path:
        _refuse_dots(path)
    text = path.decode("ascii")
    whole = path + b"?" + query if query else path
    return Target(text, whole, _kind(method, text))


def _kind(method: str, path: str) -> Kind:
    if path.startswith("/v1/messages/batches"):
        return Kind.BATCHES
    if method == "POST" and path == "/v1/messages":
        return Kind.MESSAGES
    return Kind.COUNT_TOKENS if method == "POST" and path == "/v1/messages/count_tokens" else Kind.OTHER


def _refuse_dots(path: bytes) -> None:
    if _DOT_SEGMENT.search(path):
        raise BadRequest(
            "The request path holds '.' or '..' segments. The client has to send the path it means.", code="bad_path"
        )
