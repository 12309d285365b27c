"""Three upstreams that fail in turn under fifty sessions, while one of them is always well."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from claude_proxy.routing import choosing, pace
from claude_proxy.simulator import Recorded, Scenario, Simulator, error, faults
from claude_proxy.simulator.limiter import Limiter
from claude_proxy.simulator.refusals import refusal
from tests.integration.leftovers import Leftovers
from tests.integration.proxy import running_proxy
from tests.integration.queued import FASTER, all_is_given_back, call, hurry, said
from tests.integration.test_accounts import route, table
from tests.integration.wire import Reply

SESSIONS = 50
KEYS = {f"KEY{n}": f"sk-key-{n:06}" for n in range(4)}
TROUBLES = ("concurrency", "rate", "overload", "window", "error event")
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
        if self.trouble == "error event" and b'"stream": true' in one.body:
            return Scenario(fault=faults.error_event(0, error_type="overloaded_error", message="[1305][overloaded][1]"))
        if self.trouble == "error event":
            return refusal("overload", "zai", 0.0)
        if self.trouble in ("concurrency", "rate", "overload", "window"):
            return refusal(self.trouble, "zai", time.time() + 2)  # type: ignore[arg-type]
        if not self._limiter.enter("", id(one), self._clock()):
            return refusal("concurrency", "zai", 0.0)
        return None

    def ended(self, one: Recorded) -> None:
        self._limiter.leave("", id(one), self._clock())


async def fail_in_turn(upstreams: list[Upstream], troubles: tuple[str, ...], dice: random.Random, seconds: float) -> None:
    """Change once a second who is in trouble, and in which; the next healthy one is well before the others fail."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        well = dice.choice(upstreams)
        well.trouble = None
        await asyncio.sleep(0.5)
        for one in upstreams:
            if one is not well:
                one.trouble = dice.choice((*troubles, None))
        await asyncio.sleep(0.5)
    for one in upstreams:
        one.trouble = None


async def chaos(folder: Path, troubles: tuple[str, ...], seconds: float, seed: int) -> tuple[list[Reply], list[Upstream]]:
    """What the sessions got in that time, and the upstreams. A fourth upstream, the first in the route, is not there at all."""
    dice = random.Random(seed)
    upstreams = [Upstream(most) for most in (60, 50, 40)]
    replies: list[Reply] = []
    async with AsyncExitStack() as stack:
        for one in upstreams:
            await stack.enter_async_context(one.simulator)
        gone = await stack.enter_async_context(Simulator())
        await gone.refuse()
        urls = [gone.base_url, *(one.simulator.base_url for one in upstreams)]
        tables = [table(f"u{n}", url, f"KEY{n}", provider="generic") for n, url in enumerate(urls)]
        (folder / "claude-proxy.toml").write_text("".join((*tables, route("u0", "u1", "u2", "u3"))))
        proxy = await stack.enter_async_context(
            running_proxy(config=folder / "claude-proxy.toml", environ=KEYS, data_dir=folder / "data", queue=True)
        )
        left = Leftovers()
        failing = asyncio.ensure_future(fail_in_turn(upstreams, troubles, random.Random(seed), seconds))  # the same each time

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
    monkeypatch.setattr(pace, "CAP_UP", 0.1)  # the troubles last half a second here, not minutes
    monkeypatch.setattr(choosing, "LONG", choosing.LONG / FASTER)


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
    replies, upstreams = await chaos(tmp_path, (*TROUBLES, *WORKED_ON), seconds, seed=679)
    assert sent_twice(upstreams) == {}
    seen = Counter(how_it_looks(reply) for reply in replies)
    assert seen["answered"] + seen["api_error"] + seen["connection_lost"] == sum(
        sum(one.unanswered.values()) for one in upstreams
    )
    assert seen["answered"] > SESSIONS
    assert seen["api_error"] + seen["connection_lost"] > 0
    assert set(seen) <= {"answered", "api_error", "connection_lost", "refused"}  # the last while the one that is well is ejected


def how_it_looks(reply: Reply) -> str:
    """What a client makes of an answer."""
    if reply.status == 200:
        return "refused" if b"event: error" in reply.body else "answered"
    kind: str = json.loads(reply.body)["error"]["type"]
    return "refused" if reply.status in (429, 529) else reply.get("x-claude-proxy-error") or kind
