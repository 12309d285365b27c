"""How each provider refuses: one scenario per kind of refusal, in the form and with the status that the provider uses.

The sources are those of `protocol/providers`; a test checks that the proxy reads each of these as what it is meant to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from .scenario import Scenario, error

Refusal = Literal["concurrency", "rate", "overload", "window", "account", "auth", "server"]
REFUSALS: tuple[Refusal, ...] = ("concurrency", "rate", "overload", "window", "account", "auth", "server")
BEIJING = timezone(timedelta(hours=8))
DEFAULT_RESET = 3600.0
"""Seconds until a used-up window is back, where nobody says when."""


def refusal(kind: Refusal, provider: str, resets_at: float) -> Scenario:
    """Return the answer with which a provider refuses.

    Args:
        kind: what it refuses for; ``server`` is a plain 500, which is no refusal.
        provider: its name in ``protocol/providers``; one without an entry here refuses as Anthropic does.
        resets_at: Unix seconds at which a used-up window is back.
    """
    if kind == "server":
        return error(500, message="Internal server error")
    table = _PROVIDERS.get(provider, {})
    found = table.get(kind) or _ANTHROPIC[kind]
    return found.but(
        message=found.message.format(beijing=_at(resets_at, BEIJING), iso=_at(resets_at, UTC).replace(" ", "T") + "Z"),
        headers=tuple((name, value.format(unix=int(resets_at))) for name, value in found.headers),
    )


def _at(moment: float, zone: timezone) -> str:
    return f"{datetime.fromtimestamp(moment, zone):%Y-%m-%d %H:%M:%S}"


def _zai(status: int, code: str, text: str, kind: str = "rate_limit_error") -> Scenario:
    return error(status, kind, f"[{code}][{text}][2026083118194100000000000000]", error_code=code)


_ANTHROPIC: Mapping[Refusal, Scenario] = {
    "concurrency": error(429, message="Number of concurrent connections has exceeded your rate limit. Please try again later."),
    "rate": error(429, message="This request would exceed your account's rate limit.", headers=(("retry-after", "5"),)),
    "overload": error(529, message="Overloaded"),
    "window": error(
        429,
        message="This request would exceed your account's rate limit. Please try again later.",
        headers=(
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-reset", "{unix}"),
        ),
    ),
    "account": error(400, message="Your credit balance is too low to access the Anthropic API."),
    "auth": error(401, message="invalid x-api-key"),
}
_ZAI: Mapping[Refusal, Scenario] = {
    "concurrency": _zai(429, "1302", "High concurrency usage of this API, please reduce concurrency"),
    "rate": _zai(429, "1303", "High frequency usage of this API, please reduce frequency"),
    "overload": _zai(529, "1305", "The service may be temporarily overloaded, please try again later", "overloaded_error"),
    "window": _zai(429, "1308", "Usage limit reached for 5 hour. Your limit will reset at {beijing}"),
    "account": _zai(429, "1113", "Insufficient balance or no resource package. Please recharge."),
    "auth": _zai(401, "1002", "Authorization token is invalid", "authentication_error"),
}
_MOONSHOT: Mapping[Refusal, Scenario] = {
    "concurrency": error(
        429, "rate_limit_reached_error", "request reached max organization concurrency: 1, please try again after 1 seconds"
    ),
    "rate": error(429, "rate_limit_reached_error", "request reached organization max RPM: 3, please try again after 1 seconds"),
    "overload": error(429, "engine_overloaded_error", "The engine is currently overloaded, please try again later"),
    "window": error(429, "rate_limit_reached_error", "request reached organization TPD rate limit"),
    "account": error(403, "exceeded_current_quota_error", "Your account has run out of balance"),
    "auth": error(401, "invalid_authentication_error", "Invalid Authentication"),
}
_KIMI: Mapping[Refusal, Scenario] = {
    **_MOONSHOT,
    "concurrency": error(403, "permission_error", "You've reached your concurrent request limit."),
    "rate": error(429, "rate_limit_error", "We're receiving too many requests at the moment."),
    "window": error(403, "permission_error", "You've reached your usage limit for this billing cycle."),
    "account": error(402, "billing_error", "We're unable to verify your membership benefits."),
}
_MINIMAX: Mapping[Refusal, Scenario] = {
    "concurrency": error(429, "rate_limit_error", "conn limit (1041)"),
    "rate": error(429, "rate_limit_error", "rate limit (1002)"),
    "window": error(429, "rate_limit_error", "usage limit exceeded, resets at {iso} (2056)"),
    "account": error(429, "rate_limit_error", "insufficient balance (1008)"),
    "auth": error(401, "authentication_error", "invalid api key (2049)"),
}
_DEEPSEEK: Mapping[Refusal, Scenario] = {
    "concurrency": error(429, "rate_limit_error", "Rate Limit Reached"),
    "rate": error(429, "rate_limit_error", "Rate Limit Reached"),
    "overload": error(503, "api_error", "Server Overloaded"),
    "window": error(429, "rate_limit_error", "Rate Limit Reached"),
    "account": error(402, "unknown_error", "Insufficient Balance"),
}
_OPENROUTER: Mapping[Refusal, Scenario] = {
    "concurrency": error(429, "api_error", "Rate limit exceeded", error_code="429"),
    "rate": error(429, "api_error", "Rate limit exceeded", error_code="429"),
    "overload": error(503, "api_error", "No instances available", error_code="503"),
    "window": error(429, "api_error", "Rate limit exceeded: free-models-per-day.", error_code="429"),
    "account": error(402, "api_error", "Insufficient credits", error_code="402"),
    "auth": error(401, "api_error", "No auth credentials found", error_code="401"),
}
_PROVIDERS: Mapping[str, Mapping[Refusal, Scenario]] = {
    "zai": _ZAI,
    "bigmodel": _ZAI,
    "moonshot": _MOONSHOT,
    "kimi": _KIMI,
    "minimax": _MINIMAX,
    "deepseek": _DEEPSEEK,
    "openrouter": _OPENROUTER,
}
