"""What the path is told: one immutable value, taken once per exchange, so that a reload swaps it for the next ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from claude_proxy.admission import Admission
from claude_proxy.protocol.providers import GENERIC, Provider
from claude_proxy.proxy.client import Scope
from claude_proxy.proxy.count_tokens import CountTokens
from claude_proxy.proxy.headers import CREDENTIALS, Header
from claude_proxy.settings import Settings
from claude_proxy.upstream.pool import Pool


class Gate(Protocol):
    """Who may pass, and with how much (`access/`)."""

    def admit(self, scope: Scope) -> Admission:
        """The terms on which a request passes. Raises ProxyError."""

    def body_limit(self, path: str) -> int:
        """Bytes a request body may have at this path (below the prefix)."""


class Upstream:
    """A configured upstream: its pool, and the credential that goes there instead of the client's.

    Args:
        name: for logs and notices.
        credential: header field with the held credential, or None to let the client's pass.
        base_url: as the user wrote it, for messages.
        provider: who answers there, and so what its errors mean.
        memory: seconds to remember that it has no count_tokens (COUNT_TOKENS_MEMORY).
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        credential: Header | None,
        *,
        base_url: str = "",
        provider: Provider = GENERIC,
        memory: float = 0.0,
    ) -> None:
        self.name = name
        self.pool = pool
        self.base_url = base_url
        self.provider = provider
        self.credential = credential
        self.withheld = frozenset(CREDENTIALS) if credential is not None else frozenset()
        self.prefix = pool.origin.target_prefix
        self.host = pool.origin.host_header
        proxy = pool.origin.proxy
        self.proxy_authorization = None if proxy is None or pool.origin.tls else proxy.authorization
        self.count_tokens = CountTokens(memory)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force, who may pass, and where requests go."""

    settings: Settings
    gate: Gate
    upstreams: tuple[Upstream, ...]

    def choose(self, _call: Any) -> Upstream:
        """The upstream that a request goes to."""
        return self.upstreams[0]

    def owns(self, client: tuple[str, int], server: tuple[str, int]) -> bool:
        """Whether a connection between these addresses is one of our own to an upstream.

        Both ends are compared: a local port alone serves several connections, to different destinations.
        """
        pair = (client, server)
        for upstream in self.upstreams:  # noqa: SIM110 - for each request: a generator would cost three times as much
            if pair in upstream.pool.own:
                return True
        return False

    def close(self) -> None:
        """Close the upstream connections."""
        for upstream in self.upstreams:
            upstream.pool.close()
