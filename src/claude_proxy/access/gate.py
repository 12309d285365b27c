"""Access control for the proxied path: client key, host and origin where they protect something, sizes, draining.

While the proxy holds an upstream credential, anyone who reaches the path can spend it. The gate then requires PROXY_API_KEY,
or without one serves only this machine; either way it refuses web pages and rebound DNS names.
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
_PROXY_API_KEY = "default"  # the name of the only client key


class Gate:
    """Admits or refuses requests to the proxied path.

    Args:
        settings: keys, hosts, origins, sizes.
        draining: returns whether this process is about to stop.
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
        """Admit a request, or refuse it.

        Raises:
            Unavailable: this process is draining.
            Unauthorized: the key is missing or wrong; or no key is set and the request is not from this machine.
            Forbidden: its host name or web origin is not allowed.
        """
        if self._draining():
            raise Unavailable("This proxy is stopping. Try again in a moment: its replacement will answer.", code="draining")
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
        """Return the size limit of a request body in bytes: MAX_BODY or one of its two exceptions; by default the API's own."""
        if path.startswith("/v1/files"):
            return self._max_files
        return self._max_batches if path.startswith("/v1/messages/batches") else self._max_body


def _fields_with_key(scope: Scope, key: bytes) -> frozenset[bytes]:
    """Return the names of the fields that carry our key.

    Raises:
        Unauthorized: there is none.
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
            "This proxy requires its own key (PROXY_API_KEY), and the request did not carry it. Send it as "
            "ANTHROPIC_AUTH_TOKEN (bearer) or ANTHROPIC_API_KEY (x-api-key).",
            code="key_wrong",
        )
    return frozenset(found)
