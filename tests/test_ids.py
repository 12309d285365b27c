"""Exchange ids: they only grow, carry their time, and survive being read out and typed."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import ids

MS = 1_000_000  # nanoseconds
NOW = 1_790_000_000_123 * MS
numbers = st.integers(0, ids.MAX_ID)


class Clock:
    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def test_an_id_carries_its_millisecond_and_its_worker() -> None:
    number = ids.Ids(worker=511, clock=Clock())()
    assert ids.milliseconds(number) == 1_790_000_000_123
    assert number >> 12 & 1023 == 511


def test_ids_of_one_millisecond_count_up() -> None:
    make = ids.Ids(worker=1, clock=Clock())
    first = make()
    assert [make() - first for _ in range(3)] == [1, 2, 3]


def test_a_full_millisecond_borrows_the_next() -> None:
    make = ids.Ids(worker=3, clock=Clock())
    made = [make() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert ids.milliseconds(made[4095]) == 1_790_000_000_123
    assert ids.milliseconds(made[4096]) == 1_790_000_000_124
    assert {number >> 12 & 1023 for number in made} == {3}


@pytest.mark.parametrize("step", [-MS, -1000 * MS, -3_600_000 * MS, -NOW])
def test_a_clock_that_steps_back_is_ignored_until_it_catches_up(step: int) -> None:
    clock = Clock()
    make = ids.Ids(worker=3, clock=clock)
    before = make()
    clock.now += step
    assert make() == before + 1
    clock.now = NOW + MS
    assert ids.milliseconds(make()) == 1_790_000_000_124


@given(st.lists(st.integers(0, 2 * 10**18), min_size=1, max_size=50))
def test_whatever_the_clock_says_ids_grow(times: list[int]) -> None:
    clock = Clock()
    make = ids.Ids(clock=clock)
    made = []
    for clock.now in times:
        made.append(make())
    assert made == sorted(set(made))


def test_a_process_without_a_lease_keeps_out_of_the_leased_numbers() -> None:
    workers = {ids.Ids().worker for _ in range(200)}
    assert min(workers) >= ids.LEASED
    assert max(workers) < ids.WORKERS
    assert len(workers) > 20


def test_threads_never_get_the_same_id() -> None:
    make = ids.Ids(worker=0, clock=Clock())
    made: list[list[int]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda own=own: own.extend(make() for _ in range(5000))) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({number for own in made for number in own}) == 20_000


@given(numbers)
def test_a_text_names_its_id(number: int) -> None:
    text = ids.encode(number)
    assert len(text) == 16
    assert ids.decode(text) == number


@given(numbers, numbers)
def test_texts_sort_as_their_ids_do(one: int, other: int) -> None:
    assert (one < other) == (ids.encode(one) < ids.encode(other))


@pytest.mark.parametrize("typed", ["CP_1OIL000000ABC", "1011000000abc", " cp_10-11-0000-00abc\n", "cp_1o1i000000ABC"])
def test_what_people_type_is_understood(typed: str) -> None:
    assert ids.encode(ids.decode(typed)) == "cp_1011000000abc"


@pytest.mark.parametrize(
    "typed",
    [
        *("", "cp_", "cp_1", "cp_10110000000abc", "cp_u011000000abc", "cp_8000000000000", "cp_zzzzzzzzzzzzz"),
        *("cp_+011000000abc", "cp_1_11000000abc", "cp_101100000 abc", "req_011CSHoEeqs", "cp_٠٠٠٠٠٠٠٠٠٠٠٠٠", "cp_ß011000000abc"),
        "cp_0a1b2c3d4e5f00000001",
    ],
)
def test_what_is_no_id_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(ValueError, match="is not an exchange id: expected one such as cp_"):
        ids.decode(typed)


@pytest.mark.parametrize("ms", [0, 1_790_000_000_123, 2**41 - 1])
def test_the_first_id_of_a_millisecond_bounds_its_range(ms: int) -> None:
    assert ids.milliseconds(ids.first_of(ms)) == ms
    assert ids.first_of(ms) & (2**22 - 1) == 0


@pytest.mark.parametrize(("ms", "bound"), [(-1, 0), (2**41, 2**41 - 1), (10**18, 2**41 - 1)])
def test_a_time_out_of_range_gives_the_nearest_bound(ms: int, bound: int) -> None:
    assert ids.milliseconds(ids.first_of(ms)) == bound


def test_a_reminted_id_keeps_its_time_and_leaves_the_leased_numbers() -> None:
    number = ids.Ids(worker=7, clock=Clock())()
    again = {ids.reminted(number) for _ in range(50)}
    assert number not in again
    assert len(again) > 40
    assert {ids.milliseconds(other) for other in again} == {1_790_000_000_123}
    assert min(other >> 12 & 1023 for other in again) >= ids.LEASED
