"""One timer for all waits, on a loop whose clock only moves when it is told to."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.proxy.deadline import LOOK_EVERY, Deadline, Timers


class Handle:
    def __init__(self, at: float, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.at = at
        self.callback = functools.partial(callback, *args)
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """What Deadline uses of an event loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.closed = False
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def is_closed(self) -> bool:
        return self.closed

    def call_at(self, at: float, callback: Callable[..., None], *args: Any) -> Handle:
        handle = Handle(at, callback, args)
        self.handles.append(handle)
        return handle

    @property
    def live(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.cancelled]

    def advance(self, seconds: float) -> None:
        """Move on, timers firing on the way."""
        until = self.now + seconds
        while due := [handle for handle in self.live if handle.at <= until]:
            handle = min(due, key=lambda handle: handle.at)
            self.now = max(self.now, handle.at)
            handle.cancelled = True
            handle.callback()
        self.now = until


def unshared() -> Timers:
    """Timers whose shared timer runs on another loop: each deadline gets a timer of its own."""
    other: Any = Clock()
    timers = Timers()
    Deadline(other, timers, lambda _: None).arm("elsewhere", 600)
    return timers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expired() -> list[tuple[str, float]]:
    return []


@pytest.fixture
def deadline(clock: Clock, expired: list[tuple[str, float]]) -> Deadline:
    loop: Any = clock
    return Deadline(loop, unshared(), lambda name: expired.append((name, clock.now)))


def test_a_wait_that_lasts_expires_once_at_its_time(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("head", 10)
    clock.advance(9.9)
    assert expired == []
    clock.advance(100)
    assert expired == [("head", 110.0)]


def test_a_wait_that_is_renewed_does_not_expire_and_costs_no_timer(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("silence", 10)
    for _ in range(1000):
        clock.advance(0.009)
        deadline.arm("silence", 10)
    assert expired == []
    assert len(clock.handles) == 1
    clock.advance(10.5)
    assert [name for name, _ in expired] == ["silence"]
    assert len(clock.handles) == 2


def test_a_shorter_wait_expires_before_the_longer_one_would(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("head", 600)
    clock.advance(1)
    deadline.arm("silence", 5)
    clock.advance(600)
    assert expired == [("silence", 106.0)]
    assert clock.live == []


def test_a_longer_wait_outlives_the_shorter_timer(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("silence", 5)
    clock.advance(1)
    deadline.arm("send", 600)
    clock.advance(500)
    assert expired == []
    clock.advance(200)
    assert expired == [("send", 701.0)]


def test_nothing_expires_after_disarm_until_armed_again(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("head", 10)
    deadline.disarm()
    clock.advance(50)
    assert expired == []
    deadline.arm("read", 10)
    clock.advance(50)
    assert expired == [("read", 160.0)]


def test_disarm_and_arm_before_the_old_timer_wakes(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("head", 10)
    deadline.disarm()
    clock.advance(5)
    deadline.arm("read", 10)
    clock.advance(50)
    assert expired == [("read", 115.0)]


def test_close_cancels_the_timer(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("head", 10)
    deadline.close()
    assert clock.live == []
    clock.advance(50)
    assert expired == []
    deadline.close()


def test_expired_may_arm_again(clock: Clock) -> None:
    ticks: list[float] = []
    loop: Any = clock

    def tick(name: str) -> None:
        ticks.append(clock.now)
        if len(ticks) < 3:
            deadline.arm(name, 5)

    deadline = Deadline(loop, unshared(), tick)
    deadline.arm("silence", 5)
    clock.advance(100)
    assert ticks == [105.0, 110.0, 115.0]


@pytest.mark.parametrize("seconds", [0.0, -3.0])
def test_a_wait_of_no_time_expires_at_once_but_not_inside_arm(
    clock: Clock, deadline: Deadline, expired: list[Any], seconds: float
) -> None:
    deadline.arm("silence", seconds)
    assert expired == []
    clock.advance(0)
    assert [name for name, _ in expired] == ["silence"]


def test_a_timer_that_wakes_too_early_waits_for_the_rest(clock: Clock, deadline: Deadline, expired: list[Any]) -> None:
    deadline.arm("head", 10)
    (handle,) = clock.live
    clock.now = 109.999
    handle.cancelled = True
    handle.callback()
    assert expired == []
    clock.advance(1)
    assert [name for name, _ in expired] == ["head"]


async def test_on_a_real_loop_it_calls_back() -> None:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    deadline = Deadline(asyncio.get_running_loop(), Timers(), done.set_result)
    deadline.arm("never", 60)
    deadline.arm("soon", 0.001)
    assert await asyncio.wait_for(done, 10) == "soon"
    deadline.close()


# -- waits that end far from now, and the timer that they share


class Shared:
    """Deadlines on one clock with one `Timers`."""

    def __init__(self, timers: Timers | None = None) -> None:
        self.clock = Clock()
        self.timers = timers or Timers()
        self.expired: list[tuple[int, str, float]] = []
        self.made = 0

    def deadline(self) -> Deadline:
        number, self.made = self.made, self.made + 1
        loop: Any = self.clock
        return Deadline(loop, self.timers, lambda name: self.expired.append((number, name, self.clock.now)))


def test_exchanges_that_are_over_soon_set_one_timer_between_them() -> None:
    shared = Shared()
    for _ in range(100):
        deadline = shared.deadline()
        deadline.arm("head", 600)
        shared.clock.advance(0.001)
        deadline.close()
    assert len(shared.clock.handles) == 1
    shared.clock.advance(10 * LOOK_EVERY)
    assert (len(shared.clock.handles), shared.clock.live) == (1, [])  # and it is not set again while there is nothing to look at
    shared.deadline().arm("head", 600)
    assert len(shared.clock.live) == 1


def test_far_waits_expire_at_their_time_all_the_same() -> None:
    shared = Shared()
    for seconds in (600, 30, 600.25):
        shared.deadline().arm("head", seconds)
    shared.clock.advance(700)
    assert shared.expired == [(1, "head", 130.0), (0, "head", 700.0), (2, "head", 700.25)]


def test_a_far_wait_that_gets_short_expires_in_time() -> None:
    shared = Shared()
    deadline = shared.deadline()
    deadline.arm("head", 600)
    shared.clock.advance(0.9)
    deadline.arm("silence", 0.05)
    shared.clock.advance(5)
    assert shared.expired == [(0, "silence", pytest.approx(100.95))]
    deadline.arm("silence", 0.1)
    shared.clock.advance(5)
    assert len(shared.expired) == 2


def test_a_closed_far_wait_never_expires() -> None:
    shared = Shared()
    gone, kept = shared.deadline(), shared.deadline()
    gone.arm("head", 10)
    kept.arm("head", 10)
    shared.clock.advance(2.5)
    gone.close()
    shared.clock.advance(100)
    assert shared.expired == [(1, "head", 110.0)]
    assert shared.clock.live == []


def test_a_new_event_loop_gets_a_timer_of_its_own() -> None:
    """As under servers that make a loop for each request (Starlette's TestClient)."""
    shared = Shared()
    shared.deadline().arm("head", 10)
    shared.clock.closed = True
    shared.clock = Clock()
    shared.deadline().arm("head", 10)
    shared.clock.advance(20)
    assert shared.expired == [(1, "head", 110.0)]
    assert shared.clock.live == []


def test_two_event_loops_at_once_do_not_lose_each_others_waits() -> None:
    shared = Shared()
    shared.deadline().arm("head", 10)
    first, shared.clock = shared.clock, Clock()
    shared.deadline().arm("head", 10)
    shared.clock.advance(20)
    first.advance(20)
    assert [(number, name) for number, name, _ in shared.expired] == [(1, "head"), (0, "head")]


_STEP = st.one_of(
    st.tuples(st.just("arm"), st.integers(0, 2), st.sampled_from([0.0, 0.3, 1.0, 1.7, 5.0, 600.0])),
    st.tuples(st.just("disarm"), st.integers(0, 2), st.just(0.0)),
    st.tuples(st.just("close"), st.integers(0, 2), st.just(0.0)),
    st.tuples(st.just("advance"), st.just(0), st.sampled_from([0.1, 0.9, 1.0, 2.6, 700.0])),
)


def expiries(steps: list[tuple[str, int, float]], timers: Timers) -> list[tuple[int, str, float]]:
    shared = Shared(timers)
    deadlines = [shared.deadline() for _ in range(3)]
    closed: set[int] = set()
    for what, which, seconds in steps:
        if what == "advance":
            shared.clock.advance(seconds)
        elif which not in closed:
            if what == "arm":
                deadlines[which].arm("wait", seconds)
            elif what == "disarm":
                deadlines[which].disarm()
            else:
                deadlines[which].close()
                closed.add(which)
    shared.clock.advance(1300)
    return sorted((which, name, round(at, 6)) for which, name, at in shared.expired)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.lists(_STEP, max_size=25))
def test_with_and_without_the_shared_timer_the_same_expires_at_the_same_time(steps: list[tuple[str, int, float]]) -> None:
    assert expiries(steps, Timers()) == expiries(steps, unshared())
