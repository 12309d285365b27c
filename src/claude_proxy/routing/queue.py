"""The queue: which waiting request is sent next, and with which account. Pure: the caller passes the time and does the I/O.

Each request is a `Ticket`. The caller reports what happens to it (`arrive`, `head`, `ended`, `refused`, `failed`, `leave`), calls
`tick` when `next_wake` says so, and carries out the actions that each call returns. One queue serves all accounts of a process,
because routes may share them; it decides at the moment when a slot becomes free, not when a request arrives ("late binding").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random

from claude_proxy.routing.choosing import avoid, bind, blocked, choose, facts_of
from claude_proxy.routing.classes import MAIN
from claude_proxy.routing.fair import Fair
from claude_proxy.routing.lane import GUESS, NEVER, OUT_PROBE, Lane, MakeLimit
from claude_proxy.routing.limit import PROBE_RETRY, Lease, Limit
from claude_proxy.routing.pace import JITTER
from claude_proxy.routing.plan import TABLE, Event, Step, plan
from claude_proxy.routing.sessions import Lanes, Learned, Sessions
from claude_proxy.routing.ticket import DONE, NEW, SENT, WAITING, Action, Candidates, Grant, Pass, Reason, Refusal, Ticket
from claude_proxy.routing.waiting import MOST, WaitingRoom


class Queue:
    """See above.

    Args:
        rng: for jitter.
        most: requests that may wait at once.
        order: who is next; the simulation passes others.
        make_limit: makes the learned limit of an account; the simulation passes others.

    Attributes:
        lanes: the accounts, by name.
        sessions: the sessions that share them.
        room: the waiting requests.
        arrived, sent: how many requests so far.
        watched: accounts with waiting requests, or refusals to be judged. If there are none, nothing will be due.
    """

    def __init__(self, rng: Random, *, most: int = MOST, order: Fair | None = None, make_limit: MakeLimit = Limit) -> None:
        self.sessions = Sessions()
        self.room = WaitingRoom(most)
        self._lanes = Lanes(rng, make_limit)
        self._rng = rng
        self._order = order or Fair()
        self.arrived = 0
        self.sent = 0
        self.watched: dict[Lane, None] = {}

    # -- accounts

    @property
    def lanes(self) -> Mapping[str, Lane]:
        return self._lanes.by_name

    def lane(self, name: str, *, start: int | None = None, ceiling: int | None = None, weight: float = 1.0) -> Lane:
        """The account `name`: a new one, or the one that there is, which keeps what it has learned.

        Args:
            start: the limit to begin with; None is unlimited until a refusal.
            ceiling: what the limit never exceeds (`max_concurrency`).
            weight: its share of new sessions.
        """
        return self._lanes.get(name, start, ceiling, weight)

    def divide(self, parts: int, now: float) -> list[Action]:
        """So many processes share the accounts: each has its part of their limits, at least 1."""
        self._lanes.divide(parts)
        return self._all_served(now)

    def drain(self, lane: Lane, now: float, heirs: Candidates | None = None) -> list[Action]:
        """An account was removed: it finishes what it has; what waits only for it goes to `heirs`, or is refused."""
        lane.draining = True
        actions: list[Action] = []
        for ticket in list(lane.waiting):
            if not all(other.draining for other in ticket.candidates.lanes):
                continue
            if heirs is None:
                actions.append(self.room.refuse(ticket, Reason.GONE, now))
            else:
                actions += self.move(ticket, heirs, now)
        self._serve(lane, now, actions)
        self._serve_all(now, actions)
        return actions

    def move(self, ticket: Ticket, candidates: Candidates, now: float) -> list[Action]:
        """A waiting request may use these accounts from now on, and no others; it keeps its seniority."""
        actions: list[Action] = []
        self.room.remove(ticket)
        ticket.candidates, ticket.avoided = candidates, {}
        self._wait(ticket, now, actions)
        return actions

    def readmit(self, lane: Lane, now: float) -> list[Action]:
        """A person, or a reload, says that an account that is out can be used again."""
        lane.out_until, lane.out_reason = 0.0, ""
        return self.served(lane, now)

    def discard(self, lane: Lane) -> bool:
        """Forget an account, such as a client's own credential that was not seen for long; False if it is in use."""
        if forgotten := self._lanes.forget(lane):
            self.watched.pop(lane, None)
        return forgotten

    def dump(self) -> dict[str, Learned]:
        """What was learned about each account, for `load` after a restart."""
        return self._lanes.dump()

    def load(self, learned: Mapping[str, Mapping[str, float | int | None]]) -> None:
        """Continue with what `dump` returned, for accounts that exist and those to come; what makes no sense is ignored."""
        self._lanes.load(learned)

    # -- one request

    def arrive(self, ticket: Ticket, now: float) -> list[Action]:
        """A request has come. If no action concerns it, it waits."""
        self.arrived = ticket.seq = self.arrived + 1
        session, lane = self.sessions.join(ticket, now), ticket.candidates.only
        if lane is not None and lane.is_easy:
            session.used_at = now
            return [self._send(ticket, lane, now)]
        if ticket.urgency is MAIN:
            for each in ticket.candidates.lanes if session.lane is None else (session.lane,):
                each.main_at = now
        if lane is not None and self._has_room(ticket, lane, now):
            session.used_at = now
            return [self._send(ticket, lane, now)]
        actions: list[Action] = []
        self._wait(ticket, now, actions)
        return actions

    def head(self, ticket: Ticket, now: float) -> list[Action]:
        """The head of a response has come that is neither a refusal nor a failure: the upstream works on the request."""
        lease, lane = ticket.lease, ticket.lane
        if lease is None or lane is None:
            return []
        lane.answered(ticket.prompt, lease, now)
        session = ticket.whose
        if session is not None and session.lane is lane and not session.warm:
            session.warm = True
            self.room.flows.touch(session)
        return self.served(lane, now) if lane.waiting else []

    def ended(self, ticket: Ticket, now: float, *, ok: bool = True) -> list[Action]:
        """A request is over after its head; `ok` is False if the answer did not get as far as its `stop_reason`."""
        lease, lane = ticket.lease, ticket.lane
        if lease is None or lane is None:
            return []
        if ok:
            if lane.ejection.row or lane.ejection.returning:
                lane.ejection.success(lease.sent_at)
        elif lane.ejection.failure(lease.sent_at, now):
            self._release(ticket, now)  # those who wait for the ejected account may go elsewhere
            return self._all_served(now)
        self._release(ticket, now)
        return self.served(lane, now) if lane in self.watched else []

    def leave(self, ticket: Ticket, now: float) -> list[Action]:
        """The client has disconnected, wherever its request was. Its place is not kept, and the account is not to blame."""
        lane = ticket.lane
        if ticket.state is WAITING:
            self.room.remove(ticket)
            ticket.state = DONE
            return []
        if ticket.lease is None or lane is None:
            return []
        self._release(ticket, now)
        return self.served(lane, now) if lane in self.watched else []

    def refused(self, ticket: Ticket, refusal: Refusal, now: float) -> list[Action]:
        """The upstream has refused a request explicitly. If no action concerns it, it waits again."""
        lease, lane = ticket.lease, ticket.lane
        if lease is None or lane is None:
            return []
        same_prompt = lane.refused(ticket, lease, refusal, now)
        if lane.limit.cases:
            self.watched[lane] = None
        return self._again(ticket, refusal.event, now, refusal.retry_after, same_prompt)

    def failed(self, ticket: Ticket, event: Event, now: float) -> list[Action]:
        """An attempt has failed without a refusal: UNREACHABLE, CERTIFICATE, BROKEN or STARTED."""
        lease, lane = ticket.lease, ticket.lane
        if lease is None or lane is None:
            return []
        ejected = lane.ejection.failure(lease.sent_at, now)
        lane.recovery.failed(ticket.prompt, lease.sent_at)
        actions = self._again(ticket, event, now)
        if ejected:
            self._serve_all(now, actions)
        return actions

    # -- time

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = [self.room.refuse(ticket, Reason.DEADLINE, now) for ticket in self.room.overdue(now)]
        for lane in [lane for lane in self.watched if lane.wake <= now]:
            self._serve(lane, now, actions)
        return actions

    def next_wake(self, now: float) -> float | None:
        """When to call `tick`; None as long as nothing happens before."""
        wake = self.room.soonest
        for lane in self.watched:
            if lane.wake < wake and (lane.waiting or lane.limit.cases):
                wake = lane.wake
        return None if math.isinf(wake) else max(wake, now)

    # -- inside: sending

    def served(self, lane: Lane, now: float) -> list[Action]:
        actions: list[Action] = []
        self._serve(lane, now, actions)
        return actions

    def _all_served(self, now: float) -> list[Action]:
        actions: list[Action] = []
        self._serve_all(now, actions)
        return actions

    def _serve_all(self, now: float, actions: list[Action]) -> None:
        for lane in list(self.watched):
            self._serve(lane, now, actions)

    def _serve(self, lane: Lane, now: float, actions: list[Action]) -> None:
        """Send what can be sent with an account, and note when to look at it again."""
        due = lane.limit.settle(now)
        wake = NEVER
        while lane.waiting:
            opens = lane.opens_at(now)
            lane.closed = opens is not None
            if opens is not None:
                due_probe = lane.probe_due(now)
                probe = self._order.pick_probe(lane, now) if due_probe is not None and due_probe <= now else None
                if probe is None:
                    wake = opens if due_probe is None else min(opens, due_probe if due_probe > now else now + PROBE_RETRY)
                    break
                actions.append(self._send(probe, lane, now, probe=True))
                continue
            ticket, wake = self._order.pick(lane, now)
            if ticket is None:
                break
            actions.append(self._send(ticket, choose(ticket, lane, now), now))
        lane.wake = wake if due is None else min(wake, due)
        if lane.waiting or due is not None:
            self.watched[lane] = None
        else:
            self.watched.pop(lane, None)
            if lane.draining:
                self._lanes.forget(lane)

    def _offer(self, ticket: Ticket, lane: Lane, now: float, actions: list[Action]) -> None:
        """Send a request that has just begun to wait, if `lane` has room: what waited there before has been looked at."""
        if lane not in self.watched or lane.wake <= now:
            self._serve(lane, now, actions)
        elif not lane.closed and lane.opens_at(now) is None:
            until = blocked(ticket, lane, now) or self._order.hold(ticket, lane, now)
            if until:
                lane.wake = min(lane.wake, until)
            else:
                actions.append(self._send(ticket, choose(ticket, lane, now), now))

    def _has_room(self, ticket: Ticket, lane: Lane, now: float) -> bool:
        """Whether it can be sent without having waited."""
        lane.limit.settle(now)
        return not lane.waiting and lane.opens_at(now) is None and not self._order.hold(ticket, lane, now)

    def _send(self, ticket: Ticket, lane: Lane, now: float, *, probe: bool = False) -> Grant:
        if ticket.state is WAITING:
            self.room.remove(ticket)
            bind(ticket, lane, now)
        self.sent += 1
        lease = Lease(self.sent, now, not ticket.refusals, probe)
        lane.limit.send(lease, now)
        lane.pace.send(lease, now)
        self.hold(ticket, lane, lease)
        return Grant(ticket, lane, probe)

    def hold(self, ticket: Ticket, lane: Lane, lease: Lease) -> None:
        """Account for a ticket that has been sent."""
        session = ticket.whose
        assert session is not None
        session.running += 1
        ticket.state, ticket.lease, ticket.lane = SENT, lease, lane
        lane.hold(ticket)
        self._order.granted(ticket, lane)
        if session.waiting:
            self.room.flows.touch(session)

    def _release(self, ticket: Ticket, now: float, *, sent: bool = True) -> None:
        """Give the slot back."""
        lease, lane, session = ticket.lease, ticket.lane, ticket.whose
        assert lease is not None
        assert lane is not None
        assert session is not None
        lane.end(lease, now, sent=sent)
        lane.done(ticket, now)
        session.virtual += now - lease.sent_at - GUESS  # what it was expected to take was added at the grant
        session.running -= 1
        session.used_at = now
        if session.waiting:
            self.room.flows.touch(session)
        ticket.state, ticket.lease = DONE, None

    # -- inside: waiting

    def _wait(self, ticket: Ticket, now: float, actions: list[Action]) -> None:
        """Put it among the waiting, and send what can be sent."""
        self.room.add(ticket)
        if self._ask_one_that_is_out(ticket, now, actions):
            return
        for lane in ticket.candidates.lanes:
            self._offer(ticket, lane, now, actions)
            if ticket.state is not WAITING:
                return
        actions += self.room.keep(ticket, now)

    def _ask_one_that_is_out(self, ticket: Ticket, now: float, actions: list[Action]) -> bool:
        """If none of its accounts will be in rotation in time, ask one now and then; else refuse it. False if one will be."""
        lanes = ticket.candidates.lanes
        if not all(lane.is_lost(ticket, now) for lane in lanes):
            return False
        lane = next((lane for lane in lanes if lane.may_be_asked_though_out(ticket, now)), None)
        if lane is not None and now <= ticket.deadline:
            lane.out_probe_at = now + OUT_PROBE
            actions.append(self._send(ticket, lane, now))
            return True
        actions.append(self.room.refuse_the_lost(ticket, now))
        return True

    def _refuse_the_lost(self, lane: Lane, now: float, actions: list[Action]) -> None:
        """An account has gone out: those who wait for nothing else are refused."""
        for ticket in list(lane.waiting):
            if all(other.is_lost(ticket, now) for other in ticket.candidates.lanes):
                self._ask_one_that_is_out(ticket, now, actions)

    # -- inside: after an attempt

    def _again(
        self, ticket: Ticket, event: Event, now: float, retry_after: float | None = None, same_prompt: int = 1
    ) -> list[Action]:
        """Do what the table says after an attempt that gave no good answer."""
        lane, session = ticket.lane, ticket.whose
        assert lane is not None
        assert session is not None
        sent = event in (Event.BROKEN, Event.STARTED)
        self._release(ticket, now, sent=sent)
        ticket.state = NEW
        if not sent:
            self._order.refused(ticket, lane)
        if not session.warm and session.lane is lane:
            session.lane = None  # nothing of it is cached there
        actions: list[Action] = []
        step, delay = plan(event, facts_of(ticket, lane, event, now, retry_after=retry_after, same_prompt=same_prompt))
        if step is Step.RELAY:
            ticket.state = DONE
            actions.append(Pass(ticket, event, False if event is Event.STOP else None))
        else:
            self._come_back(ticket, event, step, delay, now, actions)
        if lane.out_until:
            self._refuse_the_lost(lane, now, actions)
            self._serve_all(now, actions)
        else:
            self._serve(lane, now, actions)
        return actions

    def _come_back(self, ticket: Ticket, event: Event, step: Step, delay: float, now: float, actions: list[Action]) -> None:
        """It waits again, with its seniority."""
        assert ticket.lane is not None
        if TABLE[event].counted and step is Step.AGAIN:
            ticket.lane.bucket.take()
        if step is Step.OTHER:
            avoid(ticket, ticket.lane, event, now)
        elif step is Step.QUEUE:
            delay = ticket.lane.pace.yields(ticket.refusals)
        if delay:
            ticket.not_before = now + delay * self._rng.uniform(1 - JITTER, 1 + JITTER)
        ticket.refusals += 1
        self._wait(ticket, now, actions)
