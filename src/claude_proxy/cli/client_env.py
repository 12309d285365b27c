"""The environment that Claude Code needs to work well through the proxy (https://code.claude.com/docs/en/env-vars)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import urlsplit

from claude_proxy.cli.address import LOOPBACK
from claude_proxy.protocol.claude_code import (
    AUTO_MODE,
    CHECKING_MODEL,
    DISCOVERY,
    DISCOVERY_TIMEOUT,
    HINTS,
    MODEL_NAMES,
    TIMEOUTS,
    Variable,
    model_variables,
    needed,
)
from claude_proxy.protocol.providers import PROVIDERS, by_name, find_at
from claude_proxy.proxy.target import PREFIX
from claude_proxy.settings import Settings

Models = Literal["glm", "claude", "none"]

PLACEHOLDER = "claude-proxy"  # Claude Code needs some token; the proxy replaces it by its own
ALIASES = ("default", "best", "fable", "opus", "sonnet", "haiku", "opusplan")  # Claude Code's own aliases; never sent to the API
CREDENTIALS = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
PLAIN_NAMES = (
    "ANTHROPIC_BASE_URL",
    *(variable.name for variable in (*TIMEOUTS, HINTS, AUTO_MODE, DISCOVERY_TIMEOUT)),
    "CLAUDE_CODE_ATTRIBUTION_HEADER",
    "ENABLE_TOOL_SEARCH",
)


def variables(settings: Settings, environ: Mapping[str, str], url: str, models: Models | None = None) -> list[Variable]:
    """Return the changes to make in Claude Code's environment.

    Args:
        environ: the current environment; a credential in it is left alone unless the proxy requires its own key.
        url: the proxy's address, without the prefix.
        models: whose model names to set; by default those for the upstream's host, keeping names already set.
    """
    native = find_at(settings.base_url).native
    found = [
        Variable("ANTHROPIC_BASE_URL", url + PREFIX, "Claude Code talks to the proxy."),
        *credential(settings, environ),
        *needed(checks_tools=native),
    ]
    if native:
        found.append(Variable("ENABLE_TOOL_SEARCH", "true", "Off by default behind a proxy; this proxy supports it."))
    else:
        why = "Improves prompt caching: the first line of the prompt no longer changes."
        found.append(Variable("CLAUDE_CODE_ATTRIBUTION_HEADER", "0", why))
    if environ.get(DISCOVERY):
        found.append(DISCOVERY_TIMEOUT)
    return [*found, *model_names(settings, environ, models), *around_outbound_proxy(environ, url)]


def credential(settings: Settings, environ: Mapping[str, str]) -> list[Variable]:
    """Return the credential Claude Code must send in addition to, or instead of, its own.

    It sends ANTHROPIC_AUTH_TOKEN as bearer and ANTHROPIC_API_KEY as x-api-key, both if both are set (measured, 2.1.332).
    If the proxy holds no credential, its key goes in the header that the client's own key does not use.
    """
    if settings.proxy_api_key is None:
        if settings.upstream_api_key is None or own_credentials(settings, environ):
            return []
        why = "Claude Code needs a token; the proxy replaces it by its own credential."
        return [Variable("ANTHROPIC_AUTH_TOKEN", PLACEHOLDER, why)]
    key, why = settings.proxy_api_key.get_secret_value(), "The proxy requires this key (PROXY_API_KEY)."
    if settings.upstream_api_key is not None or own_credentials(settings, environ) == ["ANTHROPIC_API_KEY"]:
        return [Variable("ANTHROPIC_AUTH_TOKEN", key, why)]
    field = f"x-api-key: {key}"
    others = [line for line in environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines() if line.strip() and line != field]
    return [Variable("ANTHROPIC_CUSTOM_HEADERS", "\n".join([*others, field]), why)]


def own_credentials(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return the variables that hold Claude Code's own credential, that is, neither the proxy's key nor our placeholder."""
    ours = {"", PLACEHOLDER}
    if settings.proxy_api_key is not None:
        ours.add(settings.proxy_api_key.get_secret_value())
    return [name for name in CREDENTIALS if environ.get(name, "") not in ours]


def missing_credential(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Return a warning if neither the proxy nor the environment has a credential for the upstream.

    Not for Anthropic itself, since Claude Code may be logged in.
    """
    if settings.upstream_api_key is not None or own_credentials(settings, environ) or find_at(settings.base_url).native:
        return None
    return (
        f"No credential for {urlsplit(settings.base_url).hostname} is set: set ANTHROPIC_AUTH_TOKEN to your key, "
        "or start the proxy with UPSTREAM_API_KEY so that it sends its own."
    )


def model_names(settings: Settings, environ: Mapping[str, str], models: Models | None) -> list[Variable]:
    """Return changes of the model names: set those of the upstream's provider, or remove left-over ones for Claude's own."""
    provider = by_name("zai") if models == "glm" else find_at(settings.base_url)
    if models == "claude" or (models is None and provider.native):
        left = [name for name in MODEL_NAMES if is_foreign(environ.get(name, ""))]
        return [Variable(name, None, "A model of another provider, unknown to this upstream.") for name in left]
    if models == "none":
        return []
    found = [
        Variable(name, model, f"What Claude Code means by {name.split('_')[2].lower()}.")
        for name, model in model_variables(provider).items()
        if models == "glm" or environ.get(name, model) in (model, "")
    ]
    return found if provider.models else checking_model(environ)


def checking_model(environ: Mapping[str, str]) -> list[Variable]:
    """For an upstream with unknown models, let auto mode's check use the model that the user chose.

    Without a sonnet model Claude Code would ask such an upstream for one of Anthropic's.
    """
    chosen = environ.get("ANTHROPIC_MODEL", "").removesuffix("[1m]")
    if not chosen or chosen in ALIASES or environ.get(CHECKING_MODEL, chosen) not in (chosen, ""):
        return []
    return [Variable(CHECKING_MODEL, chosen, "Auto mode checks tool calls with the model that you chose.")]


def is_foreign(model: str) -> bool:
    """Whether a model name belongs to a provider other than Anthropic."""
    return model.lower().startswith(
        tuple(family for provider in PROVIDERS if not provider.native for family in provider.families)
    )


def around_outbound_proxy(environ: Mapping[str, str], url: str) -> list[Variable]:
    """Add loopback to NO_PROXY if our own address would otherwise be reached through an outbound proxy."""
    outbound = any(environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"))
    excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if urlsplit(url).hostname not in LOOPBACK or not outbound or excepts_loopback(excepted):
        return []
    value = ",".join([*filter(None, [excepted]), *LOOPBACK])
    return [Variable("NO_PROXY", value, "HTTP_PROXY is set, but must not be used to reach the proxy on this machine.")]


def excepts_loopback(no_proxy: str) -> bool:
    """Whether a NO_PROXY list exempts loopback or everything."""
    names = {name.strip() for name in no_proxy.split(",")}
    return "*" in names or {"127.0.0.1", "localhost"} <= names


def removals(settings: Settings, environ: Mapping[str, str]) -> list[Variable]:
    """Return the changes that undo `variables`. A credential is removed only if we set it; NO_PROXY stays."""
    key = None if settings.proxy_api_key is None else settings.proxy_api_key.get_secret_value()
    names = [*PLAIN_NAMES, *MODEL_NAMES]
    if environ.get("ANTHROPIC_AUTH_TOKEN") in (PLACEHOLDER, key):
        names.append("ANTHROPIC_AUTH_TOKEN")
    if environ.get("ANTHROPIC_CUSTOM_HEADERS") == f"x-api-key: {key}":
        names.append("ANTHROPIC_CUSTOM_HEADERS")
    return [Variable(name, None, "Set by `claude-proxy env`.") for name in names if name in environ]


def applied(environ: Mapping[str, str], changes: Iterable[Variable]) -> dict[str, str]:
    """Return `environ` with the changes applied."""
    result = dict(environ)
    for change in changes:
        if change.value is None:
            result.pop(change.name, None)
        else:
            result[change.name] = change.value
    return result
