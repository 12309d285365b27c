"""`make prices`: nothing that the price packages say differently goes unexplained."""

from decimal import Decimal

import pytest

from claude_proxy.ledger.prices.read import parse
from tools.prices.__main__ import EXPLAINED, OURS, TABLE, main, row, run

ours, explained = OURS.read_text(encoding="utf-8"), EXPLAINED.read_text(encoding="utf-8")
ROW = '\n[[price]]\nprovider = "zai"\nmodel = "{model}"\ninput = 1\noutput = 2\ncache_read = 0.5\ncache_write_5m = 0\n'


def problems(prices: str = ours, reasons: str = explained) -> list[str]:
    return run(prices, reasons)[1]


def without(text: str, heading: str, *words: str) -> str:
    """The text without the entry under `heading` that contains all the words."""
    entries = text.split(heading)
    kept = [entries[0], *(entry for entry in entries[1:] if not all(word in entry for word in words))]
    assert len(kept) == len(entries) - 1
    return heading.join(kept)


def test_the_packaged_table_is_what_it_writes() -> None:
    table, found = run(ours, explained)
    assert found == []
    assert TABLE.read_text(encoding="utf-8") == table


def test_checking_writes_nothing_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    before = TABLE.stat().st_mtime_ns
    assert main(["--check"]) == 0
    assert TABLE.stat().st_mtime_ns == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("figure", "other", "said"),
    [
        ("input = 4\n", "input = 5\n", "input: ours 5, genai-prices 4"),
        ("output = 20\n", "output = 19\n", "output: ours 19, model-prices 20"),
        ("cache_read = 0.2\n", "", "cache_read: ours 4, genai-prices 0.2"),
        ("cache_write_1h = 8\n", "", "cache_write_1h: ours 5, model-prices 8"),
        ("fast = 2\n", "", "input fast: ours none, genai-prices 8"),
        ("fast = 2\n", "fast = 3\n", "output fast: ours 60, model-prices 40"),
    ],
)
def test_a_figure_that_differs_is_named(figure: str, other: str, said: str) -> None:
    head, name, tail = ours.partition('model = "claude-opus-5-5"\n')
    found = problems(head + name + tail.replace(figure, other, 1))
    assert f"not explained: anthropic/claude-opus-5-5 {said}" in found


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ("", "input above 100000: ours none, genai-prices 0.5"),
        ("tiers = [{above = 100_000, factor = 4}]", "output above 100000: ours 2, model-prices 2.5"),
        ("tiers = [{above = 200_000, factor = 5}]", "input above 200000: ours 0.5, model-prices none"),
    ],
)
def test_a_tier_that_differs_is_named(tiers: str, said: str) -> None:
    found = problems(ours.replace("tiers = [{above = 100_000, factor = 5}]", tiers))
    assert f"not explained: anthropic/claude-haiku-5-5 {said}" in found


def test_without_its_explanation_a_difference_stops_it() -> None:
    found = problems(reasons=without(explained, "[[difference]]", '"claude-sonnet-4-5"'))
    assert "not explained: anthropic/claude-sonnet-4-5 input above 200000: ours none, genai-prices 6" in found
    assert len(found) == 5


def test_an_explanation_for_another_figure_explains_nothing_and_is_stale() -> None:
    found = problems(reasons=explained.replace('"input above 200000" = 6,', '"input above 200000" = 7,'))
    assert "not explained: anthropic/claude-sonnet-4-5 input above 200000: ours none, genai-prices 6" in found
    assert "explained, but no difference: anthropic claude-sonnet-4-5 genai-prices input above 200000 7" in found


def test_a_model_that_no_package_knows_has_to_be_explained() -> None:
    prices = ours + ROW.format(model="glm-99")
    assert problems(prices) == ["known to no package: zai/glm-99"]
    reason = '\n[[left_out]]\nprovider = "zai"\nmodels = ["glm-99"]\nreason = "a test"\n'
    assert problems(prices, explained + reason) == []
    assert problems(ours, explained + reason) == ["explained, but no difference: zai glm-99"]


def test_a_model_on_which_the_packages_agree_is_added() -> None:
    table = parse(run(ours, explained)[0])
    assert ("zai", "glm-4.5-x") in table.prices
    assert ("zai", "glm-4.5-x") not in parse(ours).prices


def test_a_model_can_be_left_out_with_a_reason() -> None:
    reason = '\n[[left_out]]\nprovider = "zai"\nmodels = ["glm-4.5-x"]\nreason = "a test"\n'
    table, found = run(ours, explained + reason)
    assert found == []
    assert ("zai", "glm-4.5-x") not in parse(table).prices


def test_a_provider_with_peak_hours_gets_no_model_added() -> None:
    assert problems(without(ours, "[[price]]", '"deepseek-flash"')) == [
        "peak hours have to be stated by hand: deepseek/deepseek-flash"
    ]


def test_a_row_says_what_it_was_made_from() -> None:
    figures = {"input": "0.1", "output": "0.5", "cache_read": "0.01", "input above 7": "0.2", "output above 7": "1"}
    text = row("zai", "m", {name: Decimal(value) for name, value in figures.items()})
    (price,) = parse('[provider.zai]\nhosts = ["x"]\n' + text).prices["zai", "m"]
    assert price.rates == (100_000, 500_000, 10_000, 100_000, 100_000)
    assert [(tier.above, tier.rates.output) for tier in price.tiers] == [(7, 1_000_000)]
    with pytest.raises(ValueError, match="several factors above 7"):
        row("zai", "m", {name: Decimal(value) for name, value in {**figures, "output above 7": "2"}.items()})
