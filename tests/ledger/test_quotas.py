"""Quota samples, and what they say together with our own count."""

from __future__ import annotations

from typing import Any

import pytest

from claude_proxy.exchange import Usage
from claude_proxy.ledger.options import Sample
from claude_proxy.ledger.prices.quota import MICRO, Meter, Window
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.record import UNKNOWN, Charge
from claude_proxy.ledger.samples import label, window_of
from claude_proxy.ledger.tables import quota_sample
from tests.ledger.books import NOW, entry, rows, write_all
from tests.ledger.places import Place

MINUTE = 60_000
HOUR = 60 * MINUTE


def window(
    name: str = "5h", *, meter: Meter = Meter.CREDITS, used: float | None = 1438, resets: int | None = NOW + HOUR
) -> Window:
    """A window of 12,000 that began four hours ago."""
    micro = None if used is None else int(used * MICRO)
    seconds = {"5h": 5 * 3600, "week": 7 * 24 * 3600}.get(name)
    return Window(
        name, meter, "", 12_000 * MICRO, micro, None if micro is None else 12_000 * MICRO - micro, None, seconds,
        None if resets is None else resets / 1000,
    )  # fmt: skip


def quota(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Books(place.engine(reading=True), timeout=20, wall=place.clock).quota()["items"]
    return found


def keep(place: Place, *samples: Sample, spent: tuple[tuple[int, float], ...] = (), upstream: str = "default") -> None:
    """Write samples, and exchanges that took credits at times."""
    store = place.store()
    made = [entry(at, charge=Charge(1, int(credits_ * MICRO), "p"), upstream=upstream) for at, credits_ in spent]
    if made:
        write_all(store, made)
    for sample in samples:
        store.sample(sample)
    store.close(0)


def test_without_a_sample_there_is_no_plan(place: Place) -> None:
    keep(place)
    assert quota(place) == []


def test_the_three_numbers_of_a_window(place: Place) -> None:
    """The provider counts 1438, we count 1000.5 since the window began: 437.5 were spent elsewhere."""
    before, first, edge = NOW - 4 * HOUR - 1, NOW - 4 * HOUR, NOW - 4 * HOUR + 7 * MINUTE
    spent = ((before, 5000), (first, 100), (edge, 200.25), (NOW - HOUR, 700.25), (NOW - 1, 0))
    keep(place, Sample(NOW, "default", None, (window(),)), spent=spent)
    keep(place, spent=((NOW - HOUR, 3000),), upstream="another")
    (item,) = quota(place)
    assert (item["upstream"], item["account"], item["sampled_at"]) == ("default", None, "2026-09-21T14:13:20.000Z")
    (found,) = item["windows"]
    assert found == {
        "window": "5h",
        "meter": "credits",
        "used_ratio": pytest.approx(1438 / 12_000),
        "used": 1438.0,
        "allowance": 12_000.0,
        "left": 10_562.0,
        "resets_at": "2026-09-21T15:13:20.000Z",
        "computed_credits": 1000.5,
        "uncredited_exchanges": 0,
        "spent_outside": 437.5,
    }


def test_each_account_is_compared_with_what_it_spent_itself(place: Place) -> None:
    store = place.store()
    spent = (("work", 100), ("work", 200), ("home", 40), (None, 5000))
    made = [entry(NOW - HOUR, charge=Charge(1, credits_ * MICRO, "p"), account=account) for account, credits_ in spent]
    write_all(store, made)
    for account, used in (("work", 350), ("home", 40)):
        store.sample(Sample(NOW, "default", account, (window(used=used),)))
    store.close(0)
    found = {item["account"]: item["windows"][0] for item in quota(place)}
    assert {account: (one["computed_credits"], one["spent_outside"]) for account, one in found.items()} == {
        "work": (300.0, 50.0),
        "home": (40.0, 0.0),
    }


@pytest.mark.parametrize(
    ("old", "later", "passed", "shown"),
    [
        (None, 1, 0, {"new"}),  # earlier releases named no account
        (None, -1, 0, {None, "new"}),
        ("old", 1, 0, {"old", "new"}),
        ("old", 1, 2 * HOUR, {"new"}),
        ("old", -1, 2 * HOUR, {"old"}),
    ],
)
def test_a_plan_without_a_valid_window_gives_way_to_a_later_one(
    place: Place, old: str | None, later: int, passed: int, shown: set[str | None]
) -> None:
    keep(place, Sample(NOW, "default", old, (window(),)), Sample(NOW + later, "default", "new", (window(),)))
    keep(place, Sample(NOW, "another", "sole", (window(),)))
    place.clock.now += passed / 1000
    assert {item["account"] for item in quota(place)} == shown | {"sole"}


def test_a_provider_that_is_behind_us_shows_nothing_spent_outside(place: Place) -> None:
    keep(place, Sample(NOW, "default", None, (window(used=10),)), spent=((NOW - HOUR, 700),))
    (found,) = quota(place)[0]["windows"]
    assert (found["computed_credits"], found["spent_outside"]) == (700.0, 0.0)


@pytest.mark.parametrize("ago", [HOUR, 1000], ids=["from the sums", "from the rows"])
@pytest.mark.parametrize(
    ("credited", "ours", "outside"), [((), None, None), ((700,), 700.0, 738.0), ((0,), 0.0, 1438.0)], ids=["none", "some", "free"]
)
def test_exchanges_whose_credits_are_not_known_are_counted(
    place: Place, ago: int, credited: tuple[int, ...], ours: float | None, outside: float | None
) -> None:
    store = place.store()
    write_all(store, [entry(NOW - ago, charge=charge) for charge in (UNKNOWN, Charge(1, None, "p"))])
    write_all(store, [entry(NOW - ago, usage=None), entry(NOW - ago, usage=Usage(output=0))])  # used nothing
    write_all(store, [entry(NOW - ago, charge=Charge(1, amount * MICRO, "p")) for amount in credited])
    store.sample(Sample(NOW, "default", None, (window(),)))
    store.close(0)
    (found,) = quota(place)[0]["windows"]
    assert (found["computed_credits"], found["uncredited_exchanges"], found["spent_outside"]) == (ours, 2, outside)


def test_burn_rate_and_time_to_empty(place: Place) -> None:
    """400 credits in the last half hour are 800 an hour; 400 of what is left were spent since the sample."""
    place.clock.now += 1800
    keep(
        place,
        Sample(
            NOW, "default", None, (window(used=11_300, resets=NOW + 4 * HOUR), window("week", used=1000, resets=NOW + 9 * HOUR))
        ),
        spent=((NOW + 10 * MINUTE, 400), (NOW - 2 * HOUR, 5000)),
    )
    (item,) = quota(place)
    assert item["burn_rate"] == 800.0
    assert item["time_to_empty"] == {"window": "5h", "at": "2026-09-21T15:05:50.000Z", "seconds": 1350}


def test_a_window_that_resets_first_is_never_empty(place: Place) -> None:
    keep(place, Sample(NOW, "default", None, (window(used=100),)), spent=((NOW - 1000, 100),))
    assert quota(place)[0]["time_to_empty"] is None


def test_after_its_reset_nothing_of_a_window_is_known(place: Place) -> None:
    keep(place, Sample(NOW, "default", None, (window(used=12_000),)), spent=((NOW - HOUR, 700),))
    assert quota(place)[0]["time_to_empty"]["seconds"] == 0
    place.clock.now += 3601
    (item,) = quota(place)
    (found,) = item["windows"]
    known = {key for key, value in found.items() if value is not None}
    assert known == {"window", "meter", "allowance"}
    assert item["time_to_empty"] is None


def test_only_credits_are_compared_with_ours(place: Place) -> None:
    tokens, calls = window(meter=Meter.TOKENS, used=None), window("month", meter=Meter.TOOL_CALLS, resets=None)
    keep(place, Sample(NOW, "default", None, (tokens, calls)), spent=((NOW - HOUR, 700),))
    (item,) = quota(place)
    assert [(found["window"], found["meter"], found["computed_credits"]) for found in item["windows"]] == [
        ("5h", "tokens", None),
        ("month", "tool-calls", None),
    ]
    assert (item["burn_rate"], item["time_to_empty"]) == (None, None)


def test_of_a_quarter_hour_the_last_sample_stays(place: Place) -> None:
    start = NOW // (15 * MINUTE) * 15 * MINUTE
    samples = [
        Sample(start + at * MINUTE, "default", None, (window(used=at), window("week", used=at))) for at in (0, 5, 14, 15, 16)
    ]
    keep(place, *samples, Sample(start + 3 * MINUTE, "another", None, (window(used=99),)))
    with place.engine(reading=True).connect() as connection:
        kept = sorted((row["at"] - start) // MINUTE for row in rows(connection, "quota_sample"))
    assert kept == [3, 14, 14, 16, 16]
    assert [item["windows"][0]["used"] for item in quota(place)] == [16.0, 99.0]


def test_the_same_sample_twice_is_one(place: Place) -> None:
    sample = Sample(NOW, "default", "mine", (window(), window()))
    keep(place, sample, sample)
    assert [(item["account"], len(item["windows"])) for item in quota(place)] == [("mine", 1)]


@pytest.mark.parametrize("meter", Meter)
@pytest.mark.parametrize("name", ["5h", "week", "month", "unit 9 x 2", "odd (name)"])
def test_a_window_keeps_its_name_and_meter(meter: Meter, name: str) -> None:
    class Row:
        used_micro, limit_micro, used_ppm, resets_at = 5, 10, 400_000, 7000

    found = window_of(label(window(name, meter=meter)), Row)
    assert (found.name, found.meter, found.used, found.left, found.ratio, found.resets_at) == (name, meter, 5, 5, 0.5, 7.0)


def test_a_percentage_alone_is_kept(place: Place) -> None:
    only = Window("5h", Meter.TOKENS, "", None, None, None, 0.22, 5 * 3600, None)
    keep(place, Sample(NOW, "default", None, (only,)))
    (found,) = quota(place)[0]["windows"]
    assert (found["used_ratio"], found["used"], found["allowance"], found["left"]) == (0.22, None, None, None)
    assert quota_sample.name == "quota_sample"
