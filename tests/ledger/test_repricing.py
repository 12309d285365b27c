"""Repricing: rows and rollups change together, by the price of the exchange's own time, and once only."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from claude_proxy.exchange import Attempt, Failure, Usage
from claude_proxy.ledger.charging import Charging
from claude_proxy.ledger.prices import Prices, load
from claude_proxy.ledger.prices.read import parse
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.record import Charge
from claude_proxy.ledger.repricing import CHUNK, Change, Repricing, Sums
from tests.ledger.books import NOW, WALL, assert_books_balance, entry, write_all
from tests.ledger.places import Place, database
from tests.ledger.waiting import until

HOSTS = {"default": "api.z.ai"}
TABLE = """
[provider.zai]
hosts = ["api.z.ai"]
[provider.other]
hosts = ["other.example"]
[schedule.plan]
hours = [[0, 24]]
peak = 1
off_peak = 0.5
[[price]]
provider = "zai"
model = "glm-5.3"
input = 1
output = 2
cache_read = 0
cache_write_5m = 0
[[price]]
provider = "zai"
model = "glm-5.3"
from = 2026-09-21T14:00:00Z
input = 10
output = 20
cache_read = 0
cache_write_5m = 0
[[price]]
provider = "other"
model = "glm-5.3"
input = 1000
output = 1000
cache_read = 0
cache_write_5m = 0
[[credit]]
provider = "zai"
model = "glm-5.3"
from = 2026-01-01T00:00:00Z
input = 10
cached = 0
output = 0
schedule = "plan"
"""


@pytest.fixture
def prices() -> Prices:
    return Prices(parse(TABLE))


def repricing(prices: Prices, since: float = WALL - 3600, until: float = WALL + 36_000) -> Repricing:
    return Repricing(prices, HOSTS, since=since, until=until)


def fill(place: Place, *entries: object) -> None:
    store = place.store()
    write_all(store, list(entries))  # type: ignore[arg-type]
    store.close(0)


def costs(place: Place) -> list[float | None]:
    """Of the exchanges, oldest first."""
    items = Books(place.engine(reading=True), timeout=20, wall=place.clock).exchanges(1000)["items"]
    return [item["cost_usd"] for item in reversed(items)]


def cost(input_: int, output: int) -> float:
    return float(Decimal(100 * input_ + 20 * output) / 1_000_000)


def test_what_had_no_price_gets_that_of_its_time(place: Place, prices: Prices) -> None:
    fill(place, entry(NOW - 1_800_000), entry(NOW), entry(NOW, model="unknown"), entry(NOW, usage=None))
    work = repricing(prices)
    found = work.changes(place.engine(reading=True))
    assert work.looked_at == 4
    assert {change._replace(new_price=None) for change in found} == {Change("glm-5.3", None, None)}
    assert len({change.new_price for change in found}) == 2
    assert sorted(found.values()) == [Sums(1, 0, 140_000, 1), Sums(1, 0, 1_400_000, 1)]
    assert costs(place) == [None, None, None, None]
    assert work.apply(place.engine()) == 2
    assert costs(place) == [cost(1, 2), cost(10, 20), None, None]
    assert_books_balance(place.engine(reading=True))


@pytest.mark.parametrize(("sent", "served"), [("glm-5.3", None), (None, "glm-5.3"), ("other", "glm-5.3")])
def test_the_model_that_worked_decides_as_when_it_was_booked(
    place: Place, prices: Prices, sent: str | None, served: str | None
) -> None:
    one = entry(NOW, model="claude-opus-5", model_sent=sent, model_served=served)
    fill(place, one)
    assert [change.model for change in repricing(prices).changes(place.engine(reading=True))] == ["glm-5.3"]
    repricing(prices).apply(place.engine())
    booked = Charging(lambda: prices, HOSTS)(one.record)
    assert costs(place) == [cost(10, 20)] == [None if booked.cost_nano is None else booked.cost_nano / 10**9]


@pytest.mark.system
def test_two_at_once_change_the_sums_once(tmp_path: Path, postgres: str, prices: Prices) -> None:
    """The second begins when the first has read the rows, and waits for it. (In SQLite a writer has the file to itself.)"""
    place = Place(tmp_path, database(postgres))
    fill(place, *(entry(NOW + number) for number in range(5)))
    engine, changed = place.engine(), []
    second = threading.Thread(target=lambda: changed.append(repricing(prices).apply(place.engine())))

    @event.listens_for(engine, "after_cursor_execute")
    def _start(*_: Any) -> None:
        if second.ident is None:
            second.start()
            until(lambda: not second.is_alive() or is_waiting(place.engine()))

    assert repricing(prices).apply(engine) == 5
    second.join()
    assert changed == [0]
    assert_books_balance(place.engine(reading=True))


def is_waiting(engine: Engine) -> bool:
    """Whether a transaction waits for another one's locks."""
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT 1 FROM pg_locks WHERE NOT granted").first() is not None


def test_it_is_done_once(place: Place, prices: Prices) -> None:
    fill(place, *(entry(NOW + number) for number in range(5)))
    assert repricing(prices).apply(place.engine()) == 5
    assert repricing(prices).changes(place.engine(reading=True)) == {}
    assert repricing(prices).apply(place.engine()) == 0


def test_a_price_that_is_gone_leaves_the_exchange_unpriced(place: Place) -> None:
    fill(place, entry(NOW, charge=Charge(7, 8, "zai/glm-5.3.old")))
    work = repricing(Prices(parse('[provider.zai]\nhosts = ["api.z.ai"]\n')))
    assert work.changes(place.engine(reading=True)) == {Change("glm-5.3", "zai/glm-5.3.old", None): Sums(1, 7, 0, 1)}
    work.apply(place.engine())
    assert costs(place) == [None]
    totals = Books(place.engine(reading=True), timeout=20, wall=place.clock).usage()["totals"]
    assert (totals["cost_usd"], totals["unpriced_exchanges"], totals["credits"]) == (None, 1, None)
    assert_books_balance(place.engine(reading=True))


def test_an_exchange_keeps_the_provider_that_priced_it(place: Place, prices: Prices) -> None:
    """BASE_URL may have been another one then: the name `default` says nothing of that time."""
    others = entry(NOW, charge=Charge(5, None, "other/glm-5.3.abc"))
    fill(place, others, entry(NOW + 1, charge=Charge(5, None, "own:zai/glm-5.3.abc")))
    repricing(prices).apply(place.engine())
    assert costs(place) == [cost(1000, 1000), cost(10, 20)]


def test_an_upstream_that_is_not_configured_any_more_stays_as_it_is(place: Place, prices: Prices) -> None:
    fill(place, entry(NOW, upstream="gone"))
    assert repricing(prices).changes(place.engine(reading=True)) == {}


def test_only_the_time_that_was_asked_for_changes(place: Place, prices: Prices) -> None:
    fill(place, entry(NOW - 7_200_000), entry(NOW), entry(NOW + 7_200_000))
    assert repricing(prices, WALL - 60, WALL + 60).apply(place.engine()) == 1
    assert [amount is None for amount in costs(place)] == [True, False, True]


def test_the_last_attempt_decides_the_price(place: Place, prices: Prices) -> None:
    """It began before the price changed at 14:00 and was sent for good after it."""
    start = NOW - 800_500  # 14:00:00 is 800 s before NOW
    failure = Failure("upstream", "overloaded_error", "Overloaded")
    attempts = [Attempt("default", 50.0, status=529, failure=failure), Attempt("default", 51.0, status=200)]
    fill(place, entry(start, attempts=attempts), entry(start))
    repricing(prices).apply(place.engine())
    assert costs(place) == [cost(10, 20), cost(1, 2)]


def test_the_writers_own_prices_are_the_same(place: Place) -> None:
    """What the writer has priced with this table is not changed by it, whatever the usage and the time."""
    table = load(Path("/nonexistent")).prices
    price = Charging(lambda: table, HOSTS)
    made = []
    for number in range(60):
        usage = Usage(input=number * 7, output=number, cache_read=number * 1000, cache_write=number * 3, web_searches=number % 3)
        model = ("glm-5.3", "glm-5.3-flash", "glm-4.7", "nobody-knows-it")[number % 4]
        one = entry(NOW + number * 900_000, usage=usage, model=model)
        one.charge = price(one.record)
        made.append(one)
    fill(place, *made)
    assert repricing(table, WALL - 60, WALL + 10**6).changes(place.engine(reading=True)) == {}


def test_more_than_one_chunk(place: Place, prices: Prices) -> None:
    count = CHUNK + 10
    fill(place, *(entry(NOW + number * 1000) for number in range(count)))
    told: list[int] = []
    assert repricing(prices).apply(place.engine(), told.append) == count
    assert told == [CHUNK, count]
    assert None not in costs(place)
    assert_books_balance(place.engine(reading=True))


def test_rows_that_are_written_meanwhile_are_not_lost(place: Place, prices: Prices) -> None:
    fill(place, *(entry(NOW + number) for number in range(CHUNK + 1)))
    engine: Engine = place.engine()
    repricing(prices).apply(engine, lambda _: fill(place, entry(NOW + 50)))
    assert_books_balance(place.engine(reading=True))
