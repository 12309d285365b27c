"""Points a batch's `results_url` back at us.

The field is an absolute URL, which SDKs follow as it is: with the client's key, and past the proxy. While the proxy holds the
upstream's credential, the upstream does not accept the client's key. So in this one JSON field our address replaces the
upstream's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from claude_proxy.proxy import headers as h
from claude_proxy.proxy.client import Scope
from claude_proxy.proxy.target import PREFIX

LIMIT = 1024 * 1024  # bytes; a page of a hundred batches has about 60 KB
_START = re.compile(rb'"results_url"\s*:\s*"(?=https?:)')  # up to the address
_HOST = re.compile(rb'https?:(?:\\?/){2}[^"/\\]')  # JSON may write a slash as \/
_PATH = re.compile(rb"\\?/v1\\?/messages\\?/batches")


def may_hold(method: str, path: str, fields: Mapping[bytes, bytes]) -> bool:
    """Whether a response below /v1/messages/batches is JSON about batches: readable, and not a batch's own results."""
    kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if method == "HEAD" or path.endswith("/results"):
        return False
    return kind == b"application/json" and b"content-encoding" not in fields


def rewrite(body: bytes, base: bytes) -> bytes:
    """Point every `results_url` at `base`; everything else stays byte for byte.

    Each address is looked at once, up to its closing quote, so the time is proportional to the body.
    """
    parts = []
    copied = at = 0
    while field := _START.search(body, at):
        start = field.end()
        at = body.find(b'"', start)
        if at < 0:
            break
        host = _HOST.match(body, start, at)
        path = _PATH.search(body, host.end(), at) if host else None
        if path:
            parts += [body[copied:start], base]
            copied = path.start()
    return b"".join([*parts, body[copied:]]) if parts else body


def own_base(scope: Scope) -> bytes:
    """Our own base URL as the client of this request sees it."""
    host = h.get(scope["headers"], b"host") or b"localhost"
    root = str(scope.get("root_path", "")).rstrip("/").encode()
    return b"%b://%b%b%b" % (str(scope.get("scheme", "http")).encode(), host, root, PREFIX.encode())
