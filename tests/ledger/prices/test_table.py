"""The packaged table: every price, to the nano-dollar, at its boundaries."""

from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices import Prices, Provenance, load
from claude_proxy.ledger.prices.read import parse
from claude_proxy.protocol.providers import find

NOW = datetime.fromisoformat("2026-11-28T12:00:00+00:00").timestamp()  # a Saturday: off-peak everywhere
PRICES = load().prices
MTOK = 1_000_000

# Dollars per million tokens: input, output, cache read, five-minute write, one-hour write.
ROWS = {
    ("anthropic", "claude-fable-5-2"): "8 40 .20 10 16",
    ("anthropic", "claude-mythos-5-2"): "8 40 .20 10 16",
    ("anthropic", "claude-fable-5-1"): "10 50 .25 12.5 20",
    ("anthropic", "claude-fable-5"): "10 50 1 12.5 20",
    ("anthropic", "claude-opus-5-5"): "4 20 .20 5 8",
    ("anthropic", "claude-opus-5"): "5 25 .50 6.25 10",
    ("anthropic", "claude-opus-4-8"): "5 25 .50 6.25 10",
    ("anthropic", "claude-opus-4-7"): "5 25 .50 6.25 10",
    ("anthropic", "claude-opus-4-6"): "5 25 .50 6.25 10",
    ("anthropic", "claude-opus-4-5"): "5 25 .50 6.25 10",
    ("anthropic", "claude-sonnet-5-5"): "2 10 .10 2.5 4",
    ("anthropic", "claude-sonnet-5"): "2 10 .20 2.5 4",
    ("anthropic", "claude-sonnet-4-6"): "3 15 .30 3.75 6",
    ("anthropic", "claude-sonnet-4-5"): "3 15 .30 3.75 6",
    ("anthropic", "claude-haiku-4-5"): "1 5 .10 1.25 2",
    ("zai", "glm-5.3"): "1.40 4.40 .26 0 0",
    ("zai", "glm-5.2"): "1.40 4.40 .26 0 0",
    ("zai", "glm-5.1"): "1.40 4.40 .26 0 0",
    ("zai", "glm-5.3-flash"): ".15 .50 .03 0 0",
    ("zai", "glm-5-turbo"): "1.20 4 .24 0 0",
    ("zai", "glm-5"): "1 3.20 .20 0 0",
    ("zai", "glm-4.7"): ".60 2.20 .11 0 0",
    ("zai", "glm-4.6"): ".60 2.20 .11 0 0",
    ("zai", "glm-4.5"): ".60 2.20 .11 0 0",
    ("zai", "glm-4.5-air"): ".20 1.10 .03 0 0",
    ("zai", "glm-4.7-flash"): "0 0 0 0 0",
    ("moonshot", "kimi-k3"): "3 15 .30 3 6",
    ("moonshot", "kimi-k2.6"): ".95 4 .16 .95 .95",
    ("minimax", "MiniMax-M2.7"): ".30 1.20 .06 .375 .375",
    ("deepseek", "deepseek-v4-pro"): ".66 1.98 .022 .66 .66",
    ("deepseek", "deepseek-v4-flash"): ".15 .60 .003 .15 .15",
}
ANTHROPIC = [model for provider, model in ROWS if provider == "anthropic"] + ["claude-haiku-5-5"]


def nano(usage: Usage, provider: str, model: str, at: float = NOW) -> int | None:
    return PRICES.cost(usage, provider, model, at).nano_dollars


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize(("provider", "model"), ROWS)
@pytest.mark.parametrize("count", [1, 7, MTOK])
def test_each_kind_of_token_has_its_price(provider: str, model: str, count: int) -> None:
    kinds = [
        Usage(input=count),
        Usage(output=count),
        Usage(cache_read=count),
        Usage(cache_write=count),
        Usage(cache_write=count, cache_write_5m=0, cache_write_1h=count),
    ]
    wanted = [round(Decimal(rate) * count * 1000) for rate in ROWS[provider, model].split()]  # nano-dollars
    assert [nano(usage, provider, model) for usage in kinds] == wanted


def test_all_together_are_the_sum_of_the_parts() -> None:
    usage = Usage(1000, 2000, 30_000, 500, 400, 100)
    found = PRICES.cost(usage, "anthropic", "claude-opus-5-5", NOW)
    assert found.nano_dollars == 1000 * 4000 + 2000 * 20_000 + 30_000 * 200 + 400 * 5000 + 100 * 8000
    assert found.provenance is Provenance.COMPUTED
    assert found.price_id is not None
    assert found.price_id.startswith("anthropic/claude-opus-5-5.")


@pytest.mark.parametrize(
    ("usage", "hour"),
    [
        (Usage(cache_write=100), 0),
        (Usage(cache_write=100, cache_write_5m=100, cache_write_1h=0), 0),
        (Usage(cache_write=100, cache_write_1h=40), 40),
        (Usage(cache_write=100, cache_write_5m=30, cache_write_1h=40), 40),
        (Usage(cache_write=100, cache_write_1h=400), 100),
        (Usage(cache_write_5m=60, cache_write_1h=40), 40),
        (Usage(cache_write=0, cache_write_5m=60, cache_write_1h=40), 40),
    ],
)
def test_writes_without_a_lifetime_are_five_minute_writes(usage: Usage, hour: int) -> None:
    assert nano(usage, "anthropic", "claude-sonnet-5") == (100 - hour) * 2500 + hour * 4000


@pytest.mark.parametrize(
    ("provider", "model", "above", "factor"),
    [("anthropic", "claude-haiku-5-5", 100_000, 5), ("minimax", "MiniMax-M3", 512_000, 2)],
)
def test_a_long_prompt_multiplies_every_rate(provider: str, model: str, above: int, factor: int) -> None:
    """Input, reads and writes make the prompt, the output does not; and then all of it is dearer, from the first token on."""
    part = above // 4
    at_most = Usage(above - 3 * part, 999_999, part, 2 * part, part, part)
    over = Usage(above - 3 * part + 1, 999_999, part, 2 * part, part, part)
    base, long = nano(at_most, provider, model), nano(over, provider, model)
    one_more = nano(Usage(1), provider, model)
    assert base is not None
    assert one_more is not None
    assert long == factor * (base + one_more)
    output = nano(Usage(0, MTOK), provider, model)
    assert output is not None
    for prompt in (Usage(above + 1), Usage(cache_read=above + 1), Usage(cache_write=above + 1, cache_write_1h=above)):
        alone = nano(prompt, provider, model)
        prompt.output = MTOK
        assert alone is not None
        assert nano(prompt, provider, model) == alone + factor * output


def test_haiku_55_has_its_two_prices() -> None:
    for rates, prompt in ((".10 .50 .01 .125 .20", 100_000), (".50 2.50 .05 .625 1.00", 100_001)):
        cost = [Decimal(rate) * 1000 for rate in rates.split()]
        counts = Usage(prompt, 10, 0, 0), Usage(0, 10, prompt, 0), Usage(0, 10, 0, prompt), Usage(0, 10, 0, prompt, 0, prompt)
        wanted = [cost[kind] * prompt + cost[1] * 10 for kind in (0, 2, 3, 4)]
        assert [nano(usage, "anthropic", "claude-haiku-5-5") for usage in counts] == wanted


@pytest.mark.parametrize(
    ("model", "factor"),
    [
        ("claude-fable-5-2", 2),
        ("claude-mythos-5-2", 2),
        ("claude-opus-5-5", 2),
        ("claude-opus-5", 2),
        ("claude-opus-4-8", 2),
        ("claude-opus-4-7", 6),
        ("claude-opus-4-6", 6),
    ],
)
def test_fast_mode_multiplies_tokens(model: str, factor: int) -> None:
    usage, fast = Usage(1000, 2000, 30_000, 500, speed="standard"), Usage(1000, 2000, 30_000, 500, speed="fast")
    plain = nano(usage, "anthropic", model)
    assert plain is not None
    assert nano(fast, "anthropic", model) == factor * plain


@pytest.mark.parametrize("speed", ["fast", "faster"])
def test_a_speed_without_a_known_price_is_unpriced(speed: str) -> None:
    assert nano(Usage(1, 1, speed=speed), "anthropic", "claude-sonnet-5-5") is None
    assert nano(Usage(1, 1, speed=speed), "zai", "glm-5.3") is None
    assert nano(Usage(1, 1, speed="faster"), "anthropic", "claude-opus-5-5") is None


@pytest.mark.parametrize("model", ANTHROPIC)
@pytest.mark.parametrize(("geo", "factor"), [("us", Fraction(11, 10)), ("global", 1), ("not_available", 1), ("", 1), (None, 1)])
def test_the_geography_multiplies_tokens_but_not_searches(model: str, geo: str | None, factor: Fraction) -> None:
    plain = nano(Usage(1001, 13, 17, 19), "anthropic", model)
    assert plain is not None
    found = nano(Usage(1001, 13, 17, 19, web_searches=3, inference_geo=geo), "anthropic", model)
    assert found == round(plain * factor) + 3 * 10_000_000


def test_factors_multiply_one_another() -> None:
    usage = Usage(1000, speed="fast", inference_geo="us")
    assert nano(usage, "anthropic", "claude-opus-5-5") == 8_800_000


def test_searches_cost_a_cent_and_fetches_nothing() -> None:
    assert nano(Usage(0, 0, web_searches=1, web_fetches=50), "anthropic", "claude-opus-5-5") == 10_000_000
    assert nano(Usage(0, 0, web_searches=1000), "anthropic", "claude-haiku-5-5") == 10 * 10**9


def test_searches_of_a_provider_without_a_price_for_them_are_unpriced() -> None:
    assert nano(Usage(1, 1, web_searches=1), "zai", "glm-5.3") is None
    assert nano(Usage(1, 1, web_searches=0), "zai", "glm-5.3") is not None


@pytest.mark.parametrize("tier", ["standard", "priority", "batch", None])
def test_the_service_tier_changes_nothing(tier: str | None) -> None:
    """A batch's results are not booked, and what a commitment costs stands in no list."""
    assert nano(Usage(1000, service_tier=tier), "anthropic", "claude-opus-5-5") == 4_000_000


@pytest.mark.parametrize(
    ("moment", "factor"),
    [
        ("2026-11-27T00:59:59.999+00:00", 1),  # a Friday
        ("2026-11-27T01:00:00+00:00", 2),
        ("2026-11-27T03:59:59.999+00:00", 2),
        ("2026-11-27T04:00:00+00:00", 1),
        ("2026-11-27T05:59:59+00:00", 1),
        ("2026-11-27T06:00:00+00:00", 2),
        ("2026-11-27T09:59:59+00:00", 2),
        ("2026-11-27T10:00:00+00:00", 1),
        ("2026-11-28T02:00:00+00:00", 1),  # Saturday
        ("2026-11-29T07:00:00+00:00", 1),  # Sunday
        ("2026-11-30T07:00:00+00:00", 2),  # Monday
        ("2026-10-01T02:00:00+00:00", 1),  # a Thursday, and China's national day
        ("2026-10-08T02:00:00+00:00", 2),  # the first working day after it
        ("2026-10-10T02:00:00+00:00", 1),  # a Saturday that is worked: off-peak all the same
        ("2026-11-27T09:30:00+08:00", 2),
    ],
)
@pytest.mark.parametrize("model", ["deepseek-v4-pro", "deepseek-v4-flash", "deepseek-flash"])
def test_deepseek_doubles_its_prices_in_peak_hours(model: str, moment: str, factor: int) -> None:
    quiet = nano(Usage(1000, 1000, 1000), "deepseek", model)
    assert quiet is not None
    assert nano(Usage(1000, 1000, 1000), "deepseek", model, at(moment)) == factor * quiet


def test_the_price_in_force_when_it_was_sent_counts() -> None:
    """z.ai's launch promotion ended at midnight of UTC+8; DeepSeek's prices begin when we know them."""
    ends = at("2026-09-10T00:00:00+08:00")
    prices = [PRICES.cost(Usage(1000), "zai", "glm-5.3-flash", moment) for moment in (ends - 0.001, ends)]
    assert [price.nano_dollars for price in prices] == [75_000, 150_000]
    assert prices[0].price_id != prices[1].price_id
    assert "@2026-09-09" in str(prices[1].price_id)
    begins = at("2026-08-16T16:00:00+00:00")
    assert nano(Usage(1000), "deepseek", "deepseek-v4-pro", begins - 0.001) is None
    assert nano(Usage(1000), "deepseek", "deepseek-v4-pro", begins) == 660_000


@pytest.mark.parametrize(
    "model",
    ["claude-haiku-4-5-20251001", "claude-haiku-4-5@20251001", "Claude-Haiku-4-5", "CLAUDE-HAIKU-4-5-20251001"],
)
def test_a_dated_snapshot_costs_what_its_model_costs(model: str) -> None:
    assert nano(Usage(1000), "anthropic", model) == 1_000_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("zai", "glm-5.4"),
        ("zai", "glm-5.3-turbo"),
        ("zai", "glm-5.30"),
        ("zai", "glm-5.3-"),
        ("zai", "glm"),
        ("zai", ""),
        ("zai", "claude-opus-5-5"),
        ("anthropic", "glm-5.3"),
        ("anthropic", "claude-opus-5-5-fast"),
        ("anthropic", "claude-opus-5-5[1m]"),
        ("anthropic", "claude-opus-5-5-2026"),
        ("anthropic", "claude-opus-5-5-202610010"),
        ("anthropic", "claude-opus-5-5-20251001-20251001"),
        ("anthropic", "claude-haiku-4-5\u0662\u0660"),
        ("anthropic", "claude-opus-5-6"),
        ("anthropic", "claude-opus"),
        ("anthropic", None),
        ("openrouter", "claude-opus-5-5"),
        (None, "claude-opus-5-5"),
    ],
)
def test_what_is_not_known_is_unpriced_and_never_nothing(provider: str | None, model: str | None) -> None:
    found = PRICES.cost(Usage(1000, 1000), provider, model, NOW)
    assert found == (None, None, Provenance.UNPRICED)


def test_an_exchange_without_usage_is_unpriced_and_one_without_tokens_costs_nothing() -> None:
    assert PRICES.cost(None, "zai", "glm-5.3", NOW).provenance is Provenance.UNPRICED
    assert nano(Usage(0, 0), "zai", "glm-5.3") == 0
    assert nano(Usage(1000, 1000), "zai", "glm-4.7-flash") == 0


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.anthropic.com", "anthropic"),
        ("API.Anthropic.com", "anthropic"),
        ("api.anthropic.com.", "anthropic"),
        ("api.z.ai", "zai"),
        ("api.moonshot.ai", "moonshot"),
        ("api.kimi.com", None),
        ("api.minimax.io", "minimax"),
        ("api.deepseek.com", "deepseek"),
        ("open.bigmodel.cn", None),
        ("api.moonshot.cn", None),
        ("z.ai", None),
        ("evil-api.z.ai", None),
        ("api.z.ai.evil", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_the_host_names_the_provider(host: str, provider: str | None) -> None:
    """In mainland China other prices hold, in another currency; Kimi Code sells plans only."""
    assert PRICES.provider_of(host) == provider


def test_providers_have_the_names_that_the_other_rooms_know() -> None:
    """And the same hosts; but of a provider's hosts, those that bill in dollars."""
    assert {host: find(host).name for host in PRICES.rows.hosts} == PRICES.rows.hosts


@given(
    st.builds(
        Usage,
        *[st.integers(0, 2**40)] * 6,
        web_searches=st.integers(0, 1000),
        inference_geo=st.sampled_from([None, "us"]),
        speed=st.sampled_from([None, "standard", "fast"]),
    ),
    st.sampled_from(["claude-opus-5-5", "claude-opus-4-6"]),
)
def test_costs_are_exact_but_for_one_rounding(usage: Usage, model: str) -> None:
    """Against fractions, with nothing in common with our arithmetic but the table."""
    rates = [Fraction(rate) for rate in ROWS["anthropic", model].split()]
    written = usage.cache_write or (usage.cache_write_5m or 0) + (usage.cache_write_1h or 0)
    hour = min(usage.cache_write_1h or 0, written)
    counts = [usage.input or 0, usage.output or 0, usage.cache_read or 0, written - hour, hour]
    exact = sum(rate * count * 1000 for rate, count in zip(rates, counts, strict=True))
    exact *= Fraction(11, 10) if usage.inference_geo == "us" else 1
    exact *= {"claude-opus-5-5": 2, "claude-opus-4-6": 6}[model] if usage.speed == "fast" else 1
    assert nano(usage, "anthropic", model) == round(exact) + (usage.web_searches or 0) * 10_000_000


@pytest.mark.parametrize(("tokens", "nano_dollars"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_halves_are_rounded_to_even(tokens: int, nano_dollars: int) -> None:
    """Half a nano-dollar a token: the sums of many roundings lean to neither side."""
    own = load_text('[provider.own]\nhosts = ["own"]\n[[price]]\nprovider = "own"\nmodel = "m"\ninput = 0.0005\noutput = 1\n')
    assert own.cost(Usage(tokens), "own", "m", NOW).nano_dollars == nano_dollars


def load_text(text: str) -> Prices:
    return Prices(parse(text))


def test_names_that_clients_make_up_are_not_remembered_without_end() -> None:
    prices = load().prices
    for number in range(5000):
        prices.cost(Usage(1), "zai", f"made-up-{number}", NOW)
        prices.credits(Usage(1), "zai", f"made-up-{number}", NOW)
        prices.provider_of(f"made-up-{number}.example")
    assert max(len(prices._prices), len(prices._rates), len(prices._providers)) <= 1000


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (Usage(0, 0, 0, 10_000), 1000 * (5000 - 200)),
        (Usage(0, 0, 0, 10_000, 0, 10_000), 1000 * (8000 - 200)),
        (Usage(10_000), 1000 * (4000 - 200)),
        (Usage(10_000, speed="fast"), 1000 * (8000 - 400)),
    ],
)
def test_a_broken_cache_costs_the_difference_to_a_read(usage: Usage, wanted: int) -> None:
    assert PRICES.lost(1000, usage, "anthropic", "claude-opus-5-5", NOW) == wanted
    assert PRICES.lost(1000, usage, "anthropic", "unknown", NOW) is None


def test_what_an_unpriced_exchange_lost_has_no_price() -> None:
    assert PRICES.lost(1000, Usage(10_000, speed="faster"), "anthropic", "claude-opus-5-5", NOW) is None


def test_writes_that_are_free_lose_nothing() -> None:
    assert PRICES.lost(1000, Usage(0, 0, 0, 10_000), "zai", "glm-5.3", NOW) == 0
