"""z.ai's quota answers, old and new, and those that nobody has seen yet."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.ledger.prices.quota import MICRO, Meter, Quota, QuotaUnreadable, parse

RESET = 1_781_448_954_156


def answer(*limits: Any, **data: Any) -> bytes:
    return json.dumps({"code": 200, "success": True, "msg": "ok", "data": {"limits": list(limits), **data}}).encode()


def tokens(percentage: float = 22, **fields: Any) -> dict[str, Any]:
    return {"type": "TOKENS_LIMIT", "unit": 3, "number": 5, "percentage": percentage, "nextResetTime": RESET, **fields}


def credit(usage: Any = 12_000, current: Any = 1438, remaining: Any = 10_562, **fields: Any) -> dict[str, Any]:
    amounts = {"usage": usage, "currentValue": current, "remaining": remaining, "percentage": 11}
    return {"type": "CREDIT_LIMIT", "unit": 3, "number": 5, **amounts, "nextResetTime": RESET, **fields}


TOOLS = {"type": "TIME_LIMIT", "unit": 5, "number": 1, "usage": 100, "currentValue": 19, "remaining": 81, "percentage": 19}


def test_a_plan_of_before_says_a_percentage() -> None:
    found = parse(answer(tokens(), TOOLS, level="pro"))
    assert (found.level, found.in_credits) == ("pro", False)
    assert [(one.name, one.meter, one.ratio, one.allowance, one.used, one.left) for one in found.plan] == [
        ("5h", Meter.TOKENS, 0.22, None, None, None)
    ]
    assert found.plan[0].resets_at == RESET / 1000
    assert found.plan[0].started == RESET / 1000 - 5 * 3600


def test_a_plan_of_today_says_credits_and_the_ratio_comes_from_them() -> None:
    """The percentage is floored: 1438 of 12,000 says 11."""
    found = parse(answer(credit()))
    five = found.window("5h")
    assert five is not None
    assert found.in_credits
    assert (five.allowance, five.used, five.left) == (12_000 * MICRO, 1438 * MICRO, 10_562 * MICRO)
    assert five.ratio == pytest.approx(1438 / 12_000)


def test_where_both_are_there_credits_count() -> None:
    found = parse(answer(tokens(), credit(), TOOLS, tokens(unit=6, number=1)))
    assert [one.meter for one in found.plan] == [Meter.CREDITS]
    assert [one.meter for one in found.windows] == [Meter.TOKENS, Meter.CREDITS, Meter.TOOL_CALLS, Meter.TOKENS]


@pytest.mark.parametrize("limits", [[], [TOOLS], [{"type": "PROMPTS_LIMIT", "unit": 3, "number": 5}], [{}], ["x", None, 3]])
def test_where_neither_is_there_the_plan_has_no_windows(limits: list[Any]) -> None:
    found = parse(answer(*limits))
    assert (found.plan, found.in_credits, found.window("5h")) == ((), False, None)


def test_a_type_that_is_not_known_is_kept_and_not_counted() -> None:
    found = parse(answer({**credit(), "type": "PROMPTS_LIMIT"}, credit()))
    assert [(one.type, one.meter) for one in found.windows] == [
        ("PROMPTS_LIMIT", Meter.OTHER),
        ("CREDIT_LIMIT", Meter.CREDITS),
    ]
    assert len(found.plan) == 1


@pytest.mark.parametrize(
    ("unit", "number", "name", "seconds"),
    [
        (3, 5, "5h", 5 * 3600),
        (3, 24, "24h", 24 * 3600),
        (6, 1, "week", 7 * 86_400),
        (6, 2, "2 weeks", 14 * 86_400),
        (5, 1, "month", None),
        (5, None, "month", None),
        (9, 2, "unit 9 x 2", None),
        ("h", 5, "unit h x 5", None),
        (None, None, "unit None x None", None),
        (True, True, "unit True x True", None),
        (3, -5, "-5h", None),
    ],
)
def test_a_window_is_told_by_its_unit(unit: Any, number: Any, name: str, seconds: int | None) -> None:
    (found,) = parse(answer(credit(unit=unit, number=number))).windows
    assert (found.name, found.seconds) == (name, seconds)


def test_windows_are_not_told_by_their_order_or_reset() -> None:
    """Shortly before the week ends, its reset comes before that of the five hours."""
    week = credit(60_000, 50_000, 10_000, unit=6, number=1, nextResetTime=RESET - 3_600_000)
    for limits in ([week, credit()], [credit(), week]):
        found = parse(answer(*limits))
        windows = found.window("week"), found.window("5h")
        assert [one and one.allowance for one in windows] == [60_000 * MICRO, 12_000 * MICRO]
        assert [one and one.resets_at for one in windows] == [RESET / 1000 - 3600, RESET / 1000]


@pytest.mark.parametrize("reset", [None, "", "soon", 0, -1, True, [], 1e300])
def test_a_reset_may_be_missing(reset: Any) -> None:
    (found,) = parse(answer(credit(nextResetTime=reset))).windows
    assert (found.resets_at, found.started) == (None, None)
    assert found.used == 1438 * MICRO


@pytest.mark.parametrize(
    ("amounts", "found"),
    [
        ((12_000, 1438, 10_562), (12_000, 1438, 10_562)),
        ((12_000, None, 10_562), (12_000, 1438, 10_562)),
        ((12_000, 1438, None), (12_000, 1438, 10_562)),
        ((12_000, None, None), (12_000, None, None)),
        ((12_000, 12_500, 0), (12_000, 12_500, 0)),
        ((12_000, 12_500, None), (12_000, 12_500, 0)),
        ((12_000, None, 13_000), (12_000, 0, 13_000)),
        ((None, 1438, 10_562), (None, 1438, None)),
        ((0, 0, 0), (None, 0, None)),
        (("12000", "1438", "10562"), (12_000, 1438, 10_562)),
        ((12_000.0, 1438.5, 10_561.5), (12_000, 1438.5, 10_561.5)),
        ((12_000, -5, 10_562), (12_000, 1438, 10_562)),
        ((12_000, "NaN", True), (12_000, None, None)),
        (([], {}, "1e999999999"), (None, None, None)),
    ],
)
def test_amounts_are_worked_out_of_what_is_there(amounts: tuple[Any, Any, Any], found: tuple[Any, Any, Any]) -> None:
    (one,) = parse(answer(credit(*amounts))).windows
    in_micro = tuple(None if amount is None else round(amount * MICRO) for amount in found)
    assert (one.allowance, one.used, one.left) == in_micro


@pytest.mark.parametrize(("percentage", "ratio"), [(22, 0.22), (0, 0.0), (100, 1.0), ("22", 0.22), (None, None), ("?", None)])
def test_without_amounts_the_percentage_counts(percentage: Any, ratio: float | None) -> None:
    (found,) = parse(answer(tokens(percentage))).windows
    assert found.ratio == ratio


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "not JSON"),
        (b"<html>502</html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no data.limits"),
        (b"{}", "no data.limits"),
        (b'{"code":200,"data":null}', "no data.limits"),
        (b'{"code":200,"data":{"limits":null}}', "no data.limits"),
        (b'{"code":401,"msg":"token expired","success":false}', "token expired"),
        (b'{"code":1001,"msg":"a\\u001b[31m","data":{"limits":[]}}', "a [31m"),
        (b'{"success":false,"data":{"limits":[]}}', "no data.limits"),
        (b" " * 300_000, "more than"),
    ],
)
def test_what_is_no_quota_says_so(given: bytes, words: str) -> None:
    with pytest.raises(QuotaUnreadable) as caught:
        parse(given)
    assert words in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["type", "unit", "number", "usage", "currentValue", "remaining", "percentage", "nextResetTime"])


@given(st.dictionaries(FIELDS, JSON), JSON)
def test_a_row_of_any_shape_hides_no_other(row: dict[str, Any], level: Any) -> None:
    found = parse(answer(row, credit(), level=level))
    assert isinstance(found, Quota)
    assert found.windows[-1].used == 1438 * MICRO
    assert all(len(one.name) < 60 and len(one.type) <= 40 for one in found.windows)
