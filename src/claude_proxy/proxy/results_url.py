"""A batch's `results_url`: absolute, and followed by the SDKs as it stands, with the client's key, past the proxy.

While the proxy holds the upstream's credential, the client's key opens nothing there (FACTS section 4); so in that one JSON
field the address of the upstream becomes ours.
"""

from __future__ import annotations

import re

from claude_proxy.proxy import headers as h
from claude_proxy.proxy.client import Scope
from claude_proxy.proxy.target import PREFIX

LIMIT = 8 * 1024 * 1024
_FIELD = re.compile(rb'("results_url"\s*:\s*")(https?:(?:\\?/){2}[^"/\\]+[^"]*?)((?:\\?/)v1(?:\\?/)messages(?:\\?/)batches)')


def rewrite(body: bytes, base: bytes) -> bytes:
    """Point every `results_url` at `base`; everything else stays byte for byte."""
    return _FIELD.sub(lambda m: m[1] + base + m[3], body)


def own_base(scope: Scope) -> bytes:
    """Our own base URL as this client sees it."""
    host = h.get(scope["headers"], b"host") or b"localhost"
    root = str(scope.get("root_path", "")).rstrip("/").encode()
    return b"%b://%b%b%b" % (str(scope.get("scheme", "http")).encode(), host, root, PREFIX.encode())
