"""The provider table: found by address, complete in itself, and its times and zones."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Class, Provider, by_name, find, find_at
from claude_proxy.protocol.providers.base import Peak, hours
from claude_proxy.protocol.providers.generic import STATUSES, TYPES

each = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.z.ai/api/anthropic", "zai"),
        ("https://z.ai", "zai"),
        ("https://API.Z.AI.:443/x", "zai"),
        ("https://open.bigmodel.cn/api/anthropic", "bigmodel"),
        ("https://api.anthropic.com", "anthropic"),
        ("api.anthropic.com", "anthropic"),
        ("https://api.moonshot.ai/anthropic", "moonshot"),
        ("https://api.moonshot.cn/anthropic", "moonshot"),
        ("https://api.kimi.com/coding/", "kimi"),
        ("https://api.deepseek.com/anthropic", "deepseek"),
        ("https://api.minimax.io/anthropic", "minimax"),
        ("https://api.minimaxi.com/anthropic", "minimax"),
        ("https://openrouter.ai/api", "openrouter"),
        ("https://api.xiaomimimo.com/anthropic", "xiaomi"),
        ("http://localhost:11434", "ollama"),
        ("http://127.0.0.1:1234", "lmstudio"),
        ("http://[::1]:8080", "llamacpp"),
        ("http://host.docker.internal:8000", "vllm"),
        ("http://localhost:4000", "litellm"),
        ("http://localhost:4001", "generic"),
        ("http://localhost", "generic"),
        ("http://10.1.2.3:8000", "generic"),
        ("https://notz.ai/api", "generic"),
        ("https://z.ai.evil.example", "generic"),
        ("https://api.anthropic.com.evil.example", "generic"),
        ("https://llm.corp.example/v1", "generic"),
        ("http://[::1", "generic"),
        ("http://localhost:99999", "generic"),
        ("default", "generic"),
        ("", "generic"),
    ],
)
def test_a_provider_is_found_by_its_address(url: str, name: str) -> None:
    assert find_at(url).name == name


@each
def test_only_services_that_everyone_knows_are_named_to_strangers(provider: Provider) -> None:
    assert provider.label
    assert provider.public is bool(provider.domains)
    assert provider.public or provider.label in ("upstream", "local server")


def test_names_and_addresses_are_each_ones_own() -> None:
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
    assert all(by_name(provider.name) is provider for provider in PROVIDERS)
    assert by_name("nobody") is by_name(None) is GENERIC
    for one, other in itertools.combinations(PROVIDERS, 2):
        for domain in one.domains:
            assert not other.serves(domain, None)
        for host, port in itertools.product(one.hosts, one.ports):
            assert not other.serves(host, port)


@each
def test_an_entry_is_whole(provider: Provider) -> None:
    assert {word for _, word in provider.patterns} <= provider.codes.keys()
    assert set(provider.models) <= {"FABLE", "OPUS", "SONNET", "HAIKU"}
    known = [*provider.models.values(), *([provider.sample_model] if provider.models else [])]
    assert all(model.lower().startswith(provider.families) for model in known)
    assert provider.concurrency is None or provider.concurrency > 0
    assert provider.quota is None or provider.quota.path.startswith("/")
    assert provider.sources or not (provider.codes or provider.peak or provider.quota)
    assert provider.auth in ("bearer", "x-api-key")


def test_what_a_class_implies() -> None:
    assert {kind for kind in Class if kind.retry} == {Class.CONCURRENCY, Class.RATE, Class.OVERLOAD, Class.SERVER}
    assert {kind for kind in Class if kind.side == "client"} == {Class.CLIENT, Class.AUTH}
    assert set(STATUSES.values()) | {"api_error"} == TYPES.keys()


def test_what_a_queue_and_the_books_need_of_zai() -> None:
    zai = by_name("zai")
    assert zai.concurrency == 2
    assert [provider.name for provider in PROVIDERS if provider.concurrency] == ["zai", "bigmodel"]
    assert zai.quota is not None
    assert (zai.quota.path, zai.quota.auth) == ("/api/monitor/usage/quota/limit", "raw")
    assert zai.credits is not None
    assert zai.credits.rates["glm-5.2"] == zai.credits.rates["glm-5.3"] == (6.9, 1.7, 24)
    assert zai.credits.since.isoformat() == "2026-07-30"


@pytest.mark.parametrize(
    ("name", "moment", "peak"),
    [
        ("zai", "2026-11-23T06:00+00:00", True),  # Monday, 14:00 in Beijing
        ("zai", "2026-11-23T05:59+00:00", False),
        ("zai", "2026-11-23T09:59+00:00", True),
        ("zai", "2026-11-23T10:00+00:00", False),
        ("zai", "2026-11-23T18:30+12:00", True),
        ("zai", "2026-11-22T07:00+00:00", False),  # Sunday
        ("deepseek", "2026-11-23T01:00+00:00", True),
        ("deepseek", "2026-11-23T04:00+00:00", False),
        ("deepseek", "2026-11-23T09:00+00:00", True),
        ("deepseek", "2026-11-28T02:00+00:00", False),  # Saturday
    ],
)
def test_peak_hours(name: str, moment: str, peak: bool) -> None:
    found = by_name(name).peak
    assert found is not None
    assert found.holds(datetime.fromisoformat(moment)) is peak


def test_a_peak_is_on_the_providers_day() -> None:
    monday_in_beijing = Peak(((0, 2),), hours(8), days=(0,))
    assert monday_in_beijing.holds(datetime(2026, 11, 22, 17, 0, tzinfo=UTC))  # still Sunday in UTC


@pytest.mark.parametrize(
    ("name", "message", "at", "assumed"),
    [
        ("zai", "Your limit will reset at 2026-08-31 18:19:41", "2026-08-31T10:19:41+00:00", "UTC+8"),
        ("bigmodel", "reset at 2026-01-01 03:00:00", "2025-12-31T19:00:00+00:00", "UTC+8"),
        ("minimax", "limit reached, resets at 2026-05-15T15:00:00Z (2056)", "2026-05-15T15:00:00+00:00", ""),
        ("anthropic", "You will regain access on 2026-12-01 at 00:00 UTC.", "2026-12-01T00:00:00+00:00", ""),
    ],
)
def test_a_reset_is_read_in_the_providers_zone(name: str, message: str, at: str, assumed: str) -> None:
    found = by_name(name).reset(message)
    assert found is not None
    assert (found.at.isoformat(), found.assumed) == (at, assumed)
    assert found.stated in message


@each
@pytest.mark.parametrize(
    "message", ["", "soon", "reset at 2026-99-31 18:19:41", "resets at 2026-13-15T15:00:00Z", "reset at tomorrow"]
)
def test_a_time_that_is_none_is_no_reset(provider: Provider, message: str) -> None:
    assert provider.reset(message) is None


def test_a_time_at_the_edge_of_the_calendar_is_no_reset() -> None:
    assert by_name("zai").reset("reset at 0001-01-01 00:00:00") is None


def test_generic_is_what_an_unknown_host_gets() -> None:
    assert find("unknown.example", 443) is GENERIC
    assert GENERIC.relays
    assert not GENERIC.codes
