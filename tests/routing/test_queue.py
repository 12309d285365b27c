"""One account: who waits, how long, whose place is kept, and what becomes of refusals."""

from __future__ import annotations

import pytest

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.lane import OUT_PROBE
from claude_proxy.routing.plan import Event
from claude_proxy.routing.ticket import Reason, Refusal
from tests.routing.desk import CONCURRENCY, OVERLOAD, RATE, Desk

STOP = Event.STOP


def test_without_a_limit_everything_is_sent_at_once() -> None:
    desk = Desk(None)
    tickets = desk.ask_many(200)
    assert all(desk.is_sent(ticket) for ticket in tickets)
    desk.head(*tickets)
    desk.end(*tickets)
    assert desk.queue.next_wake(desk.now) is None


def test_with_a_limit_the_others_wait_for_an_end() -> None:
    desk = Desk(2)
    one, two, three = desk.ask_many(3)
    assert [desk.is_sent(ticket) for ticket in (one, two, three)] == [True, True, False]
    desk.head(one, two)
    desk.end(one)
    assert desk.is_sent(three)


def test_a_burst_without_a_limit_becomes_a_queue() -> None:
    """Twenty subagents start at once at an upstream that lets two run: no client sees a refusal."""
    desk = Desk(None)
    tickets = desk.ask_many(20)
    for ticket in tickets[2:]:
        desk.refuse(ticket)
    desk.head(*tickets[:2])
    desk.wait(1.0)
    assert desk.lane.limit.value == 2
    desk.wait(5.0)
    assert set(desk.sent) == set(tickets[:2])
    assert len(desk.waiting) == 18
    assert not desk.done


def test_a_refused_request_keeps_its_seniority() -> None:
    desk = Desk(1)
    first = desk.ask()
    desk.wait(5)
    second = desk.ask()
    desk.refuse(first)
    desk.wait(2)
    assert desk.is_sent(first)
    assert not desk.is_sent(second)


def test_after_a_refusal_the_account_rests_and_then_tries_one() -> None:
    desk = Desk(5)
    tickets = desk.ask_many(5)
    for ticket in tickets:
        desk.refuse(ticket)
    assert not desk.sent
    desk.wait(1.3)
    assert len(desk.sent) == 1
    desk.head(*desk.sent)
    assert len(desk.sent) == 5


# -- how long


@pytest.mark.parametrize("urgency", [Urgency.BLOCKING, Urgency.MAIN, Urgency.SUBAGENT, Urgency.WORKFLOW])
def test_at_its_deadline_a_request_is_told_to_come_again(urgency: Urgency) -> None:
    desk = Desk(1, fixed=True)
    desk.head(desk.ask())
    late = desk.ask(urgency=urgency, patience=48.0, body="b")
    desk.wait(47.9)
    assert late in desk.waiting
    desk.wait(0.2)
    refusal = desk.refusal(late)
    assert (refusal.reason, refusal.retry_after, refusal.retry, refusal.kept) == (Reason.DEADLINE, 5.0, True, True)


def test_a_background_request_is_told_not_to_come_again() -> None:
    desk = Desk(1, fixed=True)
    desk.head(desk.ask())
    title = desk.ask(urgency=Urgency.BACKGROUND, patience=48.0, body="b")
    desk.wait(49)
    assert not desk.refusal(title).retry
    assert not desk.refusal(title).kept


def test_the_deadline_is_kept_when_the_timer_is_late() -> None:
    """A deadline that is only looked at by the timer would be missed by an end that comes first."""
    desk = Desk(1)
    first = desk.ask()
    desk.head(first)
    late = desk.ask(patience=10.0)
    desk.now += 11.0
    desk.end(first)
    assert not desk.is_sent(late)
    desk.wait(0.0)
    assert desk.refusal(late).reason is Reason.DEADLINE


def test_the_deadline_holds_across_refusals() -> None:
    desk = Desk(1)
    ticket = desk.ask(patience=10.0)
    while ticket not in desk.done:
        if ticket in desk.sent:
            desk.refuse(ticket)
        desk.wait(0.5)
    assert desk.refusal(ticket).reason is Reason.DEADLINE
    assert desk.now <= 1000.0 + 11.0


def test_whoever_does_not_want_to_wait_is_served_or_refused_at_once() -> None:
    desk = Desk(1)
    assert desk.is_sent(desk.ask(patience=0.0))
    assert desk.refusal(desk.ask(patience=0.0)).reason is Reason.DEADLINE


# -- places


def full(desk: Desk) -> None:
    desk.head(desk.ask("holder"))


def test_the_same_request_sent_again_resumes_its_place() -> None:
    desk = Desk(1, fixed=True)
    holder = desk.ask("holder")
    desk.head(holder)
    first = desk.ask("a", patience=48.0, body="b")
    desk.wait(30.0)
    other = desk.ask("a", body="another")
    desk.wait(20.0)
    assert first in desk.done
    desk.wait(6.0)
    again = desk.ask("a", body="b")
    assert again.seq == first.seq
    assert again.since == first.since
    desk.end(holder)
    assert desk.is_sent(again)
    assert not desk.is_sent(other)


def test_a_place_is_kept_for_a_minute_and_for_one() -> None:
    desk = Desk(1, fixed=True)
    full(desk)
    late = desk.ask("a", patience=10.0, body="b")
    desk.wait(11.0)
    assert late in desk.done
    again = desk.ask("a", body="b")
    copy = desk.ask("a", body="b")
    assert again.since == copy.since == late.since
    desk.leave(again, copy)
    assert desk.ask("a", body="b").since == desk.now, "who has left has no place"

    desk.wait(290)
    desk.wait(61)
    assert desk.ask("a", body="b").since == desk.now


@pytest.mark.parametrize(("session", "body"), [("a", "c"), ("z", "b")])
def test_another_request_does_not_take_the_place(session: str, body: str) -> None:
    desk = Desk(1, fixed=True)
    full(desk)
    late = desk.ask("a", patience=10.0, body="b")
    desk.wait(11.0)
    assert late in desk.done
    assert desk.ask(session, body=body).since == desk.now


def test_seven_attempts_of_48_seconds_wait_as_one() -> None:
    """The queue is full for eight minutes; the place is kept over all attempts, so ageing goes on too."""
    desk = Desk(1, fixed=True)
    holder = desk.ask("holder")
    desk.head(holder)
    begin = desk.now
    ticket = desk.ask("a", Urgency.SUBAGENT, patience=48.0, body="b")
    later = desk.ask("b", Urgency.SUBAGENT, patience=10_000.0, body="c")
    while desk.now < begin + 480:
        desk.wait(1.0)
        if ticket in desk.done:
            desk.wait(5.5)
            ticket = desk.ask("a", Urgency.SUBAGENT, patience=48.0, body="b")
    assert ticket.since == begin
    desk.end(holder)
    assert desk.is_sent(ticket)
    assert not desk.is_sent(later)


def test_the_same_request_twice_the_newer_is_served_first() -> None:
    desk = Desk(1)
    holder = desk.ask("holder")
    desk.head(holder)
    older = desk.ask("a", body="b")
    between = desk.ask("a", body="other")
    newer = desk.ask("a", body="b")
    desk.end(holder)
    assert desk.is_sent(newer)
    desk.end(newer)
    assert desk.is_sent(between)
    desk.end(between)
    assert desk.is_sent(older), "its answer is its own"


def test_the_identity_is_computed_once_and_only_if_a_request_waits() -> None:
    desk = Desk(1)
    assert desk.ask(body="b").key is None
    waiting = desk.ask(body="c")
    assert waiting.key == ("s", "c")
    waiting.identity = None
    desk.end(*desk.sent)
    desk.refuse(waiting)
    assert waiting.key == ("s", "c")


# -- bounds


def test_when_too_many_wait_the_youngest_of_the_largest_session_goes() -> None:
    desk = Desk(1, most=5)
    full(desk)
    large = desk.ask_many(3, "large")
    small = desk.ask_many(2, "small")
    newcomer = desk.ask("new", Urgency.SUBAGENT, body="n")
    refusal = desk.refusal(large[-1])
    assert (refusal.reason, refusal.retry_after) == (Reason.FULL, 45.0)
    assert newcomer in desk.waiting
    assert all(ticket in desk.waiting for ticket in [*large[:2], *small])


def test_subagents_go_before_main_agents_and_those_before_tool_checks() -> None:
    desk = Desk(1, most=3)
    full(desk)
    check = desk.ask("large", Urgency.BLOCKING)
    mains = desk.ask_many(1, "large", Urgency.MAIN)
    sub = desk.ask("small", Urgency.SUBAGENT)
    desk.ask("large", Urgency.BLOCKING)
    assert sub in desk.done
    desk.ask("other", Urgency.BLOCKING)
    assert mains[0] in desk.done
    last = desk.ask("large", Urgency.BLOCKING)
    assert last in desk.done, "it is the youngest of the largest session itself"
    assert check in desk.waiting


def test_a_refused_request_that_comes_back_into_a_full_room_can_be_the_one_to_go() -> None:
    desk = Desk(1, most=2)
    ticket = desk.ask("a", Urgency.SUBAGENT)
    desk.ask_many(2, "b", Urgency.MAIN)
    desk.refuse(ticket)
    assert desk.refusal(ticket).reason is Reason.FULL


# -- leaving


def test_who_leaves_gives_up_the_place_at_once() -> None:
    desk = Desk(1)
    holder = desk.ask()
    desk.head(holder)
    gone, next_one = desk.ask(), desk.ask()
    desk.leave(gone)
    desk.end(holder)
    assert desk.is_sent(next_one)
    assert gone not in desk.grants()


def test_who_leaves_while_being_served_gives_the_slot_back() -> None:
    desk = Desk(1)
    holder, next_one = desk.ask_many(2)
    desk.leave(holder)
    assert desk.is_sent(next_one)
    assert desk.lane.ejection.row == 0, "that is no failure of the upstream"


def test_a_slot_comes_back_whenever_the_client_leaves() -> None:
    """At each step of a request's life."""
    for steps in range(5):
        desk = Desk(1)
        ticket = desk.ask(body="b")
        if steps >= 1:
            desk.refuse(ticket)
        if steps >= 2:
            desk.wait(2.0)
        if steps >= 3:
            desk.head(ticket)
        if steps >= 4:
            desk.wait(10.0)
        desk.leave(ticket)
        desk.wait(100.0)
        assert desk.is_sent(desk.ask()), f"after step {steps}"


# -- probes


def test_a_probe_raises_the_limit() -> None:
    desk = Desk(2)
    desk.head(*desk.ask_many(2))
    waiting = desk.ask_many(2)
    desk.wait(15.1)
    assert desk.is_sent(waiting[0])
    desk.head(waiting[0])
    assert desk.lane.limit.value == 3


def test_a_refused_probe_returns_to_its_own_place_and_no_client_sees_it() -> None:
    desk = Desk(1)
    holder = desk.ask()
    desk.head(holder)
    first, second = desk.ask_many(2)
    desk.wait(15.1)
    assert desk.is_sent(first)
    desk.refuse(first)
    assert first in desk.waiting
    assert desk.lane.limit.value == 1
    assert desk.lane.pace.calm, "the others need not rest for it"
    desk.end(holder)
    assert desk.is_sent(first)
    assert second in desk.waiting


def test_a_probe_is_a_request_of_the_lowest_class() -> None:
    desk = Desk(1)
    desk.head(desk.ask())
    tickets = [desk.ask("s", urgency) for urgency in (Urgency.MAIN, Urgency.WORKFLOW, Urgency.SUBAGENT, Urgency.WORKFLOW)]
    desk.wait(15.1)
    assert [desk.is_sent(ticket) for ticket in tickets] == [False, True, False, False]


def test_a_request_that_cannot_be_sent_again_is_no_probe() -> None:
    desk = Desk(1)
    desk.head(desk.ask())
    desk.ask(can_resend=False)
    desk.wait(100.0)
    assert len(desk.sent) == 1


def test_nothing_is_probed_while_nobody_waits() -> None:
    desk = Desk(1)
    desk.head(desk.ask())
    desk.wait(1000.0)
    assert desk.queue.next_wake(desk.now) is None


# -- what an upstream refuses otherwise


def test_a_refusal_reaches_the_client_if_the_request_cannot_be_sent_again() -> None:
    desk = Desk(2)
    ticket = desk.ask(can_resend=False)
    desk.refuse(ticket)
    assert desk.passed(ticket).event is Event.CONCURRENCY


def test_a_rate_refusal_rests_the_account_and_leaves_the_limit() -> None:
    desk = Desk(3)
    desk.head(*desk.ask_many(2))
    ticket = desk.ask()
    desk.refuse(ticket, RATE)
    desk.wait(0.7)
    assert not desk.is_sent(ticket)
    desk.wait(30)
    assert desk.is_sent(ticket) or desk.lane.pace.cap is not None
    assert desk.lane.limit.value == 3


def test_a_rate_refusal_with_a_reset_far_away_is_passed_on_and_the_others_are_told() -> None:
    desk = Desk(2)
    ticket, other = desk.ask_many(2)
    waiting = desk.ask()
    desk.refuse(ticket, Refusal(Event.RATE, retry_after=3600.0, reason="tokens"))
    assert desk.passed(ticket).event is Event.RATE
    refusal = desk.refusal(waiting)
    assert (refusal.reason, refusal.retry, refusal.until) == (Reason.OUT, False, desk.now + 3600.0)
    assert desk.is_sent(other)


def test_an_overload_is_tried_twice_more() -> None:
    desk = Desk(None)
    ticket = desk.ask()
    times = []
    while ticket not in desk.done:
        desk.refuse(ticket, OVERLOAD)
        begin = desk.now
        while ticket in desk.waiting:
            desk.wait(0.1)
        times.append(desk.now - begin)
    assert len(times) == 3
    assert 1.5 <= times[0] <= 2.6
    assert 3.9 <= times[1] <= 6.2
    assert desk.passed(ticket).event is Event.OVERLOAD


def test_a_prompt_that_is_always_refused_is_not_tried_again() -> None:
    desk = Desk(None)
    for expected in (True, True, False, False):
        ticket = desk.ask(prompt="Agent SDK")
        desk.refuse(ticket, OVERLOAD)
        assert (ticket in desk.waiting) is expected
        if ticket in desk.waiting:
            desk.leave(ticket)
    other = desk.ask(prompt="another")
    desk.refuse(other, OVERLOAD)
    assert other in desk.waiting
    desk.leave(other)
    good = desk.ask(prompt="Agent SDK")
    desk.head(good)
    desk.end(good)
    ticket = desk.ask(prompt="Agent SDK")
    desk.refuse(ticket, OVERLOAD)
    assert ticket in desk.waiting, "an accepted one shows that it was the load"


def test_an_upstream_that_cannot_be_reached_is_tried_three_times_more() -> None:
    desk = Desk(None)
    ticket = desk.ask()
    for _ in range(3):
        desk.fail(ticket, Event.UNREACHABLE)
        assert ticket in desk.waiting
        desk.wait(1.5)
        assert desk.is_sent(ticket)
    desk.fail(ticket, Event.UNREACHABLE)
    assert desk.passed(ticket).event is Event.UNREACHABLE


@pytest.mark.parametrize("event", [Event.BROKEN, Event.CERTIFICATE, Event.STARTED])
def test_what_is_not_sent_again_ends(event: Event) -> None:
    desk = Desk(1)
    ticket, next_one = desk.ask_many(2)
    desk.fail(ticket, event)
    assert desk.passed(ticket).retry is None
    assert desk.is_sent(next_one)


def test_hidden_retries_are_bounded_together() -> None:
    desk = Desk(None)
    hidden = 0
    for _ in range(10):
        ticket = desk.ask()
        desk.refuse(ticket, OVERLOAD)
        hidden += ticket in desk.waiting
        desk.leave(*desk.waiting)
    assert hidden == 5


# -- out


def test_a_used_up_window_refuses_in_our_words_until_its_reset() -> None:
    desk = Desk(2)
    ticket = desk.ask()
    until = desk.now + 3 * 3600
    desk.refuse(ticket, Refusal(STOP, until=until, reason="1308"))
    assert desk.passed(ticket).retry is False
    refusal = desk.refusal(desk.ask())
    assert (refusal.reason, refusal.until, refusal.retry) == (Reason.OUT, until, False)
    desk.wait(3 * 3600 + 1)
    assert desk.is_sent(desk.ask())


def test_an_account_that_is_out_is_asked_every_ten_minutes() -> None:
    desk = Desk(2)
    desk.refuse(desk.ask(), Refusal(STOP, reason="401"))
    assert desk.refusal(desk.ask()).until is None
    desk.wait(OUT_PROBE)
    probe = desk.ask()
    assert desk.is_sent(probe)
    assert desk.ask() in desk.done, "one is enough"
    desk.refuse(probe, Refusal(STOP, reason="401"))
    assert desk.passed(probe).retry is False
    desk.wait(OUT_PROBE)
    probe = desk.ask()
    desk.head(probe)
    assert desk.is_sent(desk.ask()), "it has answered, so it is back"


def test_an_account_that_is_out_for_a_moment_is_waited_for() -> None:
    desk = Desk(2)
    desk.refuse(desk.ask(), Refusal(STOP, until=desk.now + 30.0))
    ticket = desk.ask()
    assert ticket in desk.waiting
    desk.wait(31)
    assert desk.is_sent(ticket)
    hasty = Desk(2)
    hasty.refuse(hasty.ask(), Refusal(STOP, until=hasty.now + 30.0))
    assert hasty.refusal(hasty.ask(patience=20.0)).reason is Reason.OUT


def test_a_later_stop_does_not_shorten_the_time_out() -> None:
    desk = Desk(2)
    one, two = desk.ask_many(2)
    desk.refuse(one, Refusal(STOP, until=desk.now + 5000))
    desk.refuse(two, Refusal(STOP, until=desk.now + 100))
    assert desk.refusal(desk.ask()).until == desk.now + 5000


def test_a_person_can_bring_an_account_back() -> None:
    desk = Desk(2)
    desk.refuse(desk.ask(), Refusal(STOP, reason="401"))
    desk.carry_out(desk.queue.readmit(desk.lane, desk.now))
    assert desk.is_sent(desk.ask())


def test_a_single_account_is_asked_even_when_it_fails() -> None:
    desk = Desk(None)
    for _ in range(10):
        ticket = desk.ask()
        desk.fail(ticket, Event.BROKEN)
        desk.wait(1)
    assert desk.lane.ejection.times
    assert desk.is_sent(desk.ask())


def test_a_stream_that_never_reached_its_stop_reason_is_a_failure() -> None:
    desk = Desk(None)
    for _ in range(5):
        ticket = desk.ask()
        desk.head(ticket)
        desk.wait(1)
        desk.end(ticket, ok=False)
    assert desk.lane.ejection.times == 1


# -- over a restart


def test_learned_limits_survive_a_restart() -> None:
    desk = Desk(None)
    tickets = desk.ask_many(5)
    for ticket in tickets[3:]:
        desk.refuse(ticket)
    desk.wait(1.0)
    learned = desk.queue.dump()
    assert learned == {"account 0": {"limit": 3, "delay": 0.0}}
    after = Desk()
    after.queue.load(learned)
    assert after.queue.dump() == learned, "accounts that are not there yet keep what was learned"
    assert after.queue.lane("account 0").limit.value == 3
    running = Desk(None)
    running.queue.load(learned)
    assert running.lane.limit.value == 3


# -- several processes share the accounts


@pytest.mark.parametrize(("whole", "parts", "share"), [(8, 1, 8), (8, 3, 2), (2, 2, 1), (2, 5, 1), (None, 3, None)])
def test_each_process_has_its_part_of_a_limit_and_at_least_one(whole: int | None, parts: int, share: int | None) -> None:
    before, after = Desk(whole), Desk()
    before.queue.divide(parts, before.now)
    after.queue.divide(parts, after.now)
    assert (before.lane.limit.value, after.queue.lane("new", start=whole).limit.value) == (share, share)


def test_a_learned_limit_is_divided_among_more_and_grows_by_probes_alone() -> None:
    desk = Desk(2)
    desk.lane.limit.load({"limit": 6})
    assert [divided(desk, parts) for parts in (2, 3, 1)] == [3, 2, 2]


def test_a_configured_limit_is_never_exceeded_by_all_together_and_returns_to_those_that_stay() -> None:
    desk = Desk(6, fixed=True)
    assert [divided(desk, parts) for parts in (4, 2, 1)] == [1, 3, 6]


def test_with_fewer_processes_those_that_wait_are_sent_at_once() -> None:
    desk = Desk(2, fixed=True)
    divided(desk, 2)
    tickets = desk.ask_many(3)
    assert [desk.is_sent(ticket) for ticket in tickets] == [True, False, False]
    divided(desk, 1)
    assert [desk.is_sent(ticket) for ticket in tickets] == [True, True, False]


@pytest.mark.parametrize(("parts", "learned"), [(1, 6), (2, 3), (3, 2), (10, 1)])
def test_what_is_kept_is_the_limit_of_the_whole_account(parts: int, learned: int) -> None:
    desk = Desk(2, None)
    desk.queue.load({"account 0": {"limit": 6, "delay": 0.5}})
    desk.queue.divide(parts, desk.now)
    assert [lane.limit.value for lane in desk.lanes] == [learned, None]
    assert desk.queue.dump()["account 0"] == {"limit": max(6 // parts, 1) * parts, "delay": 0.5}
    assert desk.queue.dump()["account 1"]["limit"] is None


def test_a_limit_that_nothing_was_learned_about_is_kept_as_it_is_configured() -> None:
    desk = Desk(2)
    desk.queue.divide(8, desk.now)
    assert desk.queue.dump() == {"account 0": {"limit": 2, "delay": 0.0}}


def divided(desk: Desk, parts: int) -> int | None:
    """The limit of the first account for one of so many processes."""
    desk.carry_out(desk.queue.divide(parts, desk.now))
    return desk.lane.limit.value


def test_the_clock_may_stand_still() -> None:
    desk = Desk(1)
    for _ in range(50):
        ticket = desk.ask()
        desk.wait(0.0)
        if ticket in desk.sent:
            desk.head(ticket)
            desk.end(ticket)
    assert not desk.waiting


def test_sessions_that_are_idle_are_forgotten_when_there_are_many() -> None:
    desk = Desk(None)
    for number in range(1500):
        ticket = desk.ask(f"session {number}")
        desk.end(ticket)
        desk.wait(1.0)
    assert len(desk.queue.sessions) < 1100


@pytest.mark.parametrize("refusal", [CONCURRENCY, RATE, OVERLOAD])
def test_no_refusal_that_passes_reaches_a_client_before_its_deadline(refusal: Refusal) -> None:
    desk = Desk(3)
    tickets = desk.ask_many(3)
    for ticket in tickets:
        desk.refuse(ticket, refusal)
    assert not desk.done
