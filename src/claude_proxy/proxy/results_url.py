"""A batch's `results_url`: absolute, and followed by the SDKs as it stands, with the client's key, past the proxy.

While the proxy holds the upstream's credential, the client's key opens nothing there (FACTS section 4); so in that one JSON
field the address of the upstream becomes ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from claude_proxy.proxy import headers as h
from claude_proxy.proxy.client import Scope
from claude_proxy.proxy.target import PREFIX

LIMIT = 1024 * 1024  # bytes; a page of a hundred batches has about 60 KB
_FIELD = re.compile(rb'("results_url"\s*:\s*")(https?:(?:\\?/){2}[^"/\\]+[^"]*?)((?:\\?/)v1(?:\\?/)messages(?:\\?/)batches)')


def may_hold(method: str, path: str, fields: Mapping[bytes, bytes]) -> bool:
    """Whether a response below /v1/messages/batches is JSON about batches: readable, and not a batch's own results."""
    kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if method == "HEAD" or path.endswith("/results"):
        return False
    return kind == b"application/json" and b"content-encoding" not in fields


def rewrite(body: bytes, base: bytes) -> bytes:
    """Point every `results_url` at `base`; everything else stays byte for byte."""
    return _FIELD.sub(lambda m: m[1] + base + m[3], body)


def own_base(scope: Scope) -> bytes:
    """Our own base URL as this client sees it."""
    host = h.get(scope["headers"], b"host") or b"localhost"
    root = str(scope.get("root_path", "")).rstrip("/").encode()
    return b"%b://%b%b%b" % (str(scope.get("scheme", "http")).encode(), host, root, PREFIX.encode())
