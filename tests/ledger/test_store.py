"""The store: every row once, and the sums with it, whatever the batches, retries and crashes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from claude_proxy import ids
from claude_proxy.exchange import Attempt, Failure, Kind, Outcome, Usage
from claude_proxy.ledger.names import NEW_PER_DAY
from claude_proxy.ledger.options import Entry, Options, Trouble
from claude_proxy.ledger.record import Charge
from claude_proxy.ledger.store import SqlStore
from tests.ledger.books import NOW, WALL, Clock, Fault, Log, Memory, Postgres, assert_books_balance, entry, names, rows, write_all
from tests.ledger.places import database

DAY = 86_400_000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.system)])
def memory(request: pytest.FixtureRequest) -> Iterator[Memory]:
    """An empty ledger on either database, for stores that are processes of their own."""
    found = Memory() if request.param == "sqlite" else Postgres(database(request.getfixturevalue("postgres")))
    yield found
    found.close()


counts = st.none() | st.integers(0, 10**6)
exchanges = st.fixed_dictionaries(
    {
        "at": st.integers(NOW - 2 * 900_000, NOW + 2 * 900_000),
        "kind": st.sampled_from([Kind.MESSAGES, *Kind]),
        "session": st.sampled_from([None, "one", "two"]),
        "agent": st.sampled_from([None, "helper"]),
        "model": st.sampled_from([None, "glm-5.3", "claude-opus-5"]),
        "client": st.sampled_from(["127.0.0.1", "10.0.0.7"]),
        "status": st.sampled_from([200, 200, 429, 529]),
        "outcome": st.sampled_from(list(Outcome)),
        "ended": st.floats(50, 500),
        "usage": st.none() | st.builds(Usage, counts, counts, counts, counts, counts, counts, counts),
        "charge": st.builds(Charge, counts, counts, st.none() | st.sampled_from(["a", "b"]), counts),
    }
)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(exchanges, min_size=1, max_size=30), st.data())
def test_the_rollup_equals_the_rows_for_any_batches_retries_and_crashes(made: list[dict[str, Any]], data: st.DataObject) -> None:
    fault = Fault()
    memory = Memory(fault.wrap)
    run = memory.run()
    store = memory.store(run=run)
    entries = [entry(**values) for values in made]
    left = list(entries)
    while left:
        size = data.draw(st.integers(1, len(left)), label="size")
        batch, left = left[:size], left[size:]
        fault.arm(data.draw(st.integers(0, 45), label="fails at"), after=data.draw(st.booleans(), label="after"))
        for _ in range(3):
            try:
                store.write(batch, 0)
                break
            except Trouble as trouble:
                if trouble.reopen:
                    store.close(None)
                    store = memory.store(run=run)
        fault.disarm()
        if data.draw(st.booleans(), label="again"):  # as after a commit whose answer was lost
            store.write(batch, 0)
    assert_books_balance(memory.engine, [item.record.id for item in entries])
    memory.close()


def two_batches() -> tuple[list[Entry], list[Entry]]:
    failed = Attempt("default", 50.1, status=529, failure=Failure("upstream", "overloaded_error", "Overloaded", "1305"))
    attempts = [failed, Attempt("second", 51.0, head_at=51.2, status=200)]
    first = [entry(session="one"), entry(session="two", agent="helper", attempts=attempts), entry(session=None)]
    second = [entry(session="one", model="glm-5.3"), entry(session="three", model="new", charge=Charge(5, None, "p"))]
    return first, second


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("position", range(1, 60))
def test_a_crash_at_any_statement_loses_nothing_and_doubles_nothing(position: int, after: bool) -> None:
    """Also where the commit went through and its answer was lost, and where an id had to be made anew."""
    fault = Fault()
    memory = Memory(fault.wrap)
    run = memory.run()
    store = memory.store(run=run)
    first, second = two_batches()
    taken = entry(session="elsewhere", number=second[0].record.id)
    memory.store().write([taken], 0)
    store.write(first, 0)
    fault.arm(position, after=after)
    crashed = False
    for _ in range(3):
        try:
            store.write(second, 0)
            break
        except Trouble:
            crashed = True
            store.close(None)
            store = memory.store(run=run)
    assert crashed is fault.struck
    assert crashed or position > 15
    assert_books_balance(memory.engine, [item.record.id for item in [taken, *first, *second]])
    memory.close()


def test_a_crash_is_injected_into_every_statement_of_a_batch() -> None:
    """The test above reaches past the last one: its range need not be touched when a statement is added."""
    fault = Fault()
    memory = Memory(fault.wrap)
    store = memory.store()
    fault.arm(10_000, after=False)
    store.write(two_batches()[1], 0)
    assert 20 < 10_000 - fault.left < 55
    memory.close()


def test_a_batch_written_twice_is_kept_once(memory: Memory) -> None:
    store = memory.store()
    batch = [entry() for _ in range(5)]
    store.write(batch, 0)
    store.write(batch, 0)
    assert_books_balance(memory.engine, [item.record.id for item in batch])


def test_a_batch_of_old_and_new_rows_adds_the_new_ones(memory: Memory) -> None:
    store = memory.store()
    batch = [entry() for _ in range(5)]
    store.write(batch[:3], 0)
    store.write(batch, 0)
    assert_books_balance(memory.engine, [item.record.id for item in batch])


def test_an_id_that_another_process_has_taken_is_made_anew_and_said(memory: Memory) -> None:
    log = Log()
    mine, other = memory.store(log=log), memory.store()
    theirs = entry(session="theirs")
    ours = entry(session="ours", number=theirs.record.id)
    other.write([theirs], 0)
    mine.write([ours], 0)
    assert ours.record.id != theirs.record.id
    assert ids.milliseconds(ours.record.id) == ids.milliseconds(theirs.record.id)
    assert log.said("id was taken") == [{"id": ids.encode(theirs.record.id), "booked_as": ids.encode(ours.record.id)}]
    assert_books_balance(memory.engine, [theirs.record.id, ours.record.id])


def test_two_rows_of_one_batch_never_share_an_id(memory: Memory) -> None:
    one = entry()
    other = entry(number=one.record.id)
    memory.store().write([one, other], 0)
    assert_books_balance(memory.engine, [one.record.id, other.record.id])


def test_attempts_are_kept_where_there_was_more_than_one(memory: Memory) -> None:
    first, _ = two_batches()
    memory.store().write(first, 0)
    with memory.engine.connect() as connection:
        texts = names(connection)
        kept = rows(connection, "attempt")
    assert [(row["exchange"], row["number"], texts[row["upstream"]], row["status"], texts[row["failure"]]) for row in kept] == [
        (first[1].record.id, 1, "default", 529, "overloaded_error"),
        (first[1].record.id, 2, "second", 200, ""),
    ]


# -- texts


def test_a_text_is_kept_once(memory: Memory) -> None:
    write_all(memory.store(), [entry(session="one", agent="one") for _ in range(10)], size=3)
    with memory.engine.connect() as connection:
        kept = [(row["kind"], row["text"]) for row in rows(connection, "name")]
    assert len(kept) == len(set(kept))
    assert {("session", "one"), ("agent", "one")} <= set(kept)


@pytest.mark.parametrize("kind", ["session", "model"])
def test_new_texts_of_a_kind_become_other_after_the_days_thousandth(memory: Memory, kind: str) -> None:
    store = memory.store()
    write_all(store, [entry(**{kind: f"text-{number}"}) for number in range(NEW_PER_DAY + 50)])
    store.write([entry(**{kind: "text-7"})], 0)  # an old one is still itself
    with memory.engine.connect() as connection:
        texts = names(connection)
        kept = [texts[row[kind]] for row in rows(connection)]
        made = [row for row in rows(connection, "name") if row["kind"] == kind]
    assert kept[:NEW_PER_DAY] == [f"text-{number}" for number in range(NEW_PER_DAY)]
    assert kept[NEW_PER_DAY:] == ["other"] * 50 + ["text-7"]
    assert len(made) == NEW_PER_DAY + 1
    assert_books_balance(memory.engine)


def test_the_next_day_takes_new_texts_again(memory: Memory) -> None:
    clock = Clock()
    store = memory.store(clock=clock)
    write_all(store, [entry(session=f"text-{number}") for number in range(NEW_PER_DAY + 1)])
    clock.now += DAY / 1000
    store.write([entry(session="late"), entry(session=f"text-{NEW_PER_DAY}")], 0)
    with memory.engine.connect() as connection:
        texts = names(connection)
        assert [texts[row["session"]] for row in rows(connection)][-2:] == ["late", f"text-{NEW_PER_DAY}"]


def test_a_text_knows_the_last_day_on_which_it_was_used(memory: Memory) -> None:
    clock = Clock()
    store = memory.store(clock=clock)
    store.write([entry(session="old"), entry(session="kept")], 0)
    clock.now += 3 * DAY / 1000
    store.write([entry(session="kept")], 0)
    store.write([entry(session="kept")], 0)
    with memory.engine.connect() as connection:
        days = {row["text"]: row["last_day"] - row["first_day"] for row in rows(connection, "name") if row["kind"] == "session"}
    assert days == {"old": 0, "kept": 3}


@pytest.mark.parametrize("position", range(5, 18))
def test_ids_of_texts_are_forgotten_when_their_transaction_fails(position: int) -> None:
    fault = Fault()
    memory = Memory(fault.wrap)
    store = memory.store()
    store.write([entry(session="one")], 0)
    fault.arm(position, after=False)
    try:
        store.write([entry(session="never", model="never")], 0)
    except Trouble:
        assert fault.struck
    else:
        assert not fault.struck
        assert position > 13
    fault.disarm()
    batch = [entry(session="other"), entry(session="never")]
    store.write(batch, 0)
    assert_books_balance(memory.engine)
    memory.close()


# -- runs


def test_each_process_leases_a_worker_number_of_its_own(memory: Memory) -> None:
    stores = [memory.store() for _ in range(4)]
    with memory.engine.connect() as connection:
        assert [row["worker"] for row in rows(connection, "run")] == [0, 1, 2, 3]
    stores[1].close(0)
    memory.store()
    with memory.engine.connect() as connection:
        open_runs = [row["worker"] for row in rows(connection, "run") if row["ended"] is None]
    assert sorted(open_runs) == [0, 1, 2, 3]


def test_a_leased_number_goes_into_the_ids(memory: Memory) -> None:
    make = ids.Ids()
    before = make()
    store = SqlStore(memory.engine, make, memory.run(), Options(Path("/nowhere")), Log(), wall=Clock())
    assert before >> 12 & 1023 >= ids.LEASED
    assert make() >> 12 & 1023 == 0
    store.close(0)


def test_a_store_opened_again_keeps_its_run(memory: Memory) -> None:
    run = memory.run()
    memory.store(run=run).close(None)
    memory.store(run=run).close(5)
    with memory.engine.connect() as connection:
        (kept,) = rows(connection, "run")
    assert (kept["clean"], kept["lost"], kept["ended"]) == (1, 5, NOW)


def test_a_silent_run_is_closed_as_unclean_and_said(memory: Memory) -> None:
    log = Log()
    clock = Clock()
    memory.store(clock=clock)  # and killed
    clock.now += 100
    memory.store(clock=clock, log=log)
    assert log.said("was killed") == []  # it may live
    clock.now += 120
    store = memory.store(clock=clock, log=log)
    assert log.said("was killed") == [
        {"worker": 0, "started": "2026-09-21T14:13:20+00:00", "last_seen": "2026-09-21T14:13:20+00:00"}
    ]
    with memory.engine.connect() as connection:
        assert [(row["clean"], row["ended"]) for row in rows(connection, "run")] == [(0, NOW), (None, None), (None, None)]
    store.close(0)


def test_a_living_process_notices_one_that_was_killed(memory: Memory) -> None:
    log = Log()
    clock = Clock()
    memory.store(clock=clock)
    alive = memory.store(clock=clock, log=log)
    for _ in range(4):
        clock.now += 61
        alive.chores()
    assert len(log.said("was killed")) == 1


def test_a_process_taken_for_dead_begins_a_new_run_and_its_rows_stay_its_own(memory: Memory) -> None:
    clock = Clock()
    asleep = memory.store(clock=clock)
    batch = [entry(), entry()]
    asleep.write(batch, 0)
    clock.now += 3600
    memory.store(clock=clock)
    asleep.write(batch, 0)
    asleep.write(batch, 0)  # of the run before
    asleep.write([entry()], 0)
    with memory.engine.connect() as connection:
        assert [row["clean"] for row in rows(connection, "run")] == [0, None, None]
        assert len(rows(connection)) == 3


def test_lost_rows_are_in_the_run(memory: Memory) -> None:
    memory.store().write([entry()], 17)
    with memory.engine.connect() as connection:
        assert rows(connection, "run")[0]["lost"] == 17


def test_the_clock_may_step_back_an_hour(memory: Memory) -> None:
    clock = Clock()
    store = memory.store(clock=clock)
    first = [entry(NOW)]
    store.write(first, 0)
    clock.now = WALL - 3600
    second = [entry(NOW - 3_600_000, session="session-1")]
    store.write(second, 0)
    store.chores()
    assert_books_balance(memory.engine, [first[0].record.id, second[0].record.id])


def test_a_commit_of_another_process_in_between_is_no_harm(memory: Memory) -> None:
    """Both use the same texts, sessions and rollups, in any order."""
    stores = [memory.store() for _ in range(3)]
    made = [entry(session=f"session-{number % 4}", model=f"model-{number % 3}") for number in range(60)]
    for number in range(0, 60, 5):
        stores[number % 3].write(made[number : number + 5], 0)
    assert_books_balance(memory.engine, [item.record.id for item in made])


@pytest.mark.system
def test_processes_that_write_the_same_keys_at_once_see_no_deadlock(postgres: str) -> None:
    place = Postgres(database(postgres))
    stores = [place.store() for _ in range(4)]
    parts = [[entry(session=f"s-{n * 7 % 10}", model=f"m-{n * step % 9}") for n in range(300)] for step in (1, 2, 4, 5)]
    errors: list[Exception] = []

    def work(store: SqlStore, part: list[Entry]) -> None:
        try:
            write_all(store, part, size=15)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(stores, parts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_books_balance(place.engine, [item.record.id for part in parts for item in part])


@pytest.mark.system
def test_a_server_that_closes_the_connection_costs_nothing(postgres: str) -> None:
    place = Postgres(database(postgres))
    run = place.run()
    store = place.store(run=run)
    first, second = [entry()], [entry()]
    store.write(first, 0)
    with place.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(Trouble) as caught:
        store.write(second, 0)
    assert caught.value.reopen
    assert not caught.value.hopeless
    store.close(None)
    store = place.store(run=run)
    store.write(second, 0)
    assert_books_balance(place.engine, [first[0].record.id, second[0].record.id])
