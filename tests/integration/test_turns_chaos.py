"""Three upstreams that fail in turn under fifty sessions, while one of them is always well."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from claude_proxy.simulator import Recorded, Scenario, Simulator, error, faults
from claude_proxy.simulator.limiter import Limiter
from claude_proxy.simulator.refusals import refusal
from tests.integration.leftovers import Leftovers
from tests.integration.queued import all_is_given_back, call, hurry, said
from tests.integration.test_accounts import KEYS, proxy_with, route, table
from tests.integration.wire import Reply

SESSIONS = 50
TROUBLES = ("concurrency", "rate", "overload", "window", "error event", "unreachable")
WORKED_ON = ("500", "cut")  # these may have been billed, so the client sees them
GOOD = Scenario("text", pace=0.002)


class Upstream:
    """One simulator that takes a few requests at once, and has a trouble now and then.

    Attributes:
        trouble: what is wrong with it; None while it is well.
        unanswered: how often each request was given an answer that may have been worked on.
    """

    def __init__(self, most: int) -> None:
        self.simulator = Simulator(self.answer, on_end=self.ended)
        self.trouble: str | None = None
        self.unanswered: Counter[str] = Counter()
        self._limiter = Limiter(most)
        self._clock = time.monotonic

    def answer(self, one: Recorded) -> Scenario:
        refused = self._refusal(one)
        if refused is None:
            self.unanswered[one.body_sha256] += 1
            refused = {"500": error(500), "cut": Scenario(fault=faults.cut("head"))}.get(self.trouble or "", GOOD)
        return refused

    def _refusal(self, one: Recorded) -> Scenario | None:
        if self.trouble == "error event":
            return Scenario(fault=faults.error_event(0, error_type="overloaded_error", message="[1305][overloaded][1]"))
        if self.trouble in ("concurrency", "rate", "overload", "window"):
            return refusal(self.trouble, "zai", time.time() + 2)  # type: ignore[arg-type]
        if not self._limiter.enter("", id(one), self._clock()):
            return refusal("concurrency", "zai", 0.0)
        return None

    def ended(self, one: Recorded) -> None:
        self._limiter.leave("", id(one), self._clock())

    async def change(self, trouble: str | None) -> None:
        if self.trouble == "unreachable" and trouble != "unreachable":
            await self.simulator.start()
        if trouble == "unreachable" and self.trouble != "unreachable":
            await self.simulator.refuse()
        self.trouble = trouble


async def fail_in_turn(upstreams: list[Upstream], troubles: tuple[str, ...], dice: random.Random, seconds: float) -> None:
    """Change every half second who is in trouble, and in which; the healthy one is well before the others fail."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        well = dice.choice(upstreams)
        await well.change(None)
        for one in upstreams:
            if one is not well:
                await one.change(dice.choice((*troubles, None)))
        await asyncio.sleep(0.5)
    for one in upstreams:
        await one.change(None)


async def chaos(folder: Path, troubles: tuple[str, ...], seconds: float, seed: int) -> tuple[list[Reply], list[Upstream]]:
    """What the sessions got in that time, and the upstreams."""
    dice = random.Random(seed)
    upstreams = [Upstream(most) for most in (6, 4, 8)]
    replies: list[Reply] = []
    async with AsyncExitStack() as stack:
        for one in upstreams:
            await stack.enter_async_context(one.simulator)
        tables = [
            table(f"u{n}", one.simulator.base_url, key, provider="zai")
            for n, (one, key) in enumerate(zip(upstreams, KEYS, strict=True))
        ]
        proxy = await stack.enter_async_context(proxy_with(folder, *tables, route("u0", "u1", "u2"), queue=True))
        left = Leftovers()
        failing = asyncio.ensure_future(fail_in_turn(upstreams, troubles, dice, seconds))

        async def session(number: int) -> None:
            turn = 0
            while not failing.done():
                kind = dice.choice(["main", "subagent", "subagent", "blocking", "background"])
                replies.append(await call(proxy, kind, f"s{number}", text=f"{number} {turn}", stream=dice.random() < 0.7))
                turn += 1
                await asyncio.sleep(dice.random() * 0.1)

        await asyncio.gather(failing, *(session(number) for number in range(SESSIONS)))
        await all_is_given_back(proxy)
        await left.gone()
    return replies, upstreams


def sent_twice(upstreams: list[Upstream]) -> dict[str, int]:
    """Requests that more than one upstream, or one more than once, may have worked on."""
    times: defaultdict[str, int] = defaultdict(int)
    for one in upstreams:
        for digest, count in one.unanswered.items():
            times[digest] += count
    return {digest: count for digest, count in times.items() if count > 1}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


LENGTHS = [5, pytest.param(60, marks=[pytest.mark.system, pytest.mark.timeout(300)])]


@pytest.mark.parametrize("seconds", LENGTHS)
async def test_no_client_sees_an_error_while_one_upstream_is_well(tmp_path: Path, seconds: float) -> None:
    replies, upstreams = await chaos(tmp_path, TROUBLES, seconds, seed=7)
    wrong = Counter(said(reply)[:80] for reply in replies if reply.status != 200)
    wrong.update("an error event" for reply in replies if b"event: error" in reply.body)
    wrong.update("a cut" for reply in replies if not reply.whole)
    assert wrong == Counter()
    assert sent_twice(upstreams) == {}
    assert len(replies) > SESSIONS


@pytest.mark.parametrize("seconds", LENGTHS)
async def test_what_may_have_been_worked_on_is_seen_once_and_sent_once(tmp_path: Path, seconds: float) -> None:
    """With failures after which nothing may be sent again, the clients see exactly these."""
    replies, upstreams = await chaos(tmp_path, (*TROUBLES, *WORKED_ON), seconds, seed=8)
    assert sent_twice(upstreams) == {}
    worked_on = sum(sum(one.unanswered.values()) for one in upstreams)
    assert worked_on == len(replies)
    assert {reply.status for reply in replies} <= {200, 500, 502}
