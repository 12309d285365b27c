"""What the pages say about this proxy; the application fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream as a visitor may see it.

    Attributes:
        name: its name in the settings, "default" for the one of `BASE_URL`.
        base_url: where it is, without credentials in the URL.
    """

    name: str
    base_url: str

    @property
    def host(self) -> str:
        """Host name without port, or the whole base URL where it names none."""
        return urlsplit(self.base_url).hostname or self.base_url


@dataclass(frozen=True, slots=True)
class PageFacts:
    """Facts of the running proxy; nothing in here is a secret.

    Attributes:
        version: of claude-proxy.
        prefix: path of the proxied API, "/api/anthropic".
        upstreams: in order of preference; at least one.
        holds_credential: whether the proxy sends a credential of its own upstream.
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
    def takes_x_api_key(self) -> bool:
        """Whether a client's own credential has to travel as `x-api-key` rather than as a bearer token.

        Anthropic takes API keys only so (https://docs.anthropic.com/en/api/overview); the others we know take a
        bearer token (FACTS section 2).
        """
        return not self.needs_key and not self.holds_credential and self.upstreams[0].host == "api.anthropic.com"

    @property
    def placeholder(self) -> str:
        """What stands in the copied lines where the client's credential belongs."""
        if self.needs_key:
            return "<PROXY_API_KEY>"
        return "any" if self.holds_credential else "<your key>"

    @property
    def sample_model(self) -> str:
        """A model name that the first upstream knows (FACTS section 2)."""
        glm = self.upstreams[0].host.endswith(("z.ai", "bigmodel.cn"))
        return "glm-5.3" if glm else "claude-sonnet-5-5"
