"""The scripted clients: main agents, their subagents, the checks of their tool calls, and titles, as Claude Code makes them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from claude_proxy.cli.rehearse import patience
from claude_proxy.cli.rehearse.clock import Clock
from claude_proxy.cli.rehearse.journal import ID, Attempt, Call, Journal
from claude_proxy.cli.rehearse.patience import Role, next_try
from claude_proxy.cli.rehearse.script import Clients
from claude_proxy.cli.rehearse.wire import Deadlines, call
from claude_proxy.simulator import Recorded, Scenario, Usage

SECONDS = "x-rehearsal-seconds"  # how long a good answer takes, in seconds of the script
PATH = "/api/anthropic/v1/messages"
DELTAS = 8


class Habit(NamedTuple):
    """How a kind of client behaves; times in seconds of the script, from and to.

    Attributes:
        classes: the two headers with which Claude Code says what a request is for.
        rest: between two calls, while tools run.
        return_: after a call that was given up, until the user, or a new subagent, tries again.
    """

    answer: tuple[float, float]
    rest: tuple[float, float]
    classes: tuple[str, str]
    stream: bool = True
    timeout: int = patience.API_TIMEOUT
    return_: tuple[float, float] = (60, 180)


HABITS: Mapping[Role, Habit] = {
    "main": Habit((10, 40), (3, 15), ("main", "main")),
    "subagent": Habit((15, 60), (2, 8), ("subagent", "blocking-subagent")),
    "classifier": Habit((1, 4), (0, 0), ("auxiliary", "main"), stream=False, timeout=patience.CLASSIFIER_TIMEOUT),
    "title": Habit((1, 3), (0, 0), ("auxiliary", "summary-extraction")),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """One client, as it introduces itself."""

    who: str
    role: Role
    session: str
    agent: str = ""


class Cast:
    """Runs the clients of a script against a proxy.

    Args:
        url: of the proxy.
        keys: credentials of the clients; the sessions take turns with them.
        model: name of the model that all ask for.
    """

    def __init__(
        self, clients: Clients, url: str, keys: tuple[str, ...], model: str, clock: Clock, journal: Journal, seed: int
    ) -> None:
        self._clients = clients
        self._url = url + PATH
        self._keys = keys
        self._model = model
        self._clock = clock
        self._journal = journal
        self._random = random.Random(seed)  # noqa: S311 - a script, no secret
        self._attempts = 0

    async def play(self, length: float, grace: float) -> None:
        """Let all clients call until minute `length`; what runs then has `grace` seconds of the script to end."""
        tasks = [asyncio.create_task(self._session(number, length)) for number in range(1, self._clients.main + 1)]
        await self._clock.until(length)
        _, late = await asyncio.wait(tasks, timeout=grace / self._clock.speed)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _session(self, number: int, length: float) -> None:
        name = f"rehearsal-session-{number}"
        async with asyncio.TaskGroup() as group:
            if self._clients.titles:
                group.create_task(self._call(Caller(f"title {number}", "title", name)))
            group.create_task(self._agent(Caller(f"main {number}", "main", name), 0.0, length))
            for at in range(1, self._clients.subagents + 1):
                caller = Caller(f"subagent {number}.{at}", "subagent", name, f"agent-{number}-{at}")
                group.create_task(self._agent(caller, self._clients.subagents_from, length))

    async def _agent(self, caller: Caller, begin: float, length: float) -> None:
        """Call, let the tools run, call again, until the script is over."""
        await self._clock.until(begin)
        while self._clock.minute < length:
            good = await self._call(caller)
            if good and caller.role == "main" and self._clients.classifier and self._clock.minute < length:
                await self._call(Caller(caller.who.replace("main", "classifier"), "classifier", caller.session))
            habit = HABITS[caller.role]
            await self._clock.sleep(self._random.uniform(*(habit.rest if good else habit.return_)))

    async def _call(self, caller: Caller) -> bool:
        """Make a call, with all its attempts; whether it got a good answer."""
        made = Call(caller.who, caller.role)
        self._journal.calls.append(made)
        try:
            await self._persist(caller, made)
        except asyncio.CancelledError:
            made.end = "over"
            raise
        return made.end == "answered"

    async def _persist(self, caller: Caller, made: Call) -> None:
        """Try as often, and after such pauses, as Claude Code does."""
        habit = HABITS[caller.role]
        seconds, stream = self._random.uniform(*habit.answer), habit.stream
        while True:
            attempt = await self._attempt(caller, made, seconds, stream=stream)
            assert attempt.seen is not None
            following = next_try(
                attempt.seen,
                len(made.attempts),
                caller.role,
                self._model,
                stream=stream,
                uniform=lambda: self._random.uniform(1, 1.25),
            )
            if following is None:
                good = attempt.seen.how == "answered"
                made.end = "answered" if good else "denied" if caller.role == "classifier" else "gave up"
                self._journal.saw(made, attempt, "the tool call is denied" if made.end == "denied" else "it gives up")
                return
            self._journal.saw(made, attempt, f"it tries again in {following.wait:.0f} s")
            stream = following.stream
            await self._clock.sleep(following.wait)

    def _stretch(self) -> float:
        return self._random.uniform(1, 1.25)

    async def _attempt(self, caller: Caller, made: Call, seconds: float, *, stream: bool) -> Attempt:
        self._attempts += 1
        attempt = Attempt(f"r{self._attempts}", self._clock.minute)
        made.attempts.append(attempt)
        headers = self._headers(caller) | {ID: attempt.id, SECONDS: f"{seconds:.2f}"}
        attempt.seen = await call(self._url, headers, self._body(caller, made, stream=stream), self._deadlines(caller.role))
        attempt.ended = self._clock.minute
        return attempt

    def _deadlines(self, role: Role) -> Deadlines:
        head = min(patience.HEAD_DEADLINE, HABITS[role].timeout)
        return Deadlines(head / self._clock.speed, patience.IDLE_DEADLINE / self._clock.speed)

    def _headers(self, caller: Caller) -> dict[str, str]:
        habit = HABITS[caller.role]
        key = self._keys[(int(caller.session.rpartition("-")[2]) - 1) % len(self._keys)]
        headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "authorization": f"Bearer {key}",
            "user-agent": "claude-proxy-rehearsal",
            "x-app": "cli",
            "x-stainless-timeout": str(max(1, round(habit.timeout / self._clock.speed))),
            "x-claude-code-session-id": caller.session,
            "x-claude-code-request-class": habit.classes[0],
            "x-claude-1p-request-class": habit.classes[1],
        }
        return headers | ({"x-claude-code-agent-id": caller.agent} if caller.agent else {})

    def _body(self, caller: Caller, made: Call, *, stream: bool) -> bytes:
        """The same bytes for each attempt of a call, as Claude Code sends them."""
        turn = sum(one.who == made.who for one in self._journal.calls)
        marker = "cc_version=2.1.332; cc_entrypoint=cli;" + (" cc_is_subagent=true;" if caller.role == "subagent" else "")
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": 32_000,
            "system": [{"type": "text", "text": marker}, {"type": "text", "text": "You are rehearsing an outage."}],
            "messages": [{"role": "user", "content": f"{caller.who}, turn {turn}"}],
        }
        return json.dumps(body | ({"stream": True} if stream else {})).encode()


def good_answer(recorded: Recorded, speed: float) -> Scenario:
    """The answer of an upstream when nothing is wrong: as long as the client's habit says, in few pieces."""
    stated = recorded.header(SECONDS) or "1"
    seconds = float(stated) / speed
    usage = Usage(input_tokens=900, output_tokens=int(float(stated) * 50), cache_read_input_tokens=24_000)
    return Scenario("text", text="word " * 40, deltas=DELTAS, delay=seconds * 0.2, pace=seconds * 0.8 / (DELTAS + 5), usage=usage)
