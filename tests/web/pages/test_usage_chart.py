"""The choices and the bars of *Usage*, without a server."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest

from claude_proxy.ledger import periods
from claude_proxy.ledger.periods import Period
from claude_proxy.web.pages import usage_chart
from claude_proxy.web.pages.usage_chart import MAX_BARS, MODELS, chart, fitting, names
from claude_proxy.web.pages.usage_choice import GROUPS, Choice
from claude_proxy.web.texts import text

DAY = 86_400.0
NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
SEOUL = periods.zone("Asia/Seoul")


def say(key: str, **values: object) -> str:
    """A text in English."""
    return text("en", key, **values)


def part(model: str | None, cost: float | None, exchanges: int = 1) -> dict[str, Any]:
    """The sums of one model in a group."""
    return {"model": model, "cost_usd": cost, "exchanges": exchanges}


def group(key: str, *parts: dict[str, Any]) -> dict[str, Any]:
    """A group with its breakdown."""
    tokens = dict.fromkeys(usage_chart.KINDS.values(), 7)
    return {"key": key, "breakdown": list(parts), **tokens}


def days(count: int) -> list[periods.Span]:
    """The last days of Seoul."""
    return periods.spans("day", periods.quarter(NOW - (count - 1) * DAY), periods.quarter_after(NOW), SEOUL)


def test_a_query_is_a_choice_and_a_choice_is_a_query() -> None:
    query = {"since": "30d", "until": "yesterday", "period": "week", "by": "session", "measure": "tokens"}
    choice = Choice.of({**query, "timezone": "Asia/Seoul", "model": "glm-5.3", "agent": ""}, "UTC")
    assert choice == Choice("30d", "yesterday", "week", "session", "tokens", "Asia/Seoul", {"model": "glm-5.3", "agent": ""})
    assert Choice.of(dict(parse_qsl(choice.query(), keep_blank_values=True)), "UTC") == choice


@pytest.mark.parametrize("key", ["period", "by", "measure", "timezone", "unheard-of"])
@pytest.mark.parametrize("value", ["", "nonsense", "<script>", "../etc/passwd", "x" * 5000])
def test_what_is_not_known_is_left_out(key: str, value: str) -> None:
    assert Choice.of({key: value}, "Asia/Seoul") == Choice(timezone="Asia/Seoul")


@pytest.mark.parametrize(
    ("since", "period"), [("24h", "hour"), ("7d", "day"), ("30d", "day"), ("90d", "week"), ("366d", "month"), ("5d", "day")]
)
def test_each_time_has_its_usual_period(since: str, period: str) -> None:
    choice = Choice.of({"since": since}, "UTC")
    assert choice.period == period
    assert "period" not in parse_qs(choice.query()), "so that another time gets its own"


def test_filters_are_added_and_removed() -> None:
    choice = Choice(filters={"model": "a&b=c"})
    assert parse_qs(choice.query(session="s 1")) == parse_qs(choice.query()) | {"session": ["s 1"]}
    assert parse_qs(choice.query())["model"] == ["a&b=c"]
    assert "model" not in parse_qs(choice.without("model"))
    assert choice.fields() == {"timezone": "UTC", "model": "a&b=c"}


@pytest.mark.parametrize("file", ["csv", "json"])
@pytest.mark.parametrize("by", GROUPS)
def test_a_file_has_the_same_numbers(file: str, by: Any) -> None:
    choice = Choice("30d", "yesterday", by=by, timezone="Asia/Seoul", filters={"project": "tools"})
    wanted = {"by": by, "since": "30d", "until": "yesterday", "timezone": "Asia/Seoul", "project": "tools", "format": file}
    assert dict(parse_qsl(choice.api(file))) == wanted


@pytest.mark.parametrize(
    ("period", "span", "fits"),
    [
        ("hour", 2, "hour"),
        ("hour", 30, "day"),
        ("hour", 400, "week"),
        ("day", 199, "day"),
        ("day", 366, "week"),
        ("month", 5000, "month"),
    ],
)
def test_a_period_that_has_too_many_bars_gives_way_to_the_next(period: Period, span: int, fits: Period) -> None:
    assert fitting(period, NOW - span * DAY, NOW, SEOUL) == fits
    first, last = periods.quarter(NOW - span * DAY), periods.quarter_after(NOW)
    assert len(periods.spans(fits, first, last, SEOUL)) <= MAX_BARS


def test_more_than_months_have_room_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a shorter time"):
        fitting("hour", 0.0, NOW, SEOUL)


def test_a_day_without_anything_has_its_place() -> None:
    spans = days(4)
    found = chart("cost", "day", spans, [group(spans[1].key, part("a", 2.0))], say)
    assert found["names"] == ["09-18", "09-19", "09-20", "09-21"]
    assert found["labels"] == ["a"]
    assert found["rows"] == [[None], [2.0], [None], [None]]


def test_what_has_no_price_is_never_zero() -> None:
    spans = days(2)
    groups = [group(spans[0].key, part("a", 2.0), part("unpriced", None)), group(spans[1].key, part("unpriced", None))]
    found = chart("cost", "day", spans, groups, say)
    assert (found["labels"], found["rows"]) == (["a"], [[2.0], [None]])
    alone = chart("cost", "day", spans, groups[1:], say)
    assert alone["labels"] == [], "there is nothing to draw"
    requests = chart("exchanges", "day", spans, groups, say)
    assert (requests["labels"], requests["rows"]) == (["unpriced", "a"], [[1, 1], [1, None]])


@pytest.mark.parametrize("count", [1, MODELS, MODELS + 1, MODELS + 2, 40])
def test_the_dearest_models_have_colours_and_nothing_is_left_out(count: int) -> None:
    spans = days(1)
    parts = [part(f"m{at:02}", float(at + 1)) for at in range(count)]
    found = chart("cost", "day", spans, [group(spans[0].key, *parts)], say)
    assert len(found["labels"]) == min(count, MODELS + 1), "as many as there are colours"
    assert found["labels"][0] == f"m{count - 1:02}"
    assert (found["labels"][-1] == "others") == (count > MODELS + 1)
    assert sum(found["rows"][0]) == sum(one["cost_usd"] for one in parts)


def test_tokens_are_stacked_by_kind() -> None:
    spans = days(2)
    found = chart("tokens", "day", spans, [group(spans[0].key)], say)
    assert found["labels"] == ["Cache read", "Cache write", "Input", "Output"]
    assert found["rows"] == [[7, 7, 7, 7], [None] * 4]


@pytest.mark.parametrize(
    ("period", "span", "wanted"),
    [
        ("hour", 0.25, ["17:00", "23:00"]),
        ("hour", 2, ["09-19 23:00", "09-21 23:00"]),
        ("day", 3, ["09-18", "09-21"]),
        ("week", 9, ["09-07", "09-21"]),
        ("month", 70, ["2026-07", "2026-09"]),
    ],
)
def test_bars_have_short_names(period: Period, span: float, wanted: list[str]) -> None:
    spans = periods.spans(period, periods.quarter(NOW - span * DAY), periods.quarter_after(NOW), SEOUL)
    found = names(period, spans)
    assert [found[0], found[-1]] == wanted
    assert datetime.fromtimestamp(NOW, SEOUL).hour == 23
