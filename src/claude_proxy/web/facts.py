"""What the pages show about this proxy; filled in by the application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from claude_proxy.protocol.claude_code import model_variables
from claude_proxy.protocol.providers import Provider, find_at

OWN_KEY = "<your key>"
PROXY_KEY = "<PROXY_API_KEY>"
ANY_KEY = "claude-proxy"  # clients need some token, which the proxy replaces by its own credential


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream as shown to a visitor.

    Attributes:
        name: its name in the settings, "default" for the one of `BASE_URL`.
        base_url: its base URL, without credentials.
    """

    name: str
    base_url: str

    @property
    def host(self) -> str:
        """Host name without port, or the whole base URL if it has none."""
        return urlsplit(self.base_url).hostname or self.base_url

    @property
    def provider(self) -> Provider:
        """The provider of this upstream."""
        return find_at(self.base_url)


@dataclass(frozen=True, slots=True)
class PageFacts:
    """Facts of the running proxy; nothing in here is a secret.

    Attributes:
        version: of claude-proxy.
        prefix: path of the proxied API, "/api/anthropic".
        upstreams: in order of preference; at least one.
        holds_credential: whether the proxy sends its own credential upstream.
        needs_key: whether clients must show `PROXY_API_KEY`.
        notices: whether errors are pushed to ntfy.
    """

    version: str
    prefix: str
    upstreams: tuple[Upstream, ...]
    holds_credential: bool
    needs_key: bool
    notices: bool

    @property
    def bearer(self) -> str | None:
        """What a client sends as `Authorization: Bearer`, or a placeholder in `<>` if only the user knows it."""
        if self.holds_credential:
            return PROXY_KEY if self.needs_key else ANY_KEY
        return self._proxy_key if self._upstream_reads_x_api_key else OWN_KEY

    @property
    def x_api_key(self) -> str | None:
        """What a client sends as `x-api-key`; None if that header is not needed.

        While the proxy requires its key and holds no credential, the client sends two keys: its own in the header that
        the upstream reads, the proxy's in the other one.
        """
        if self.holds_credential:
            return None
        return OWN_KEY if self._upstream_reads_x_api_key else self._proxy_key

    @property
    def sample_model(self) -> str:
        """A model name that the first upstream knows."""
        return self.upstreams[0].provider.sample_model

    @property
    def client_models(self) -> Mapping[str, str]:
        """The variables that tell Claude Code the models of the first upstream; empty if we know none."""
        return model_variables(self.upstreams[0].provider)

    @property
    def checks_tools(self) -> bool:
        """Whether the first upstream supports the safety check of Claude Code's auto mode; only Anthropic does."""
        return self.upstreams[0].provider.native

    @property
    def _proxy_key(self) -> str | None:
        return PROXY_KEY if self.needs_key else None

    @property
    def _upstream_reads_x_api_key(self) -> bool:
        return self.upstreams[0].provider.auth == "x-api-key"
