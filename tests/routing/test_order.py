"""Who is served next: classes, ageing, the share of each session, and the slots that are left to those who may come."""

from __future__ import annotations

import pytest

from claude_proxy.routing.ageing import AGED, AGED_TO_MAIN, LAST_CALL, effective
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.fair import TITLE_WAITS
from claude_proxy.routing.lane import KEPT_SLOT
from claude_proxy.routing.plan import Event
from claude_proxy.routing.ticket import Candidates, Refusal, Ticket
from tests.routing.desk import START, Desk

BLOCKING, MAIN, SUBAGENT, WORKFLOW, BACKGROUND = Urgency
CLASSES = [WORKFLOW, MAIN, BACKGROUND, BLOCKING, SUBAGENT]


def busy(slots: int = 1, **more: int) -> tuple[Desk, list[Ticket]]:
    """A desk whose slots are taken by another session."""
    desk = Desk(slots, fixed=True, **more)
    holders = desk.ask_many(slots, "holder")
    desk.head(*holders)
    return desk, holders


def serve_all(desk: Desk, seconds: float = 1.0) -> list[Ticket]:
    """End what runs, one after the other, until nobody waits; returns who was served, in order."""
    before = len(desk.grants())
    while desk.sent:
        desk.wait(seconds)
        desk.end(next(iter(desk.sent)))
    return desk.grants()[before:]


def test_classes_are_served_in_their_order() -> None:
    desk, _ = busy()
    tickets = {urgency: desk.ask(str(urgency), urgency) for urgency in CLASSES}
    assert serve_all(desk, 0.5) == [tickets[urgency] for urgency in sorted(Urgency)]


def test_within_a_class_and_session_by_seniority() -> None:
    desk, _ = busy()
    tickets = desk.ask_many(5)
    assert serve_all(desk) == tickets


@pytest.mark.parametrize(
    ("urgency", "waited", "expected"),
    [
        (BACKGROUND, AGED - 0.1, BACKGROUND),
        (BACKGROUND, AGED, WORKFLOW),
        (BACKGROUND, 2 * AGED, SUBAGENT),
        (WORKFLOW, AGED, SUBAGENT),
        (SUBAGENT, AGED, SUBAGENT),
        (SUBAGENT, AGED_TO_MAIN - 0.1, SUBAGENT),
        (SUBAGENT, AGED_TO_MAIN, MAIN),
        (BACKGROUND, 10_000.0, MAIN),
        (MAIN, 10_000.0, MAIN),
        (BLOCKING, 10_000.0, BLOCKING),
    ],
)
def test_waiting_lifts_a_request_but_never_among_the_tool_checks(urgency: Urgency, waited: float, expected: Urgency) -> None:
    desk, _ = busy()
    ticket = desk.ask(urgency=urgency, patience=1e6)
    assert effective(ticket, ticket.since + waited) == expected


def test_a_tool_check_does_not_starve_behind_subagents() -> None:
    """Also not behind those that have waited for hours."""
    desk, holders = busy()
    desk.ask_many(20, "s", SUBAGENT, patience=1e6)
    desk.wait(7200)
    check = desk.ask("s", BLOCKING)
    desk.end(*holders)
    assert desk.is_sent(check)


def test_after_two_tool_checks_another_class_is_served() -> None:
    desk, _ = busy()
    checks = [desk.ask(f"check {number}", BLOCKING) for number in range(5)]
    main = desk.ask("main", MAIN)
    sub = desk.ask("sub", SUBAGENT)
    served = serve_all(desk)
    assert served.index(main) == 2
    assert served.index(sub) == 5 or served.index(sub) == 6
    assert [ticket for ticket in served if ticket in checks] == checks


def test_a_main_agent_waits_less_than_its_subagents() -> None:
    desk, holders = busy(2)
    desk.ask_many(20, "s", SUBAGENT)
    main = desk.ask("s", MAIN)
    desk.end(holders[0])
    assert desk.is_sent(main)


# -- the share of each session


def test_sessions_share_by_time_not_by_number() -> None:
    """One session's requests take 30 s, the other's 10 s: both get the same slot-seconds."""
    desk = Desk(1, fixed=True)
    used = {"long": 0.0, "short": 0.0}
    for _ in range(400):
        for session in used:
            while sum(ticket.session == session for ticket in [*desk.waiting, *desk.sent]) < 3:
                desk.ask(session, SUBAGENT, patience=1e9)
        ticket = next(iter(desk.sent))
        seconds = 30.0 if ticket.session == "long" else 10.0
        desk.head(ticket)
        desk.wait(seconds)
        used[str(ticket.session)] += seconds
        desk.end(ticket)
    assert max(used.values()) / min(used.values()) <= 1.1


def test_many_subagents_do_not_push_another_session_aside() -> None:
    desk, _ = busy()
    desk.ask_many(20, "large", SUBAGENT)
    small = desk.ask_many(2, "small", SUBAGENT)
    served = serve_all(desk, 20.0)
    assert served.index(small[0]) <= 2
    assert served.index(small[1]) <= 4


def test_a_session_that_comes_back_gets_no_credit_for_its_absence() -> None:
    desk = Desk(1, fixed=True)
    desk.end(desk.ask("idle", SUBAGENT))
    for _ in range(50):
        ticket = desk.ask("busy", SUBAGENT)
        desk.wait(20)
        desk.end(ticket)
    desk.ask("busy", SUBAGENT)
    desk.ask_many(10, "idle", SUBAGENT, patience=1e6)
    desk.ask_many(10, "busy", SUBAGENT, patience=1e6)
    served = [ticket.session for ticket in serve_all(desk, 20.0)][:10]
    assert 4 <= served.count("idle") <= 6


def test_a_refused_request_costs_its_session_nothing() -> None:
    desk = Desk(1)
    ticket = desk.ask("s")
    assert ticket.whose is not None
    before = ticket.whose.virtual
    desk.refuse(ticket)
    assert ticket.whose.virtual == before - 20.0


@pytest.mark.parametrize("refusal", [Refusal(Event.CONCURRENCY), Refusal(Event.RATE, 1.0)], ids=["concurrency", "rate"])
def test_a_refused_tool_check_stays_first_however_often_it_is_refused(refusal: Refusal) -> None:
    """After two served checks in a row another class is served; a check that was refused has not been served."""
    desk = Desk(2)
    ends, _ = running = desk.ask_many(2, "s", MAIN)
    desk.head(*running)
    check = desk.ask("s", BLOCKING)
    desk.end(ends)  # so that a slot given back late explains the refusals
    subagent = desk.ask("s", SUBAGENT)
    for _ in range(5):
        desk.refuse(check, refusal)
        desk.wait(desk.lane.pace.until - desk.now)
        assert (desk.is_sent(check), desk.is_sent(subagent)) == (True, False)


# -- slots that are left free


def test_one_slot_is_kept_for_a_main_agent_that_was_just_here() -> None:
    desk = Desk(3, fixed=True)
    main = desk.ask("s", MAIN)
    subs = desk.ask_many(4, "s", SUBAGENT)
    assert [desk.is_sent(ticket) for ticket in subs] == [True, True, False, False]
    desk.head(*desk.sent)
    desk.end(main)
    assert not desk.is_sent(subs[2])
    back = desk.ask("s", MAIN)
    assert desk.is_sent(back)
    desk.end(back)
    desk.wait(KEPT_SLOT - 0.1)
    assert not desk.is_sent(subs[2])
    desk.wait(0.2)
    assert desk.is_sent(subs[2])


@pytest.mark.parametrize("patience", [2.0, 8.0, 48.0, 288.0])
@pytest.mark.parametrize("urgency", [SUBAGENT, WORKFLOW, BACKGROUND])
def test_the_kept_slot_is_given_to_one_that_would_soon_be_told_to_come_again(patience: float, urgency: Urgency) -> None:
    """But not before it has waited for half of its time, and not to what nobody waits for."""
    desk = Desk(2, fixed=True)
    desk.head(desk.ask("s", SUBAGENT))
    desk.end(desk.ask("s", MAIN))
    ticket = desk.ask("s", urgency, patience=patience)
    last_call = max(patience / 2, patience - LAST_CALL)
    for passed in (0.0, 0.9 * last_call, 1.01 * last_call):
        while desk.now < START + passed and not desk.is_sent(ticket):
            desk.end(desk.ask("s", MAIN))
            desk.wait(min(1.0, START + passed - desk.now))
        assert desk.is_sent(ticket) == (passed > last_call and urgency is not BACKGROUND)


def test_the_kept_slot_serves_a_tool_check_too() -> None:
    desk = Desk(2, fixed=True)
    desk.end(desk.ask("s", MAIN))
    desk.ask_many(3, "s", SUBAGENT)
    assert desk.is_sent(desk.ask("s", BLOCKING))


@pytest.mark.parametrize("limit", [1, None])
def test_with_one_slot_or_without_a_limit_nothing_is_kept(limit: int | None) -> None:
    desk = Desk(limit, fixed=True)
    desk.end(desk.ask("s", MAIN))
    assert desk.is_sent(desk.ask("s", SUBAGENT))


def test_without_a_main_agent_subagents_use_all_slots() -> None:
    desk = Desk(3, fixed=True)
    assert all(desk.is_sent(ticket) for ticket in desk.ask_many(3, "s", SUBAGENT))


def test_a_title_does_not_overtake_its_main_turn() -> None:
    """It is sent up to 70 ms earlier."""
    desk = Desk(1, fixed=True)
    title = desk.ask("s", BACKGROUND)
    desk.wait(0.07)
    main = desk.ask("s", MAIN)
    assert desk.is_sent(main)
    assert not desk.is_sent(title)


def test_a_title_takes_the_last_slot_after_a_moment() -> None:
    desk = Desk(1, fixed=True)
    title = desk.ask("s", BACKGROUND)
    assert not desk.is_sent(title)
    desk.wait(TITLE_WAITS)
    assert desk.is_sent(title)


@pytest.mark.parametrize("limit", [2, None])
def test_a_title_goes_at_once_where_a_slot_is_left(limit: int | None) -> None:
    desk = Desk(limit, fixed=True)
    assert desk.is_sent(desk.ask("s", BACKGROUND))


def test_nobody_starves() -> None:
    """Titles and workflows are served although main agents, checks and subagents keep coming."""
    desk = Desk(2, fixed=True)
    waits = dict.fromkeys(Urgency, 0.0)
    for step in range(3000):
        for index, urgency in enumerate(Urgency):
            if step % 10 == index * 2:
                desk.ask(f"session {index % 2}", urgency, patience=1e9)
        for ticket in list(desk.sent):
            if ticket.lease is not None and desk.now - ticket.lease.sent_at >= 3.9:
                desk.end(ticket)
        desk.wait(1.0)
        for ticket in desk.sent:
            waits[ticket.urgency] = max(waits[ticket.urgency], desk.now - ticket.since)
    assert waits[BLOCKING] < 60
    assert waits[BLOCKING] <= waits[MAIN] <= waits[SUBAGENT] + 60
    assert all(desk.now - ticket.since < 1800 for ticket in desk.waiting)


def test_a_request_needs_an_account() -> None:
    with pytest.raises(ValueError, match="at least one account"):
        Candidates([[]])
