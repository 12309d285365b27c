"""The learned limit: what a refusal, an accepted probe and a slot given back late teach."""

from __future__ import annotations

from random import Random

import pytest

from claude_proxy.routing import doubt
from claude_proxy.routing import limit as rules
from claude_proxy.routing.limit import Lease, Limit

NOW = 1000.0


class Driver:
    """Sends requests through a `Limit`, one per call, with time in its hands."""

    def __init__(self, start: int | None, ceiling: int | None = None) -> None:
        self.limit = Limit(start, ceiling, Random(1))
        self.now = NOW
        self.count = 0

    def send(self, *, probe: bool = False, first: bool = True) -> Lease:
        self.count += 1
        lease = Lease(self.count, self.now, first, probe)
        self.limit.send(lease, self.now)
        return lease

    def run(self, count: int) -> list[Lease]:
        """Send requests, and have them accepted."""
        leases = [self.send() for _ in range(count)]
        for lease in leases:
            self.limit.head(lease, self.now)
        return leases

    def refuse(self, lease: Lease, *, fresh: bool = True) -> bool:
        return self.limit.refuse(lease, self.now, fresh=fresh)

    def judged(self) -> int | None:
        self.now += rules.JUDGED_AFTER
        self.limit.settle(self.now)
        return self.limit.value


@pytest.mark.parametrize("start", [None, 3, 10])
def test_a_refusal_beside_two_that_run_teaches_a_limit_of_two(start: int | None) -> None:
    driver = Driver(start)
    driver.run(2)
    driver.refuse(driver.send())
    assert driver.limit.value == start, "it is judged later, not at once"
    assert driver.judged() == 2


def test_of_a_burst_only_those_that_were_not_refused_count() -> None:
    driver = Driver(None)
    leases = [driver.send() for _ in range(20)]
    for lease in leases[2:]:
        driver.refuse(lease)
        driver.now += 0.01
    assert driver.judged() == 2


def test_a_refusal_with_nothing_else_in_flight_says_nothing_about_the_limit() -> None:
    driver = Driver(3)
    driver.refuse(driver.send())
    assert driver.judged() == 3


def test_a_refusal_that_late_slots_explain_leaves_the_limit() -> None:
    driver = Driver(2)
    one, _ = driver.run(2)
    driver.limit.end(one, driver.now)
    driver.now += 0.01
    driver.refuse(driver.send())
    assert driver.judged() == 2
    assert driver.limit.delay == rules.DELAY_FIRST


@pytest.mark.parametrize(
    ("known", "step"),
    [
        pytest.param(0.0, rules.DELAY_FIRST, id="an instant at first"),
        pytest.param(0.05, 0.05 * rules.DELAY_GROWTH, id="then in proportion"),
        pytest.param(1.5, rules.DELAY_UP, id="and at most so much"),
    ],
)
def test_a_refusal_shortly_after_an_end_raises_the_delay_by_a_step_that_fits_it(known: float, step: float) -> None:
    driver = Driver(1)
    driver.limit.delay = known
    (one,) = driver.run(1)
    driver.limit.end(one, driver.now)
    driver.now += known
    assert driver.refuse(driver.send()), "a slot that was given back late explains it"
    assert driver.limit.delay == pytest.approx(known + step)


@pytest.mark.parametrize("ended", [False, True], ids=["nothing had ended", "it ended long ago"])
def test_a_refusal_long_after_the_last_end_is_not_explained_by_late_slots(ended: bool) -> None:
    driver = Driver(2)
    one, *_ = driver.run(2)
    if ended:
        driver.limit.end(one, driver.now)
        driver.now += rules.RECENT + 1
    assert not driver.refuse(driver.send())
    assert driver.limit.delay == 0.0


def test_a_short_delay_falls_in_proportion_so_that_it_is_not_forgotten_at_once() -> None:
    driver = Driver(1)
    driver.limit.delay = 0.02
    for _ in range(10):
        (one,) = driver.run(1)
        driver.limit.end(one, driver.now)
        driver.now += 0.1
    assert 0.01 < driver.limit.delay < 0.02


def test_a_stream_that_ended_while_the_refused_request_was_under_way_ran_beside_it() -> None:
    driver = Driver(5)
    one, _, _ = driver.run(3)
    lost = driver.send()
    driver.now += 0.1
    driver.limit.end(one, driver.now)
    driver.refuse(lost)
    assert driver.judged() == 3


def test_what_was_sent_later_does_not_count() -> None:
    driver = Driver(5)
    driver.run(1)
    lost = driver.send()
    driver.run(2)
    driver.refuse(lost)
    assert driver.judged() == 1


def test_the_delay_falls_slowly_with_each_first_try_that_is_accepted_into_a_slot_just_freed() -> None:
    driver = Driver(1)
    driver.limit.delay = 1.0
    (one,) = driver.run(1)
    driver.limit.end(one, driver.now)
    driver.now += 1.0
    (two,) = driver.run(1)
    assert driver.limit.delay == pytest.approx(1.0 - rules.DELAY_DOWN)
    driver.limit.end(two, driver.now)
    driver.now += 1.0
    again = driver.send(first=False)
    driver.limit.head(again, driver.now)
    assert driver.limit.delay == pytest.approx(1.0 - rules.DELAY_DOWN), "one that was refused before says nothing"


def test_the_delay_stays_where_a_slot_was_free_anyway() -> None:
    driver = Driver(3)
    driver.limit.delay = 1.0
    driver.run(1)
    assert driver.limit.delay == 1.0


def test_only_the_first_refusal_in_a_row_raises_the_delay() -> None:
    """In a blackout there are dozens; each would hold slots for longer."""
    driver = Driver(1)
    (one,) = driver.run(1)
    driver.limit.end(one, driver.now)
    driver.refuse(driver.send())
    for _ in range(30):
        driver.refuse(driver.send(first=False), fresh=False)
    assert driver.limit.delay == rules.DELAY_FIRST


def test_the_delay_has_a_bound() -> None:
    driver = Driver(1)
    for _ in range(100):
        freed_and_refused(driver)
    assert driver.limit.delay == rules.DELAY_MOST


# -- late slots, or a lower limit


def explained(driver: Driver, running: int, age: float = 0.1) -> None:
    """A request is refused beside `running` others, `age` seconds after enough streams have ended that their slots explain it."""
    assert driver.limit.value is not None
    driver.run(running - len(driver.limit.leases))
    for lease in list(driver.limit.leases)[: driver.limit.value - running]:
        driver.limit.end(lease, driver.now)
    driver.run(running - len(driver.limit.leases))
    driver.now += age
    driver.refuse(driver.send(first=False))
    driver.judged()


@pytest.mark.parametrize(("limit", "running"), [(2, 1), (3, 1), (3, 2), (10, 6)])
def test_refusals_that_late_slots_would_explain_lower_the_limit_when_there_are_too_many(limit: int, running: int) -> None:
    driver = Driver(limit)
    driver.run(limit)
    refusals = 0
    while driver.limit.value == limit:
        explained(driver, running)
        refusals += 1
    assert doubt.MOST // 2 < refusals <= doubt.MOST
    assert driver.limit.value == running
    assert driver.limit.delay == 0.0, "what they have taught about late slots is forgotten"


def test_refusals_beside_fewer_than_are_accepted_at_once_had_another_reason() -> None:
    driver = Driver(5)
    driver.run(5)
    for _ in range(doubt.MOST - 1):
        explained(driver, 3)
    driver.run(1)
    explained(driver, 3)
    assert driver.limit.value == 5


def test_the_limit_is_lowered_to_what_runs_in_the_end_whatever_began_under_the_higher_one() -> None:
    driver = Driver(5)
    driver.run(5)
    explained(driver, 4)
    for _ in range(2 * doubt.MOST):
        explained(driver, 3)
    assert driver.limit.value == 3


def test_refusals_that_late_slots_explain_badly_count_twice() -> None:
    driver = Driver(2)
    driver.run(2)
    for number in range(doubt.MOST // 2):
        assert driver.limit.value == 2, number
        explained(driver, 1, age=doubt.UNLIKELY + 0.1)
    assert driver.limit.value == 1


@pytest.mark.parametrize("limit", [2, 3])
def test_the_limit_stays_if_as_many_have_run_at_once_meanwhile(limit: int) -> None:
    driver = Driver(limit)
    for _ in range(5 * doubt.MOST):
        explained(driver, limit - 1)
        driver.run(1)
    assert driver.limit.value == limit


def test_refusals_with_nothing_in_flight_do_not_lower_the_limit_however_many() -> None:
    driver = Driver(2)
    driver.run(2)
    for _ in range(5 * doubt.MOST):
        explained(driver, 0)
    assert driver.limit.value == 2


# -- a delay that does not help


@pytest.mark.parametrize(("limit", "running", "ended"), [(2, 0, 1), (3, 1, 1), (10, 0, 3), (10, 8, 1), (51, 0, 40), (51, 49, 1)])
def test_a_refusal_while_fewer_run_than_the_limit_raises_no_delay(limit: int, running: int, ended: int) -> None:
    """If all that have just ended still held their slots, one would be free: so the refusal has another reason."""
    driver = Driver(limit)
    for lease in driver.run(running + ended)[running:]:
        driver.limit.end(lease, driver.now)
    driver.refuse(driver.send())
    assert driver.limit.delay == 0.0


@pytest.mark.parametrize("limit", [1, 2, 51])
@pytest.mark.parametrize("known", [0.0, 0.5, 2.0])
def test_a_refusal_that_a_longer_delay_would_not_have_prevented_does_not_raise_it(limit: int, known: float) -> None:
    driver = Driver(limit)
    driver.limit.delay = known
    driver.limit.end(driver.run(limit)[0], driver.now)
    driver.now += known + rules.DELAY_UP + 0.1
    assert driver.refuse(driver.send()), "a slot that was given back late may explain it all the same"
    assert driver.limit.delay == known


def freed_and_refused(driver: Driver, lasts: float = 60.0) -> None:
    """A stream ends, and what is sent after the delay is refused."""
    one = next(iter(driver.limit.leases), None) or driver.run(1)[0]
    driver.now += lasts
    driver.limit.end(one, driver.now)
    driver.now += driver.limit.delay
    driver.refuse(driver.send())
    driver.now += 10.0
    driver.run(1)


def doubted(driver: Driver) -> bool:
    """Whether a request may go at once when a stream has just ended, although the slot is held."""
    assert driver.limit.delay > 0
    driver.limit.end(next(iter(driver.limit.leases)), driver.now)
    return not driver.limit.full(driver.now)


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_a_delay_that_was_raised_twice_is_doubted_and_halved_while_requests_are_accepted_without_it(limit: int) -> None:
    driver = Driver(limit)
    driver.run(limit)
    for _ in range(rules.DOUBTED):
        freed_and_refused(driver)
    known, accepted = driver.limit.delay, 0
    while driver.limit.delay:
        assert doubted(driver)
        driver.run(1)
        accepted += 1
        assert driver.limit.delay <= known / 2 ** (accepted + 1 - rules.DISPROVED)
        driver.now += 60.0


def test_one_request_that_is_accepted_without_the_delay_may_be_an_accident() -> None:
    driver = Driver(1)
    driver.run(1)
    for _ in range(rules.DOUBTED):
        freed_and_refused(driver)
    known = driver.limit.delay
    for refused in (False, True, False):
        assert doubted(driver)
        if refused:
            driver.refuse(driver.send())
            driver.now += 10.0
            for _ in range(2 * rules.DOUBTED):
                freed_and_refused(driver)
            known = driver.limit.delay
        else:
            driver.run(1)
        assert driver.limit.delay == known
        driver.now += 60.0


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_a_delay_without_which_a_request_was_refused_is_doubted_again_after_twice_as_many_raises(limit: int) -> None:
    driver = Driver(limit)
    driver.run(limit)
    for expected in (2, 4, 8, 16):
        for _ in range(expected):
            freed_and_refused(driver)
        known = driver.limit.delay
        assert doubted(driver)
        driver.refuse(driver.send())
        assert driver.limit.delay == known
        driver.now += 10.0
        driver.run(1)
        assert not doubted(driver)
        driver.now += 60.0
        driver.run(1)


def test_one_request_at_a_time_is_sent_without_the_delay() -> None:
    driver = Driver(2)
    driver.run(2)
    for _ in range(rules.DOUBTED):
        freed_and_refused(driver)
    assert doubted(driver)
    driver.send()
    assert not doubted(driver)


@pytest.mark.parametrize("lasts", [0.01, 0.1, 1.0, 3.0])
def test_a_slot_is_not_held_for_much_longer_than_a_request_takes(lasts: float) -> None:
    driver = Driver(1)
    driver.limit.delay = rules.DELAY_MOST
    for _ in range(200):
        (one,) = driver.run(1)
        driver.now += lasts
        driver.limit.end(one, driver.now)
        driver.now += rules.DELAY_MOST
    assert driver.limit.delay <= max(rules.DELAY_UP, rules.DELAY_LASTS * lasts) * 1.01
    for _ in range(100):
        freed_and_refused(driver, lasts)
    assert driver.limit.delay <= max(rules.DELAY_UP, rules.DELAY_LASTS * lasts) * 1.01


def test_a_delay_from_before_a_restart_is_doubted_at_once() -> None:
    driver = Driver(1)
    driver.limit.load({"limit": 1, "delay": 12.0})
    driver.run(1)
    assert doubted(driver)


def test_an_ended_stream_holds_its_slot_for_the_delay() -> None:
    driver = Driver(2)
    driver.limit.delay = 1.3
    one, two = driver.run(2)
    driver.limit.end(one, driver.now)
    driver.now += 0.7
    driver.limit.end(two, driver.now)
    assert driver.limit.held(driver.now) == 2
    opens = driver.limit.opens_at()
    assert opens == pytest.approx(NOW + 1.3)
    assert not driver.limit.full(opens), "at the moment that it names it is free, whatever the rounding"
    assert driver.limit.free(opens) == 1


def test_what_was_not_sent_holds_nothing() -> None:
    driver = Driver(1)
    driver.limit.delay = 1.0
    driver.limit.end(driver.send(), driver.now, sent=False)
    assert driver.limit.free(driver.now) == 1


# -- probes


def probing(start: int = 2) -> Driver:
    """A full limit that somebody has waited for long enough."""
    driver = Driver(start)
    driver.run(start)
    due = driver.limit.probe_due(driver.now)
    assert due == driver.now + rules.PROBE_WAIT
    driver.now = due
    return driver


def test_an_accepted_probe_raises_the_limit_and_the_next_follows_soon() -> None:
    driver = probing()
    driver.limit.head(driver.send(probe=True), driver.now)
    assert driver.limit.value == 3
    assert driver.limit.probe_due(driver.now) == driver.now + rules.PROBE_NEXT


def test_a_refused_probe_leaves_the_limit_and_waits_twice_as_long_each_time() -> None:
    driver = probing()
    waits = []
    for _ in range(7):
        driver.refuse(driver.send(probe=True))
        due = driver.limit.probe_due(driver.now)
        assert due is not None
        waits.append(due - driver.now)
        driver.now = due
    assert driver.judged() == 2
    for wait, expected in zip(waits, (30, 60, 120, 240, 300, 300, 300), strict=True):
        assert 0.8 * expected <= wait <= 1.2 * expected


def test_a_probe_proves_nothing_if_another_stream_ended_meanwhile() -> None:
    driver = probing()
    probe = driver.send(probe=True)
    driver.limit.end(next(iter(driver.limit.leases)), driver.now)
    driver.limit.head(probe, driver.now)
    assert driver.limit.value == 2
    assert driver.limit.probe_at == driver.now + rules.PROBE_RETRY


def test_a_probe_is_proven_by_what_runs_however_late_slots_are_given_back() -> None:
    driver = probing(3)
    for lease in list(driver.limit.leases):
        driver.limit.end(lease, driver.now)
    driver.run(3)
    driver.limit.head(driver.send(probe=True), driver.now)
    assert driver.limit.value == 4


def test_a_probe_refused_while_slots_may_be_held_late_is_repeated_soon() -> None:
    driver = probing(2)
    driver.limit.end(next(iter(driver.limit.leases)), driver.now)
    driver.run(1)
    driver.refuse(driver.send(probe=True))
    assert driver.limit.probe_at == driver.now + rules.PROBE_RETRY


@pytest.mark.parametrize("ago", [0.0, 0.4, 0.9])
def test_a_probe_waits_for_a_moment_in_which_no_slot_may_be_held_late(ago: float) -> None:
    driver = probing(2)
    driver.limit.end(next(iter(driver.limit.leases)), driver.now - ago)
    driver.run(1)
    assert driver.limit.probe_due(driver.now) == pytest.approx(driver.now - ago + rules.DECIDED)


@pytest.mark.parametrize("every", [0.1, 0.5, 0.9])
def test_a_probe_does_not_wait_for_such_a_moment_for_long(every: float) -> None:
    driver = probing(2)
    began = driver.now
    while True:
        driver.limit.end(next(iter(driver.limit.leases)), driver.now)
        driver.run(1)
        due = driver.limit.probe_due(driver.now)
        assert due is not None
        if due <= driver.now + every:
            break
        driver.now += every
    assert due == pytest.approx(began + rules.PROBE_RETRY)


@pytest.mark.parametrize("limit", [1, 2, 10])
@pytest.mark.parametrize("lasts", [0.1, 2.0, 20.0, 60.0])
def test_probes_do_not_become_rarer_than_so_many_requests(limit: int, lasts: float) -> None:
    driver = Driver(limit)
    for _ in range(100):
        served(driver, limit, lasts)
    assert last_wait(driver) == pytest.approx(bounded(rules.PROBE_REQUESTS * lasts / limit), rel=0.21)


@pytest.mark.parametrize("lasts", [2.0, 20.0, 60.0])
def test_probes_stay_more_frequent_for_a_while_after_the_limit_was_lowered(lasts: float) -> None:
    driver = Driver(3)
    for _ in range(100):
        served(driver, 2, lasts)
    driver.run(2)
    driver.now += rules.RECENT + 1
    driver.refuse(driver.send())
    assert driver.judged() == 2
    assert last_wait(driver) == pytest.approx(bounded(rules.PROBE_REQUESTS_LOWERED * lasts / 2), rel=0.21)
    driver.now += rules.LATELY
    assert last_wait(driver) == pytest.approx(bounded(rules.PROBE_REQUESTS * lasts / 2), rel=0.21)


def served(driver: Driver, count: int, lasts: float) -> None:
    leases = driver.run(count)
    driver.now += lasts
    for lease in leases:
        driver.limit.end(lease, driver.now)


def last_wait(driver: Driver) -> float:
    """How long a probe waits after many that were refused; the time does not go on meanwhile."""
    assert driver.limit.value is not None
    driver.run(driver.limit.value - len(driver.limit.leases))
    for _ in range(10):
        driver.limit.probe_due(driver.now)
        probe = driver.send(probe=True)
        probe.sent_at += 100.0  # long after the last stream has ended
        driver.refuse(probe)
    assert driver.limit.probe_at is not None
    return driver.limit.probe_at - driver.now


def bounded(seconds: float) -> float:
    return max(rules.PROBE_WAIT, min(rules.PROBE_WAIT_MOST, seconds))


def test_an_undecided_neighbour_does_not_prove_anything_yet() -> None:
    driver = Driver(2)
    driver.run(1)
    driver.send()
    driver.limit.probe_due(driver.now)
    probe = driver.send(probe=True)
    driver.limit.head(probe, driver.now + 0.5)
    assert driver.limit.value == 2


@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_probe_unless_exactly_the_limit_runs(in_flight: int) -> None:
    driver = Driver(2)
    driver.run(in_flight)
    assert driver.limit.probe_due(driver.now) is None


def test_one_probe_at_a_time() -> None:
    driver = probing()
    driver.send(probe=True)
    assert driver.limit.probe_due(driver.now) is None


def test_a_probe_whose_client_disconnects_is_repeated_soon() -> None:
    driver = probing()
    driver.limit.end(driver.send(probe=True), driver.now)
    assert driver.limit.value == 2
    assert driver.limit.probe is None
    assert driver.limit.probe_at == driver.now + rules.PROBE_RETRY


def test_a_decrease_begins_the_wait_for_a_probe_again() -> None:
    driver = probing(3)
    driver.refuse(driver.send(probe=True))
    one = next(iter(driver.limit.leases))
    driver.limit.end(one, driver.now)
    driver.now += 100
    driver.refuse(driver.send())
    assert driver.judged() == 2
    assert driver.limit.probe_due(driver.now) == driver.now + rules.PROBE_WAIT


# -- ceilings, restarts


@pytest.mark.parametrize(("start", "ceiling", "value"), [(None, 4, 4), (2, 4, 2), (2, 1, 1), (None, None, None)])
def test_a_configured_ceiling_bounds_the_start(start: int | None, ceiling: int | None, value: int | None) -> None:
    assert Limit(start, ceiling, Random(1)).value == value


def test_no_probe_goes_above_the_ceiling() -> None:
    driver = Driver(2, 2)
    driver.run(2)
    assert driver.limit.probe_due(driver.now) is None


def test_another_ceiling_after_a_reload() -> None:
    limit = Limit(5, None, Random(1))
    limit.bound(3)
    assert limit.value == 3
    limit.bound(None)
    assert limit.value == 3


def test_what_was_learned_survives_a_restart() -> None:
    driver = Driver(None)
    driver.run(3)
    driver.refuse(driver.send())
    driver.judged()
    driver.limit.delay = 1.2345
    after = Limit(2, None, Random(1))
    after.load(driver.limit.dump())
    assert (after.value, after.delay) == (3, 1.234) or (after.value, after.delay) == (3, 1.235)


@pytest.mark.parametrize("learned", [{}, {"limit": 0, "delay": -1.0}, {"limit": True, "delay": 99.0}, {"limit": None}])
def test_what_makes_no_sense_is_not_loaded(learned: dict[str, float | int | None]) -> None:
    limit = Limit(2, None, Random(1))
    limit.load(learned)
    assert (limit.value, limit.delay) == (2, 0.0)


def test_a_learned_limit_does_not_exceed_a_new_ceiling() -> None:
    limit = Limit(None, 4, Random(1))
    limit.load({"limit": 9, "delay": 0.0})
    assert limit.value == 4


def test_reports_about_what_is_over_change_nothing() -> None:
    driver = Driver(2)
    (one,) = driver.run(1)
    driver.limit.end(one, driver.now)
    driver.limit.end(one, driver.now + 1)
    driver.refuse(one)
    driver.limit.head(one, driver.now)
    assert driver.judged() == 2
    assert one.ended_at == NOW
