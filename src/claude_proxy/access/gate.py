"""The gate before the path: client key, host and origin where they protect something, sizes, draining.

While the proxy holds an upstream credential, everybody who reaches the path spends it. So then the gate asks for PROXY_API_KEY,
or without one serves this machine only; either way it keeps out web pages and rebound DNS names.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, MutableMapping
from typing import Any

from claude_proxy.access.origin import OriginRules
from claude_proxy.access.peers import is_local
from claude_proxy.admission import OPEN, Admission
from claude_proxy.errors import Unauthorized, Unavailable
from claude_proxy.settings import Settings

Scope = MutableMapping[str, Any]
_PROXY_API_KEY = "default"  # the name of the one client key that there is so far


class Gate:
    """Decides over requests to the proxied path.

    Args:
        settings: keys, hosts, origins, sizes.
        draining: whether this process is about to stop.
    """

    def __init__(self, settings: Settings, origins: OriginRules, draining: Callable[[], bool]) -> None:
        key = settings.proxy_api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._holds_credential = settings.upstream_api_key is not None
        self._origins = origins
        self._draining = draining
        self._max_body = settings.max_body
        self._max_batches = settings.max_body_batches
        self._max_files = settings.max_body_files

    def admit(self, scope: Scope) -> Admission:
        """Let a request pass, or refuse it.

        Raises:
            Unavailable: this process is draining.
            Unauthorized: the request shows no key or a wrong one, or it is not this machine's own where no key is set.
            Forbidden: its host name or web origin is not allowed.
        """
        if self._draining():
            raise Unavailable("This proxy is stopping. Try again in a moment: its successor will answer.", code="draining")
        if self._holds_credential:
            self._origins.check(scope)
        if self._key is not None:
            return Admission(_PROXY_API_KEY, _fields_with_key(scope, self._key))
        if self._holds_credential and not is_local(scope):
            raise Unauthorized(
                "This proxy holds an upstream credential, so until PROXY_API_KEY is set it serves only its own machine, and "
                "nothing that came through a reverse proxy or tunnel. Set PROXY_API_KEY at the proxy and send it as your key.",
                code="key_needed",
            )
        return OPEN

    def body_limit(self, path: str) -> int:
        """Bytes a request body may have: MAX_BODY and its two exceptions, by default the limits of the API itself."""
        if path.startswith("/v1/files"):
            return self._max_files
        return self._max_batches if path.startswith("/v1/messages/batches") else self._max_body


def _fields_with_key(scope: Scope, key: bytes) -> frozenset[bytes]:
    """The names of the fields that carry our key.

    Raises:
        Unauthorized: none does.
    """
    found: set[bytes] = set()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            shown = value
        elif name == b"authorization":
            scheme, _, shown = value.partition(b" ")
            if scheme.lower() != b"bearer":
                continue
        else:
            continue
        if hmac.compare_digest(shown.strip(), key):
            found.add(name)
    if not found:
        raise Unauthorized(
            "This proxy asks for its own key (PROXY_API_KEY), and the request did not show it. Send it as "
            "ANTHROPIC_AUTH_TOKEN (bearer) or ANTHROPIC_API_KEY (x-api-key).",
            code="key_wrong",
        )
    return frozenset(found)
