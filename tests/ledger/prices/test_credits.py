"""Plan credits: z.ai's formula, its peak hours, and what follows from the provider's own count."""

from datetime import datetime

import pytest

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices import load
from claude_proxy.ledger.prices.plan import Spent, burn_rate, spent_outside, time_to_empty
from claude_proxy.ledger.prices.quota import MICRO, Meter, Window

PRICES = load().prices
PEAK = "2026-11-27T15:00:00+08:00"  # a Friday
NIGHT = "2026-11-27T03:00:00+08:00"
NOW = 1_800_000_000.0


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize(
    ("model", "a", "b", "c"),
    [
        ("glm-5.3", 6.9, 1.7, 24),
        ("glm-5.2", 6.9, 1.7, 24),
        ("GLM-5.1", 6.9, 1.7, 24),
        ("glm-5-turbo", 5.7, 1.5, 21),
        ("glm-4.7", 4.6, 1.2, 16),
    ],
)
def test_each_kind_of_token_takes_its_credits(model: str, a: float, b: float, c: float) -> None:
    """Ten thousand tokens take the coefficient in credits; writes to the cache are input."""
    counts = Usage(10_000), Usage(0, 0, 10_000), Usage(0, 10_000), Usage(0, 0, 0, 10_000), Usage(0, 0, 0, 0, 4000, 6000)
    wanted = [round(rate * MICRO) for rate in (a, b, c, a, a)]
    assert [PRICES.credits(usage, "zai", model, at(PEAK)) for usage in counts] == wanted
    assert [PRICES.credits(usage, "zai", model, at(NIGHT)) for usage in counts] == [amount // 2 for amount in wanted]


@pytest.mark.parametrize(
    ("moment", "full"),
    [
        ("2026-11-27T13:59:59.999+08:00", False),
        ("2026-11-27T14:00:00+08:00", True),
        ("2026-11-27T17:59:59.999+08:00", True),
        ("2026-11-27T18:00:00+08:00", False),
        ("2026-11-27T06:00:00+00:00", True),
        ("2026-11-28T15:00:00+08:00", False),  # Saturday
        ("2026-11-29T15:00:00+08:00", False),
        ("2026-11-30T15:00:00+08:00", True),
        ("2026-11-30T14:00:00-10:00", False),  # Monday there, Tuesday 08:00 in UTC+8
        ("2026-10-01T15:00:00+08:00", True),  # no holidays are known of z.ai's plans
    ],
)
def test_peak_hours_are_monday_to_friday_afternoon_in_utc_8(moment: str, full: bool) -> None:
    assert PRICES.credits(Usage(10_000), "zai", "glm-4.7", at(moment)) == (4_600_000 if full else 2_300_000)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("zai", "glm-5.4"),
        ("zai", "glm-5.3-flash"),
        ("zai", "glm-5.30"),
        ("anthropic", "glm-5.3"),
        ("anthropic", "claude-opus-5-5"),
        (None, "glm-5.3"),
        ("zai", None),
    ],
)
def test_where_no_coefficients_are_known_there_are_no_credits(provider: str | None, model: str | None) -> None:
    assert PRICES.credits(Usage(10_000), provider, model, at(PEAK)) is None


def test_credits_need_usage_and_begin_when_z_ai_introduced_them() -> None:
    assert PRICES.credits(None, "zai", "glm-5.3", at(PEAK)) is None
    begins = at("2026-07-30T00:00:00+08:00")
    assert PRICES.credits(Usage(10_000), "zai", "glm-5.3", begins - 1) is None
    assert PRICES.credits(Usage(10_000), "zai", "glm-5.3", begins) == 3_450_000


def test_only_a_provider_with_a_plan_has_one() -> None:
    assert [PRICES.has_plan(name) for name in ("zai", "anthropic", None)] == [True, False, False]


def test_what_was_spent_outside_is_the_difference_and_never_negative() -> None:
    assert [spent_outside(*counts) for counts in ((100, 60), (60, 60), (50, 60))] == [40, 0, 0]


def test_the_burn_rate_is_that_of_the_last_half_hour() -> None:
    spent = [
        Spent(NOW - 1801, 7),
        Spent(NOW - 1800, 70),
        Spent(NOW - 1799, 100),
        Spent(NOW - 5, 20),
        Spent(NOW, 3),
        Spent(NOW + 1, 9),
    ]
    assert burn_rate(spent, NOW) == 246
    assert burn_rate([], NOW) == 0


def window(name: str, left: int | None, resets_in: float | None) -> Window:
    used = None if left is None else 100 - left
    resets_at = None if resets_in is None else NOW + resets_in
    return Window(name, Meter.CREDITS, "CREDIT_LIMIT", 100, used, left, None, None, resets_at)


@pytest.mark.parametrize(
    ("windows", "per_hour", "first"),
    [
        ([window("5h", 50, 9000), window("week", 90, 400_000)], 50, ("5h", 3600)),
        ([window("week", 90, 400_000), window("5h", 50, 9000)], 50, ("5h", 3600)),
        ([window("5h", 50, 3600), window("week", 90, 400_000)], 50, ("week", 6480)),  # the 5 h reset in time
        ([window("5h", 50, 3600.1), window("week", 90, 400_000)], 50, ("5h", 3600)),
        ([window("5h", 50, 3600), window("week", 90, 6480)], 50, None),
        ([window("week", 20, 400_000), window("5h", 50, 9000)], 50, ("week", 1440)),
        ([window("5h", 50, None)], 50, ("5h", 3600)),
        ([window("5h", 0, 9000), window("week", 90, None)], 0, ("5h", 0)),
        ([window("5h", 50, 9000)], 0, None),
        ([window("5h", None, 9000)], 50, None),
        ([], 50, None),
    ],
)
def test_the_window_that_binds_first_is_named(windows: list[Window], per_hour: int, first: tuple[str, float] | None) -> None:
    found = time_to_empty(windows, per_hour, NOW)
    assert (found and (found.window.name, found.at - NOW)) == first
