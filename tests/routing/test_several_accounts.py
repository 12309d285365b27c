"""Several accounts: which one is asked, where a session stays, and what happens when one fails, is used up or removed."""

from __future__ import annotations

from collections import Counter

import pytest

from claude_proxy.routing.choosing import CACHE, RETURN_WAITS
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.plan import TABLE, Event
from claude_proxy.routing.snapshot import position, predicted_wait, snapshot
from claude_proxy.routing.ticket import Candidates, Grant, Reason, Refusal, Ticket
from tests.routing.desk import CONCURRENCY, OVERLOAD, Desk

STOP = Refusal(Event.STOP, reason="1308")


def serve(desk: Desk, session: str, urgency: Urgency = Urgency.MAIN, seconds: float = 1.0) -> Ticket:
    """A request that is answered."""
    ticket = desk.ask(session, urgency)
    desk.head(ticket)
    desk.wait(seconds)
    desk.end(ticket)
    return ticket


def eject(desk: Desk, which: int = 0) -> None:
    """Let an account fail until it is out."""
    lane = desk.lanes[which]
    only = Candidates([[lane]])
    while not lane.ejection.returning:
        desk.fail(desk.ask("failing", candidates=only))
        desk.wait(0.6)


# -- choice


def test_the_first_tier_is_asked_first_and_the_next_one_when_it_is_full() -> None:
    desk = Desk(1, 1, fixed=True)
    ordered = Candidates([[desk.lanes[0]], [desk.lanes[1]]])
    tickets = [desk.ask(f"session {number}", candidates=ordered) for number in range(3)]
    assert [desk.sent.get(ticket) for ticket in tickets] == [*desk.lanes, None]


def test_new_sessions_are_spread_by_weight() -> None:
    desk = Desk(None, None)
    desk.lanes[0].weight = 3.0
    used = Counter(serve(desk, f"session {number}").lane for number in range(40))
    assert used[desk.lanes[0]] == 30


def test_an_account_that_is_added_later_does_not_get_all_sessions() -> None:
    desk = Desk(None)
    for number in range(20):
        serve(desk, f"session {number}")
    desk.lanes.append(desk.queue.lane("later"))
    desk.all = Candidates([desk.lanes])
    used = Counter(serve(desk, f"new {number}").lane for number in range(20))
    assert set(used.values()) == {10}


def test_whatever_account_is_free_first_takes_a_new_session() -> None:
    desk = Desk(1, 1, fixed=True)
    holders = [desk.ask("a"), desk.ask("b")]
    new = desk.ask("c")
    desk.end(holders[1])
    assert desk.sent[new] is holders[1].lane


# -- a session stays


def test_a_session_stays_with_the_account_that_has_its_cache() -> None:
    desk = Desk(2, 2, fixed=True)
    home = serve(desk, "s").lane
    for _ in range(10):
        assert serve(desk, "s").lane is home
        serve(desk, "another")


def test_it_waits_there_even_if_another_one_is_free() -> None:
    desk = Desk(1, 1, fixed=True)
    home = serve(desk, "s").lane
    first, second = desk.ask("s"), desk.ask("s")
    assert desk.sent[first] is home
    assert second in desk.waiting
    desk.head(first)
    desk.end(first)
    assert desk.sent[second] is home


def test_it_goes_elsewhere_rather_than_wait_for_more_than_a_minute() -> None:
    desk = Desk(1, 1, fixed=True)
    home = serve(desk, "s", seconds=20.0).lane
    desk.head(desk.ask("s"))
    tickets = desk.ask_many(8, "s", Urgency.SUBAGENT)
    desk.wait(6.0)
    elsewhere = [ticket for ticket in tickets if ticket in desk.sent]
    assert len(elsewhere) == 1
    assert desk.sent[elsewhere[0]] is not home
    assert elsewhere[0] not in tickets[:3], "those who come next stay"
    desk.head(*elsewhere)
    desk.end(*elsewhere)
    assert elsewhere[0].whose is not None
    assert elsewhere[0].whose.lane is home, "the session itself has not moved"


@pytest.mark.parametrize("waited", [59.0, 61.0])
def test_it_goes_elsewhere_after_a_minute_of_waiting_that_was_not_predicted(waited: float) -> None:
    """Requests of more urgent classes keep coming to its account, so that it is never its turn there."""
    desk = Desk(1, 1, fixed=True)
    home = serve(desk, "s").lane
    assert home is not None
    only = Candidates([[home]])
    desk.ask("other", candidates=only)
    ticket = desk.ask("s", Urgency.BACKGROUND)
    for _ in range(round(waited)):
        running = next(each for each, lane in desk.sent.items() if lane is home)
        desk.ask("other", candidates=only)
        desk.head(running)
        desk.end(running)
        desk.wait(1.0)
    desk.wait(5.0 * (waited > 60))
    assert (ticket in desk.waiting) == (waited < 60)


def test_it_is_free_again_when_its_cache_has_expired() -> None:
    desk = Desk(1, 1, fixed=True)
    home = serve(desk, "s").lane
    assert home is not None
    desk.head(desk.ask("holder", candidates=Candidates([[home]])))
    desk.wait(CACHE - 10)
    ticket = desk.ask("s")
    assert ticket in desk.waiting
    desk.leave(ticket)
    desk.wait(11)
    assert desk.is_sent(desk.ask("s"))


def test_a_session_whose_first_request_was_refused_may_go_anywhere() -> None:
    desk = Desk(1, 1, fixed=True)
    ticket = desk.ask("s")
    home = ticket.lane
    desk.refuse(ticket, CONCURRENCY)
    assert desk.is_sent(ticket)
    assert ticket.lane is not home


@pytest.mark.parametrize("refusal", [CONCURRENCY, Refusal(Event.RATE, retry_after=2.0)])
def test_a_session_with_a_cache_waits_out_a_refusal_that_passes(refusal: Refusal) -> None:
    desk = Desk(2, 2, fixed=True)
    home = serve(desk, "s").lane
    ticket = desk.ask("s")
    desk.refuse(ticket, refusal)
    assert ticket in desk.waiting
    desk.wait(3)
    assert desk.sent[ticket] is home


# -- failures


@pytest.mark.parametrize("refusal", [OVERLOAD, STOP, Refusal(Event.RATE, retry_after=3600.0)])
def test_what_one_account_refuses_another_one_answers(refusal: Refusal) -> None:
    desk = Desk(2, 2, fixed=True)
    home = serve(desk, "s").lane
    ticket = desk.ask("s")
    desk.refuse(ticket, refusal)
    assert desk.is_sent(ticket)
    assert ticket.lane is not home


@pytest.mark.parametrize("event", [Event.UNREACHABLE, Event.CERTIFICATE])
def test_an_account_that_cannot_be_reached_is_replaced_at_once(event: Event) -> None:
    desk = Desk(None, None, None)
    ticket = desk.ask()
    tried = {ticket.lane}
    for _ in range(2):
        desk.fail(ticket, event)
        assert desk.is_sent(ticket)
        assert ticket.lane not in tried
        tried.add(ticket.lane)


def test_what_may_have_been_worked_on_goes_nowhere_else() -> None:
    desk = Desk(None, None)
    ticket = desk.ask()
    desk.fail(ticket, Event.BROKEN)
    assert desk.passed(ticket).event is Event.BROKEN


def test_when_all_have_refused_the_last_refusal_is_passed_on() -> None:
    desk = Desk(None, None)
    ticket = desk.ask()
    for _ in range(2):
        desk.refuse(ticket, STOP)
    assert desk.passed(ticket).retry is False
    assert desk.refusal(desk.ask()).reason is Reason.OUT


def test_those_who_wait_go_elsewhere_when_their_account_is_used_up() -> None:
    desk = Desk(1, 1, fixed=True)
    home = serve(desk, "s").lane
    first, second = desk.ask("s"), desk.ask("s")
    assert second in desk.waiting
    desk.refuse(first, STOP)
    assert desk.is_sent(first)
    assert first.lane is not home
    desk.end(first)
    assert desk.is_sent(second)


# -- ejection


def test_an_ejected_account_is_not_asked_while_another_one_is_there() -> None:
    desk = Desk(None, None)
    eject(desk)
    assert all(serve(desk, f"session {number}").lane is desk.lanes[1] for number in range(5))


def test_a_session_leaves_an_ejected_account() -> None:
    desk = Desk(None, None)
    home = serve(desk, "s").lane
    assert home is not None
    eject(desk, desk.lanes.index(home))
    assert desk.ask("s").lane is not home


def test_if_all_are_out_the_one_that_returns_first_is_asked() -> None:
    desk = Desk(None, None)
    eject(desk, 0)
    eject(desk, 1)
    first = min(desk.lanes, key=lambda lane: lane.ejection.until)
    assert first.ejection.until > desk.now
    assert desk.ask("s").lane is first


def test_a_returning_account_is_tried_by_one_request_of_a_low_class() -> None:
    desk = Desk(None, None)
    eject(desk)
    desk.wait(desk.lanes[0].ejection.until - desk.now + 0.1)
    desk.lanes[1].spread = 99.0
    assert desk.ask("main", Urgency.MAIN).lane is desk.lanes[1]
    trial = desk.ask("sub", Urgency.SUBAGENT)
    assert trial.lane is desk.lanes[0]
    assert desk.ask("sub 2", Urgency.SUBAGENT).lane is desk.lanes[1], "one is enough"
    desk.head(trial)
    desk.end(trial)
    assert desk.ask("main 2", Urgency.MAIN).lane is desk.lanes[0]


def test_where_only_main_agents_ask_one_of_them_tries_it_in_the_end() -> None:
    desk = Desk(None, None)
    eject(desk)
    desk.wait(desk.lanes[0].ejection.until - desk.now + RETURN_WAITS + 1)
    desk.lanes[1].spread = 99.0
    assert desk.ask("main", Urgency.MAIN).lane is desk.lanes[0]


def test_an_account_that_is_new_gets_its_share_of_new_sessions_and_not_all_of_them() -> None:
    desk = Desk(None, None)
    for number in range(20):
        serve(desk, f"before {number}")
    desk.lanes.append(desk.queue.lane("new", start=None))
    desk.all = Candidates([desk.lanes])
    lanes = [serve(desk, f"after {number}").lane for number in range(30)]
    assert [lanes.count(lane) for lane in desk.lanes] == [10, 10, 10]


def test_while_one_of_three_is_healthy_no_client_sees_a_refusal() -> None:
    """Three accounts fail in turn under many sessions, in ways that may be repeated."""
    desk = Desk(None, None, None)
    for second in range(600):
        down = second // 200
        for number in range(5):
            desk.ask(f"session {number}", Urgency.SUBAGENT if number % 2 else Urgency.MAIN)
        for _ in range(3):
            for ticket, lane in list(desk.sent.items()):
                if lane is desk.lanes[down]:
                    desk.fail(ticket, Event.UNREACHABLE)
        desk.head(*desk.sent)
        desk.end(*desk.sent)
        desk.wait(1.0)
    assert {how for how in desk.done.values() if how != "ended"} == set()


# -- reload


def test_a_removed_account_finishes_what_it_has() -> None:
    desk = Desk(1, 1, fixed=True)
    running = serve(desk, "s").lane
    assert running is not None
    one, two = desk.ask("s"), desk.ask("s")
    desk.carry_out(desk.queue.drain(running, desk.now))
    assert one in desk.sent
    assert two in desk.sent
    assert two.lane is not running
    desk.end(one)
    assert running.name not in desk.queue.lanes
    assert desk.ask("s") in desk.waiting


def test_who_waits_for_a_removed_account_goes_to_its_heirs() -> None:
    desk = Desk(1, 1, fixed=True)
    old, new = desk.lanes
    only = Candidates([[old]])
    holder, waiting = desk.ask("s", candidates=only), desk.ask("s", candidates=only)
    desk.carry_out(desk.queue.drain(old, desk.now, Candidates([[new]])))
    assert desk.sent[waiting] is new
    assert desk.sent[holder] is old


def test_without_heirs_they_are_told_to_come_again() -> None:
    desk = Desk(1, fixed=True)
    desk.ask()
    waiting = desk.ask()
    desk.carry_out(desk.queue.drain(desk.lane, desk.now))
    refusal = desk.refusal(waiting)
    assert (refusal.reason, refusal.retry) == (Reason.GONE, True)
    assert desk.refusal(desk.ask()).reason is Reason.GONE


def test_an_account_keeps_what_it_has_learned_over_a_reload() -> None:
    desk = Desk(None)
    tickets = desk.ask_many(3)
    desk.refuse(tickets[2])
    desk.wait(1)
    same = desk.queue.lane("account 0", start=2, weight=2.0)
    assert same is desk.lane
    assert (same.limit.value, same.weight) == (2, 2.0)


def test_an_unused_account_can_be_discarded() -> None:
    desk = Desk(1, 1)
    ticket = desk.ask(candidates=Candidates([[desk.lane]]))
    assert not desk.queue.discard(desk.lane)
    desk.end(ticket)
    assert desk.queue.discard(desk.lane)
    assert list(desk.queue.lanes) == ["account 1"]


# -- a request that failed somewhere

NOT_THIS_MODEL = Refusal(Event.STOP, until=0.0, reason="1220")


def failing_beside_a_busy_one() -> tuple[Desk, Ticket]:
    """A request that runs at the first of two accounts; the other one is busy for long."""
    desk = Desk(None, 1, fixed=True)
    holder = desk.ask("holder", candidates=Candidates([[desk.lanes[1]]]))
    desk.head(holder)
    return desk, desk.ask("s")


def goes_wrong(desk: Desk, ticket: Ticket, how: Refusal | Event) -> None:
    if isinstance(how, Refusal):
        desk.refuse(ticket, how)
    else:
        desk.fail(ticket, how)


RETRIED = pytest.mark.parametrize(
    ("how", "delays"),
    [(OVERLOAD, TABLE[Event.OVERLOAD].delays), (Event.UNREACHABLE, TABLE[Event.UNREACHABLE].delays)],
    ids=["overloaded", "unreachable"],
)


@RETRIED
def test_it_comes_back_after_the_usual_delay_while_the_others_are_busy(how: Refusal | Event, delays: tuple[float, ...]) -> None:
    desk, ticket = failing_beside_a_busy_one()
    goes_wrong(desk, ticket, how)
    desk.wait(0.9 * delays[0])
    assert ticket in desk.waiting
    desk.wait(0.2 * delays[0])
    assert desk.sent[ticket] is desk.lanes[0]
    assert desk.lanes[0].bucket.tokens == 9.0, "it is one of the hidden retries, which are bounded"


@RETRIED
def test_it_comes_back_no_more_often_than_to_a_single_account(how: Refusal | Event, delays: tuple[float, ...]) -> None:
    desk, ticket = failing_beside_a_busy_one()
    for delay in (*delays, 0.0):
        assert ticket in desk.sent
        goes_wrong(desk, ticket, how)
        desk.wait(1.1 * delay)
    desk.wait(100)
    assert ticket in desk.waiting


def test_when_all_have_failed_it_goes_back_to_one_that_may_be_well_again() -> None:
    """The last one that failed is unreachable for good; the one that was overloaded before is asked again."""
    desk = Desk(None, None)
    ticket = desk.ask("s", candidates=Candidates([[desk.lanes[0]], [desk.lanes[1]]]))
    desk.refuse(ticket, OVERLOAD)
    while desk.sent.get(ticket) is desk.lanes[1]:
        desk.fail(ticket, Event.UNREACHABLE)
        desk.wait(1.3)
    desk.wait(2.0)
    assert desk.sent[ticket] is desk.lanes[0]


def test_when_all_have_failed_as_often_as_they_may_the_last_failure_is_passed_on() -> None:
    desk = Desk(None, None)
    ticket = desk.ask("s")
    for _ in range(20):
        if ticket not in desk.sent:
            break
        desk.fail(ticket, Event.UNREACHABLE)
        desk.wait(1.3)
    assert desk.passed(ticket).event is Event.UNREACHABLE
    assert max(Counter(action.lane for action in desk.log if isinstance(action, Grant)).values()) <= 4


@pytest.mark.parametrize("how", [Event.CERTIFICATE, NOT_THIS_MODEL], ids=["certificate", "another model only"])
def test_it_does_not_come_back_where_trying_again_cannot_help(how: Refusal | Event) -> None:
    desk, ticket = failing_beside_a_busy_one()
    goes_wrong(desk, ticket, how)
    desk.wait(250)
    assert ticket in desk.waiting


def test_it_comes_back_when_the_used_up_window_is_over() -> None:
    desk, ticket = failing_beside_a_busy_one()
    desk.refuse(ticket, Refusal(Event.STOP, until=desk.now + 40.0, reason="1308"))
    desk.wait(39.9)
    assert ticket in desk.waiting
    desk.wait(0.2)
    assert desk.sent[ticket] is desk.lanes[0]


# -- what is shown


@pytest.mark.parametrize(("accounts", "state"), [(1, "failing"), (2, "ejected")])
def test_an_ejected_account_that_is_the_only_one_is_shown_as_failing(accounts: int, state: str) -> None:
    desk = Desk(*[None] * accounts)
    eject(desk)
    shown = snapshot(desk.queue, desk.now).lanes[0]
    assert shown.state == state
    assert (shown.back_at is None) == (state == "failing")
    assert (desk.sent[desk.ask("s")] is desk.lanes[0]) == (state == "failing")


def test_the_snapshot_tells_the_state_of_each_account() -> None:
    desk = Desk(1, 2, fixed=True)
    desk.refuse(
        desk.ask("s", candidates=Candidates([[desk.lanes[1]]])), Refusal(Event.STOP, until=desk.now + 50.0, reason="1308")
    )
    holder = desk.ask("h", candidates=Candidates([[desk.lanes[0]]]))
    desk.head(holder)
    desk.wait(5)
    desk.ask("w", candidates=Candidates([[desk.lanes[0]]]))
    shown = snapshot(desk.queue, desk.now)
    one, two = shown.lanes
    assert (one.name, one.limit, one.ceiling, one.in_flight, one.held, one.waiting) == ("account 0", 1, 1, 1, 1, 1)
    assert (two.out_until, two.out_reason) == (desk.now + 45.0, "1308")
    assert (one.out_until, one.paused_until, one.ejected_until, one.starts_per_minute) == (None, None, None, None)
    assert (one.ejections, one.failures, one.retries, one.draining) == (0, 0, 10.0, False)
    assert shown.oldest == desk.now
    assert (shown.waiting, shown.kept) == (1, 0)


def test_each_waiting_request_knows_its_place() -> None:
    desk = Desk(1, fixed=True)
    holder = desk.ask("holder")
    desk.head(holder)
    subs = desk.ask_many(3, "s", Urgency.SUBAGENT)
    main = desk.ask("s", Urgency.MAIN)
    assert [position(ticket, desk.now) for ticket in [main, *subs]] == [1, 2, 3, 4]
    assert position(holder, desk.now) is None
    assert predicted_wait(holder, desk.now) is None
    assert predicted_wait(subs[2], desk.now) == pytest.approx(4 * desk.lane.mean)
    desk.lane.take_out(desk.now, float("inf"), "401")
    assert predicted_wait(main, desk.now) is None
