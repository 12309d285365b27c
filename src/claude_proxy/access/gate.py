"""The gate before the path: client key, host and origin where they protect something, sizes, draining.

What protects what (DESIGN section 5, invariant 8): while the proxy holds a credential, whoever reaches the path spends it. So
then either PROXY_API_KEY is asked for, or only this machine is served, and a web page or a rebound DNS name is not let in.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, MutableMapping
from typing import Any

from claude_proxy.access.origin import OriginRules
from claude_proxy.access.peers import is_local
from claude_proxy.errors import Unauthorized, Unavailable
from claude_proxy.settings import Settings

Scope = MutableMapping[str, Any]
NOTHING: frozenset[bytes] = frozenset()


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

    def admit(self, scope: Scope) -> frozenset[bytes]:
        """Let a request pass.

        Returns:
            names of the header fields that carried our own key and so must not go upstream.

        Raises:
            Unavailable: we are draining.
            Unauthorized: no or a wrong key.
            Forbidden: a host name or web origin that is not allowed.
        """
        if self._draining():
            raise Unavailable("This proxy is stopping. Try again in a moment: its successor will answer.", code="draining")
        if self._holds_credential:
            self._origins.check(scope)
        if self._key is not None:
            return self._fields_with_key(scope, self._key)
        if self._holds_credential and not is_local(scope):
            raise Unauthorized(
                "This proxy holds an upstream credential, so it serves only its own machine until PROXY_API_KEY is set. "
                "Set PROXY_API_KEY at the proxy and send it as your API key.",
                code="key_needed",
            )
        return NOTHING

    def body_limit(self, path: str) -> int:
        """Bytes a request body may have (MAX_BODY and its two exceptions; sizes as the API's own, FACTS section 4)."""
        if path.startswith("/v1/files"):
            return self._max_files
        return self._max_batches if path.startswith("/v1/messages/batches") else self._max_body

    def _fields_with_key(self, scope: Scope, key: bytes) -> frozenset[bytes]:
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
