"""The clock, the timer and the waiting around the pure queue, by hand-written calls."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from claude_proxy.errors import NoTurn
from claude_proxy.exchange import Exchange, Kind, Outcome
from claude_proxy.protocol.providers import by_name
from claude_proxy.proxy import turns as module
from claude_proxy.proxy.accounts import Upstream
from claude_proxy.proxy.turns import Turns
from claude_proxy.routing.queue import Queue
from claude_proxy.upstream.origin import parse_origin
from claude_proxy.upstream.pool import Pool


def upstream(name: str = "zai", *accounts: str, limits: int | None = None, provider: str = "zai") -> Upstream:
    pool = Pool(parse_origin("http://127.0.0.1:9"), connect_timeout=1.0, expiry=1.0, limit=10)
    made = Upstream(name, pool, provider=by_name(provider))
    for account in accounts:
        made.hold(account, (b"authorization", b"Bearer " + account.encode()), max_concurrency=limits)
    return made


class Settings:
    """What the queue reads of them."""

    queue_wait = 5.0
    timezone = "UTC"


class Config:
    """What the queue asks of the configuration."""

    def __init__(self, *upstreams: Upstream) -> None:
        self.upstreams = upstreams
        self.accounts = tuple(account for one in upstreams for account in one.accounts)

    def tiers_for(self, call: Any) -> Any:
        return call.tiers or (self.accounts,)


class Call:
    """As much of a call as the queue sees; `account` once it has its turn."""

    def __init__(self, config: Config, name: str = "c", tiers: Any = None, **fields: bytes) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.settings = Settings()
        self.tiers = tiers
        self.turn: Any = None
        self.passed: Any = None
        self.account: Any = None
        self.exchange = Exchange(name, "POST", "/v1/messages", "127.0.0.1", self.loop.time(), 0.0, session=name)
        found = {name.replace("_", "-").encode(): value for name, value in fields.items()}
        body = name.encode()
        self.request = SimpleNamespace(
            fields=found, kept=len(body), whole=lambda: body, target=SimpleNamespace(kind=Kind.MESSAGES)
        )
        self.client = SimpleNamespace(done=True, size=len(body))

    def use(self, account: Any) -> None:
        self.account, self.upstream = account, account.upstream


def end(turns: Turns, call: Any, outcome: Outcome = Outcome.COMPLETED) -> None:
    call.exchange.outcome = outcome
    turns.end(call)


async def taken(turns: Turns, *calls: Any) -> list[asyncio.Task[None]]:
    """The waits of several calls, begun."""
    tasks = [asyncio.ensure_future(turns.take(call)) for call in calls]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize(("workers", "share"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
async def test_each_worker_has_its_part_of_a_limit_and_at_least_one(workers: int, share: int) -> None:
    turns, config = Turns(workers=workers), Config(upstream("zai", "a", limits=8))
    calls = [Call(config, f"c{n}") for n in range(10)]
    tasks = await taken(turns, *calls)
    assert sum(task.done() for task in tasks) == share
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for call in calls:
        end(turns, call, Outcome.CANCELLED)


async def test_the_next_one_gets_the_slot_in_the_iteration_in_which_it_is_given_back() -> None:
    turns, config = Turns(), Config(upstream("zai", "a", limits=1))
    first, second = Call(config, "first"), Call(config, "second")
    one, two = await taken(turns, first, second)
    assert (one.done(), two.done()) == (True, False)
    end(turns, first, Outcome.CANCELLED)
    await asyncio.sleep(0)
    assert two.done()
    assert second.account.name == "a"


async def test_a_request_that_still_has_its_turn_keeps_it() -> None:
    """After a stale connection it is sent again, without having given its slot back."""
    turns, config = Turns(), Config(upstream("zai", "a", limits=1))
    call = Call(config)
    await turns.take(call)
    lease = call.turn.lease
    await turns.take(call)
    assert call.turn.lease is lease
    assert call.exchange.queue_wait is None


async def test_the_timer_wakes_the_next_one_also_for_a_moment_that_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop's handle for such a moment is another one."""
    turns, config = Turns(), Config(upstream("zai", "a", limits=1))
    holder, *others = calls = [Call(config, f"c{n}") for n in range(3)]
    tasks = await taken(turns, *calls)
    monkeypatch.setattr(turns.queue, "next_wake", lambda now: now - 1.0)
    for call in others:
        turns._arm(call.loop)
    monkeypatch.undo()
    end(turns, holder, Outcome.CANCELLED)
    await asyncio.wait_for(tasks[1], 2)


async def test_a_refusal_of_the_queue_is_raised_and_the_wait_is_in_the_books() -> None:
    turns, config = Turns(), Config(upstream("zai", "a", limits=1))
    holder, late = Call(config, "holder"), Call(config, "late")
    late.settings.queue_wait = 0.05
    (_, waiting) = await taken(turns, holder, late)
    with pytest.raises(NoTurn, match="busy"):
        await asyncio.wait_for(waiting, 2)
    assert late.exchange.queue_wait == pytest.approx(0.05, abs=0.05)
    assert late.exchange.attempts == []


@pytest.mark.parametrize("when", ["waiting", "granted and not resumed", "granted"])
async def test_a_cancel_gives_back_whatever_there_is(when: str) -> None:
    turns, config = Turns(), Config(upstream("zai", "a", limits=1))
    holder, call = Call(config, "holder"), Call(config, "call")
    _, task = await taken(turns, holder, call)
    if when != "waiting":
        end(turns, holder, Outcome.CANCELLED)
    if when == "granted":
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    end(turns, call, Outcome.CANCELLED)
    (lane,) = turns.queue.lanes.values()
    assert (lane.in_flight, len(lane.waiting)) == (1 if when == "waiting" else 0, 0)


async def test_clients_that_are_forgotten_are_those_of_whom_nothing_runs_or_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CHOICES", 3)
    config = Config(upstream("zai", "a"))
    clients = [upstream(f"u{n}", "x", limits=1) for n in range(4)]
    turns = Turns(rng=Random(1))
    busy, waits = (Call(config, name, ((clients[0].accounts[0],),)) for name in ("busy", "waits"))
    _, task = await taken(turns, busy, waits)
    for n in (1, 2, 3):
        other = Call(config, f"other {n}", ((clients[n].accounts[0],),))
        await turns.take(other)
        end(turns, other, Outcome.CANCELLED)
    assert "u0/x" in turns.queue.lanes
    assert "u1/x" not in turns.queue.lanes
    end(turns, busy, Outcome.CANCELLED)
    await asyncio.wait_for(task, 2)


def test_an_account_that_somebody_waits_for_is_still_looked_at_after_it_could_not_be_forgotten() -> None:
    queue = Queue(Random(1))
    lane = queue.lane("a", start=1)
    lane.pace.calm, lane.pace.until = False, 50.0
    ticket = module.Ticket("s", module.classify({}, lambda: None), module.Candidates([[lane]]), 1000.0)
    queue.arrive(ticket, 10.0)
    assert queue.next_wake(10.0) == 50.0
    assert not queue.discard(lane)
    assert queue.next_wake(10.0) == 50.0


async def test_after_the_end_no_timer_fires() -> None:
    turns, config = Turns(), Config(upstream("zai", "a", limits=1))
    calls = [Call(config, f"c{n}") for n in range(2)]
    _, task = await taken(turns, *calls)
    turns.close()
    assert turns._timer is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def refusal() -> Any:
    """What an attempt has got: a 429."""
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"Number of requests has exceeded your limit"}}'
    response = SimpleNamespace(status=429, fields={})
    answer = SimpleNamespace(guarded=False, is_stream=False)
    return SimpleNamespace(error=None, kind=None, response=response, answer=answer, first=body)


async def test_a_refusal_makes_turns_of_all_that_passed_in_the_order_in_which_they_came() -> None:
    turns, config = Turns(rng=Random(1)), Config(upstream("api", "a", provider="anthropic"))
    calls = [Call(config, f"c{n}") for n in range(4)]
    await taken(turns, *calls)
    assert all(call.passed is not None and call.turn is None for call in calls)
    end(turns, calls[0])
    assert turns.settle(calls[2], refusal())
    assert calls[0].turn is None
    assert all(call.passed is None for call in calls)
    assert [call.turn.seq for call in calls[1:]] == sorted(call.turn.seq for call in calls[1:])
    lane = calls[1].turn.lane
    assert lane.in_flight == 2
    for call in calls[1:]:
        end(turns, call, Outcome.CANCELLED)
    assert lane.in_flight == 0
    assert not turns._passed
    turns.close()


async def test_a_body_that_cannot_be_read_costs_no_slot() -> None:
    turns, config = Turns(rng=Random(1)), Config(upstream("api", "a", provider="anthropic"))
    call: Any = Call(config, x_claude_code_session_id=b"s")
    await taken(turns, call)
    lane, call.request.whole = call.passed[1].lane, None
    with pytest.raises(TypeError):
        turns.settle(call, refusal())
    end(turns, call, Outcome.FAILED)
    assert lane.in_flight == 0
