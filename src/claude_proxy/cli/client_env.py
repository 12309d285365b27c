"""The environment in which Claude Code works well through the proxy (FACTS section 1, code.claude.com/docs env-vars)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from claude_proxy.cli.address import LOOPBACK
from claude_proxy.protocol.providers import PROVIDERS, Provider, by_name, find_at
from claude_proxy.proxy.target import PREFIX
from claude_proxy.settings import Settings

Models = Literal["glm", "claude", "none"]

PLACEHOLDER = "claude-proxy"  # Claude Code wants some token; the proxy replaces it with its own
API_TIMEOUT = "3000000"
STREAM_IDLE_TIMEOUT = "1800000"
CREDENTIALS = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
MODEL_NAMES = tuple(f"ANTHROPIC_DEFAULT_{role}_MODEL" for role in ("FABLE", "OPUS", "SONNET", "HAIKU"))
PLAIN_NAMES = (
    "ANTHROPIC_BASE_URL",
    "API_TIMEOUT_MS",
    "CLAUDE_STREAM_IDLE_TIMEOUT_MS",
    "CLAUDE_CODE_GATEWAY_HINT_HEADERS",
    "CLAUDE_CODE_ATTRIBUTION_HEADER",
    "ENABLE_TOOL_SEARCH",
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable to set, or with `value` None one to remove; `why` is a sentence for a comment."""

    name: str
    value: str | None
    why: str


def variables(settings: Settings, environ: Mapping[str, str], url: str, models: Models | None = None) -> list[Variable]:
    """What to set in the environment of Claude Code.

    Args:
        environ: what is set there already; a credential in it is left alone unless the proxy wants its own key.
        url: the proxy's address, without the prefix.
        models: which model names; by default those of the upstream's host, and names already set stay.
    """
    found = [
        Variable("ANTHROPIC_BASE_URL", url + PREFIX, "Claude Code talks to the proxy."),
        *credential(settings, environ),
        Variable("API_TIMEOUT_MS", API_TIMEOUT, "Long answers are not given up after ten minutes (Z.ai's advice)."),
        Variable(
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS",
            STREAM_IDLE_TIMEOUT,
            "The proxy notices a stalled stream (STREAM_IDLE_TIMEOUT); this is only the outer limit.",
        ),
        Variable("CLAUDE_CODE_GATEWAY_HINT_HEADERS", "1", "Each request says what it is for; the proxy's log shows it."),
    ]
    if find_at(settings.base_url).native:
        found.append(Variable("ENABLE_TOOL_SEARCH", "true", "Off by default behind a proxy; this one passes its blocks on."))
    else:
        why = "Without a changing line at its start the prompt is cached better."
        found.append(Variable("CLAUDE_CODE_ATTRIBUTION_HEADER", "0", why))
    return [*found, *model_names(settings, environ, models), *around_outbound_proxy(environ, url)]


def credential(settings: Settings, environ: Mapping[str, str]) -> list[Variable]:
    """What Claude Code has to show besides, or instead of, the credential it has.

    It sends ANTHROPIC_AUTH_TOKEN as bearer and ANTHROPIC_API_KEY as x-api-key, both if both are set (measured, 2.1.330).
    Without a held credential the proxy's key takes the header that the client's own does not need.
    """
    if settings.proxy_api_key is None:
        if settings.upstream_api_key is None or own_credentials(settings, environ):
            return []
        why = "Claude Code wants a token; the proxy puts its own credential in its place."
        return [Variable("ANTHROPIC_AUTH_TOKEN", PLACEHOLDER, why)]
    key, why = settings.proxy_api_key.get_secret_value(), "The proxy asks for this key (PROXY_API_KEY)."
    if settings.upstream_api_key is not None or own_credentials(settings, environ) == ["ANTHROPIC_API_KEY"]:
        return [Variable("ANTHROPIC_AUTH_TOKEN", key, why)]
    field = f"x-api-key: {key}"
    others = [line for line in environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines() if line.strip() and line != field]
    return [Variable("ANTHROPIC_CUSTOM_HEADERS", "\n".join([*others, field]), why)]


def own_credentials(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The variables in which Claude Code finds a credential of its own: neither the proxy's key nor our placeholder."""
    ours = {"", PLACEHOLDER}
    if settings.proxy_api_key is not None:
        ours.add(settings.proxy_api_key.get_secret_value())
    return [name for name in CREDENTIALS if environ.get(name, "") not in ours]


def missing_credential(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """A sentence when neither the proxy nor the environment holds a credential for the upstream.

    For Anthropic itself there is none: Claude Code may be logged in.
    """
    if settings.upstream_api_key is not None or own_credentials(settings, environ) or find_at(settings.base_url).native:
        return None
    return (
        f"No credential for {urlsplit(settings.base_url).hostname} is set: set ANTHROPIC_AUTH_TOKEN to your key, "
        "or start the proxy with UPSTREAM_API_KEY so that it sends its own."
    )


def model_names(settings: Settings, environ: Mapping[str, str], models: Models | None) -> list[Variable]:
    """Model names that the upstream knows: its provider's are set, or left-over ones removed for Claude's own."""
    provider = by_name("zai") if models == "glm" else find_at(settings.base_url)
    if models == "claude" or (models is None and provider.native):
        left = [name for name in MODEL_NAMES if is_foreign(environ.get(name, ""))]
        return [Variable(name, None, "Another provider's model, which this upstream does not know.") for name in left]
    return [
        Variable(name, model, f"What Claude Code means by {name.split('_')[2].lower()}.")
        for name, model in model_variables(provider).items()
        if models == "glm" or (models is None and environ.get(name, model) in (model, ""))
    ]


def model_variables(provider: Provider) -> dict[str, str]:
    """The variables with the models that `provider` suggests for Claude Code."""
    return {f"ANTHROPIC_DEFAULT_{role}_MODEL": model for role, model in provider.models.items()}


def is_foreign(model: str) -> bool:
    """Whether a model name belongs to a provider other than Anthropic."""
    return model.lower().startswith(
        tuple(family for provider in PROVIDERS if not provider.native for family in provider.families)
    )


def around_outbound_proxy(environ: Mapping[str, str], url: str) -> list[Variable]:
    """NO_PROXY with loopback in it, where an outbound proxy would else be asked for our own address."""
    outbound = any(environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"))
    excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if urlsplit(url).hostname not in LOOPBACK or not outbound or excepts_loopback(excepted):
        return []
    value = ",".join([*filter(None, [excepted]), *LOOPBACK])
    return [Variable("NO_PROXY", value, "HTTP_PROXY is set, but the proxy on this machine is reached without it.")]


def excepts_loopback(no_proxy: str) -> bool:
    """Whether a NO_PROXY list names loopback or everything."""
    names = {name.strip() for name in no_proxy.split(",")}
    return "*" in names or {"127.0.0.1", "localhost"} <= names


def removals(settings: Settings, environ: Mapping[str, str]) -> list[Variable]:
    """What undoes `variables`. A credential is only removed if it is one that we set; NO_PROXY stays."""
    key = None if settings.proxy_api_key is None else settings.proxy_api_key.get_secret_value()
    names = [*PLAIN_NAMES, *MODEL_NAMES]
    if environ.get("ANTHROPIC_AUTH_TOKEN") in (PLACEHOLDER, key):
        names.append("ANTHROPIC_AUTH_TOKEN")
    if environ.get("ANTHROPIC_CUSTOM_HEADERS") == f"x-api-key: {key}":
        names.append("ANTHROPIC_CUSTOM_HEADERS")
    return [Variable(name, None, "Set by `claude-proxy env`.") for name in names if name in environ]


def applied(environ: Mapping[str, str], changes: Iterable[Variable]) -> dict[str, str]:
    """`environ` with the changes made."""
    result = dict(environ)
    for change in changes:
        if change.value is None:
            result.pop(change.name, None)
        else:
            result[change.name] = change.value
    return result
