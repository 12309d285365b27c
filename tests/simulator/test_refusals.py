"""Each provider's refusals are read by the proxy as what they are meant to be."""

import pytest

from claude_proxy.protocol.providers import PROVIDERS, Class, Provider
from claude_proxy.protocol.providers.generic import STATUSES
from claude_proxy.protocol.ruling import rule
from claude_proxy.protocol.usage import ErrorBody
from claude_proxy.simulator import REFUSALS, Refusal, Scenario, refusal

NOW = 1_788_000_000.0
RESET = NOW + 3600
MEANT = {
    "concurrency": Class.CONCURRENCY,
    "rate": Class.RATE,
    "overload": Class.OVERLOAD,
    "window": Class.STOP_UNTIL,
    "account": Class.ACCOUNT,
    "auth": Class.AUTH,
    "server": Class.SERVER,
}
UNTOLD = {("deepseek", "concurrency"), ("deepseek", "window"), ("openrouter", "concurrency")}  # a plain 429, whatever it is for
STATES_NO_RESET = {"moonshot", "kimi", "deepseek", "openrouter"}
SPOKEN = ("zai", "bigmodel", "anthropic", "moonshot", "kimi", "deepseek", "minimax", "openrouter")
known = pytest.mark.parametrize("provider", [one for one in PROVIDERS if one.name in SPOKEN], ids=lambda one: one.name)
kinds = pytest.mark.parametrize("kind", REFUSALS)


def read(scenario: Scenario) -> ErrorBody:
    return ErrorBody(scenario.error_type or TYPES[scenario.status], scenario.message, scenario.error_code)


TYPES = {**STATUSES, 500: "api_error"}


@known
@kinds
def test_a_refusal_is_ruled_as_its_kind(provider: Provider, kind: Refusal) -> None:
    scenario = refusal(kind, provider.name, RESET)
    headers = {name.encode(): value.encode() for name, value in scenario.headers}
    ruling = rule(scenario.status, read(scenario), provider=provider, headers=headers, now=NOW)
    assert ruling is not None
    assert ruling.group is (Class.RATE if (provider.name, kind) in UNTOLD else MEANT[kind])
    assert ruling.resets_at == (RESET if kind == "window" and provider.name not in STATES_NO_RESET else None)
    assert ruling.account_dead is (kind in ("account", "auth"))


@kinds
def test_a_provider_without_an_entry_refuses_as_anthropic_does(kind: Refusal) -> None:
    assert refusal(kind, "vllm", RESET) == refusal(kind, "anthropic", RESET)
