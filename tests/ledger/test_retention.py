"""Retention: what goes by age and by size, what stays, and that writers and texts come to no harm."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy import ids
from claude_proxy.ledger import tables as t
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.record import Charge
from claude_proxy.ledger.retention import PASS_SECONDS, used_bytes
from claude_proxy.ledger.store import SqlStore
from tests.ledger.books import NOW, WALL, Clock, entry, names, rolled_up, rows, write_all
from tests.ledger.places import Place

DAY = 86_400_000
KEEP = 30


def keep_house(place: Place, store: SqlStore) -> int:
    """Let a store do its chores until there is nothing left for now; how many steps that were."""
    steps = 0
    place.clock.now += PASS_SECONDS + 1
    while store.chores() < 1:
        steps += 1
        assert steps < 5000
    return steps


def at_day(place: Place, store: SqlStore, day: int, entries: list[Any]) -> None:
    """Write rows on the day on which they happened."""
    place.clock.now = WALL + day * 86_400
    write_all(store, entries)


def on(day: int, number: int = 0, **values: Any) -> Any:
    return entry(NOW + day * DAY + number * 60_000, **values)


def summed(place: Place) -> Counter[str]:
    """All rollups together."""
    with place.engine().connect() as connection:
        return sum(rolled_up(connection).values(), Counter())


def test_old_exchanges_go_and_their_sums_stay(place: Place) -> None:
    store = place.store(keep_days=KEEP)
    for day in range(40):
        made = [on(day, number, session=f"day-{day}", charge=Charge(7, 3, "p")) for number in range(3)]
        at_day(place, store, day, made)
    before = summed(place)
    keep_house(place, store)
    with place.engine().connect() as connection:
        kept = rows(connection)
        rollups = rows(connection, "rollup")
        sessions = {names(connection)[row["id"]] for row in rows(connection, "session")}
    # The last day is the 39th: whole days older than 30 go.
    assert len(kept) == 31 * 3 - sum((row["id"] >> 22) // DAY < 0 for row in kept)
    assert summed(place) == before
    old = [row for row in rollups if row["bucket"] * 900_000 < NOW // DAY * DAY + 9 * DAY]
    assert len(old) == 9
    assert {(row["bucket"] % 96, row["session"], row["agent"], row["client"]) for row in old} == {(0, 0, 0, 0)}
    assert "day-39" in sessions
    assert "day-0" not in sessions
    store.close(0)


def test_the_attempts_of_old_exchanges_go_with_them(place: Place) -> None:
    from claude_proxy.exchange import Attempt

    attempts = [Attempt("default", 50.0, status=529), Attempt("second", 51.0, status=200)]
    store = place.store(keep_days=KEEP)
    old, new = on(0, attempts=attempts), on(40, attempts=attempts)
    at_day(place, store, 0, [old])
    at_day(place, store, 40, [new])
    keep_house(place, store)
    with place.engine().connect() as connection:
        assert {row["exchange"] for row in rows(connection, "attempt")} == {new.record.id}
    store.close(0)


def test_texts_that_nothing_refers_to_go_and_no_other(place: Place) -> None:
    store = place.store(keep_days=KEEP)
    at_day(place, store, 0, [on(0, session="old", model="old-model", agent="old-agent", client="10.0.0.1")])
    at_day(place, store, 20, [on(20, session="kept", model="kept-model")])
    at_day(place, store, 40, [on(40, session="new", model="new-model")])
    keep_house(place, store)
    with place.engine().connect() as connection:
        texts = {row["text"] for row in rows(connection, "name")}
        known = names(connection)
        used = {row[column] for row in rows(connection) for column in t.kinds(t.exchange)}
        used |= {row[column] for row in rows(connection, "rollup") for column in t.kinds(t.rollup)}
    assert used <= known.keys()
    assert {"kept", "new", "old-model"} <= texts  # a folded rollup still names its model
    assert not {"old", "old-agent", "10.0.0.1"} & texts
    store.close(0)


def test_a_text_that_comes_back_after_it_was_pruned_is_made_anew(place: Place) -> None:
    stores = [place.store(keep_days=KEEP) for _ in range(2)]
    at_day(place, stores[0], 0, [on(0, session="back")])
    at_day(place, stores[1], 0, [on(0, 1, session="back")])
    at_day(place, stores[0], 40, [on(40, session="other")])
    keep_house(place, stores[0])
    for number, store in enumerate(stores):
        at_day(place, store, 40, [on(40, number + 1, session="back")])
    with place.engine().connect() as connection:
        texts = names(connection)
        assert [texts[row["session"]] for row in rows(connection)] == ["other", "back", "back"]
    for store in stores:
        store.close(0)


def test_the_days_of_folded_rollups_are_still_read(place: Place) -> None:
    store = place.store(keep_days=KEEP)
    for day in range(40):
        at_day(place, store, day, [on(day, number) for number in range(3)])
    books = Books(place.engine(reading=True), timeout=20, wall=place.clock)
    before = {group["key"]: group["exchanges"] for group in books.usage("day")["groups"]}
    keep_house(place, store)
    assert {group["key"]: group["exchanges"] for group in books.usage("day")["groups"]} == before
    assert books.usage("model")["totals"]["exchanges"] == 120
    store.close(0)


def test_a_row_that_comes_late_joins_its_folded_day(place: Place) -> None:
    store = place.store(keep_days=KEEP)
    at_day(place, store, 0, [on(0), on(0, 1)])
    at_day(place, store, 40, [on(40)])
    keep_house(place, store)
    at_day(place, store, 41, [on(0, 2)])
    keep_house(place, store)
    with place.engine().connect() as connection:
        folded = [row["exchanges"] for row in rows(connection, "rollup") if row["bucket"] * 900_000 < NOW + DAY]
    assert folded == [3]
    store.close(0)


def test_folding_again_changes_nothing(place: Place) -> None:
    store = place.store(keep_days=KEEP)
    for day in (0, 1, 2, 40):
        at_day(place, store, day, [on(day, number, agent="a" if number else None) for number in range(3)])
    keep_house(place, store)
    with place.engine().connect() as connection:
        before = rolled_up(connection)
    for _ in range(3):
        keep_house(place, store)
    with place.engine().connect() as connection:
        assert rolled_up(connection) == before
    store.close(0)


def test_old_samples_incidents_and_runs_go(place: Place) -> None:
    store = place.store(keep_days=KEEP)
    with place.engine().begin() as connection:
        for day in (0, 40):
            at = NOW + day * DAY
            connection.execute(t.quota_sample.insert().values(at=at, upstream=0, account=0, window=0))
            text = {"kind": "outage", "subject": "default", "text": "It was out."}
            connection.execute(t.incident.insert().values(id=day, opened=at, seen=at, closed=at, **text))
            process = {"place": "x", "pid": 1, "version": "", "worker": 9}
            connection.execute(t.run.insert().values(started=at, seen=at, ended=at, clean=1, **process))
    place.clock.now = WALL + 40 * 86_400
    keep_house(place, store)
    with place.engine().connect() as connection:
        assert [len(rows(connection, table)) for table in ("quota_sample", "incident")] == [1, 1]
        assert len([row for row in rows(connection, "run") if row["place"] == "x"]) == 1
    store.close(0)


def test_several_processes_share_the_work(place: Place) -> None:
    one, other = place.store(keep_days=KEEP), place.store(keep_days=KEEP)
    at_day(place, one, 0, [on(0)])
    at_day(place, one, 40, [on(40)])
    place.clock.now += PASS_SECONDS + 1
    one.chores()
    other.chores()
    assert one.chores() < 1  # it has begun
    assert other.chores() > 1  # and this one leaves it to it
    one.close(0)
    other.close(0)


# -- by size (SQLite)


def fill(place: Place, store: SqlStore, count: int, *, days: int = 10) -> None:
    made = [entry(NOW + number * days * DAY // count, session=f"session-{number // 50}") for number in range(count)]
    for start in range(0, count, 200):
        place.clock.now = (made[start].record.id >> 22) / 1000
        store.write(made[start : start + 200], 0)


def size(store: SqlStore) -> int:
    return used_bytes(store._connection)


def test_the_oldest_exchanges_go_when_the_file_is_too_large(tmp_path: Path) -> None:
    place = Place(tmp_path)
    limit = 1_000_000
    store = place.store(max_bytes=limit)
    fill(place, store, 10_000)
    before = summed(place)
    assert size(store) > limit
    keep_house(place, store)
    assert limit * 0.6 < size(store) <= limit * 0.95
    with place.engine().connect() as connection:
        kept = [row["id"] for row in rows(connection)]
    assert 1000 < len(kept) < 9000
    assert kept[-1] >> 22 > NOW + 9 * DAY
    assert summed(place) == before
    store.close(0)


def test_then_the_oldest_fine_rollups_are_folded(tmp_path: Path) -> None:
    place = Place(tmp_path)
    limit = 250_000
    store = place.store(max_bytes=limit)
    made = [entry(NOW + number * 300_000, session=f"session-{number % 9}", agent=f"a-{number % 5}") for number in range(4000)]
    for start in range(0, 4000, 200):
        place.clock.now = (made[start].record.id >> 22) / 1000
        store.write(made[start : start + 200], 0)
    before = summed(place)
    keep_house(place, store)
    assert size(store) <= limit
    with place.engine().connect() as connection:
        assert rows(connection) == []
        fine = [row["bucket"] for row in rows(connection, "rollup") if row["session"]]
        assert fine
        assert min(fine) * 900_000 > NOW + DAY
    assert summed(place) == before
    store.close(0)


def test_a_file_gives_its_free_pages_back_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.ledger.retention.FREE_PAGES", 50)
    monkeypatch.setattr("claude_proxy.ledger.retention.STEP_PAGES", 20)
    place = Place(tmp_path)
    store = place.store(max_bytes=1_000_000)
    fill(place, store, 20_000, days=3)
    path = tmp_path / "ledger.db"
    with place.engine().connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    assert before > 2_000_000
    steps = keep_house(place, store)
    store.close(0)
    assert path.stat().st_size < 1_000_000 + 51 * 4096
    pages = (before - 1_000_000) // 4096
    assert pages // 20 - 10 < steps < pages // 20 + 40


def test_rows_are_written_between_the_steps(tmp_path: Path) -> None:
    place = Place(tmp_path)
    store = place.store(max_bytes=300_000)
    fill(place, store, 8000)
    place.clock.now += PASS_SECONDS + 1
    added = 0
    while store.chores() < 1:
        store.write([entry(NOW + 11 * DAY + added, session="new")], 0)
        added += 1
    assert added > 3
    with place.engine().connect() as connection:
        texts = names(connection)
        assert [texts[row["session"]] for row in rows(connection)].count("new") == added
    store.close(0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", None]), st.sampled_from(["m", "n"])), max_size=40))
def test_whatever_is_folded_the_sums_stay(tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, Any, str]]) -> None:
    place = Place(tmp_path_factory.mktemp("ledger"), clock=Clock())
    store = place.store(keep_days=5)
    for day, session, model in sorted(made, key=lambda item: item[0]):
        at_day(place, store, day, [on(day, session=session, model=model, charge=Charge(day, None, "p"))])
    before = summed(place)
    place.clock.now = WALL + 13 * 86_400
    keep_house(place, store)
    assert summed(place) == before
    with place.engine().connect() as connection:
        oldest = ids.first_of((int(place.clock() * 1000) // DAY - 5) * DAY)
        assert all(row["id"] >= oldest for row in rows(connection))
        known = names(connection)
        assert {row[column] for row in rows(connection, "rollup") for column in t.kinds(t.rollup)} <= known.keys()
    store.close(0)
