"""What goes on behind `demo --keep`: a few developers at work, each in a session with subagents, for as long as the demo runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from claude_proxy.cli.demo.prompts import SOURCES, Conversation, inputs, printed
from claude_proxy.cli.demo.provider import AGENT, Provider
from claude_proxy.cli.demo.story import SESSION
from claude_proxy.cli.rehearse.wire import Deadlines, call
from claude_proxy.proxy.target import PREFIX
from claude_proxy.simulator import Scenario, ToolCall, faults

DEADLINES = Deadlines(300.0, 120.0)
TRIES = 3
CUTS = 0.03  # of the answers: the connection breaks in the middle
LEAVES_AFTER = 2.5  # seconds for which a developer watches an answer before cancelling it


@dataclass(frozen=True, slots=True)
class Job:
    """What one developer works on.

    Attributes:
        agents: types of the subagents that the main agent starts.
        words: what the model says, in turn.
    """

    project: str
    model: str
    task: str
    words: tuple[str, ...]
    agents: tuple[str, ...] = ()


JOBS = (
    Job(
        "web-shop",
        "glm-5.3",
        "Checkout is slow when the cart has many items. Find out why, and fix it.",
        (
            "I will measure first: which part of the checkout takes the time?",
            "Each item is priced by a query of its own. I will fetch all prices at once.",
            "The tests pass. With 200 items a checkout now takes 90 ms instead of 1.4 s.",
            "One caller relied on the order of the prices, so I keep that order explicitly.",
        ),
        ("Explore", "test-runner"),
    ),
    Job(
        "mobile-app",
        "claude-opus-5-5",
        "The cart flickers when the phone is turned. Please fix it without a new dependency.",
        (
            "The view is built again on each rotation, and the cart is loaded again while it is already on the screen.",
            "I keep the loaded cart outside the view and hand it over. The flicker comes from the empty state in between.",
            "Fixed, with a test that turns the screen ten times and counts how often the cart is loaded: once.",
        ),
        ("Explore",),
    ),
    Job(
        "handbook-ko",
        "claude-sonnet-5-5",
        "배포 절차를 문서로 정리하고, 되돌리는 방법도 적어 주세요.",
        (
            "먼저 배포 스크립트와 지금 있는 문서를 읽고, 서로 다른 곳을 찾겠습니다.",
            "되돌리는 방법이 문서에는 없지만 스크립트에는 있습니다. 순서대로 옮겨 적겠습니다.",
            "정리했습니다. 단계마다 확인할 명령과, 실패했을 때 돌아갈 지점을 적었습니다.",
        ),
    ),
    Job(
        "nightly-import",
        "glm-5.3-flash",
        "Last night's import stopped at row 48,211. Find the bad row and make the import go on past such rows.",
        (
            "The row has a date in the year 20226. I will read how dates are checked.",
            "Rows with an impossible date now go to a separate table with the reason, and the import goes on.",
        ),
    ),
)
UNREACHABLE = Job("lab-notes", "qwen3-coder-next", "Sort yesterday's notes by topic.", ("Sorted.",))
"""Its model runs on a machine that is off."""


class Life:
    """Keeps the jobs going.

    Args:
        url: of the proxy.
        provider: told what each call is to be answered with.
        hurry: divides all pauses (for tests).
    """

    def __init__(self, url: str, provider: Provider, *, seed: int = 0, hurry: float = 1.0) -> None:
        self._url = f"{url}{PREFIX}/v1/messages"
        self._provider = provider
        self._dice = random.Random(seed)  # noqa: S311 - a story, no secret
        self._hurry = hurry

    async def go_on(self) -> None:
        """Work on all jobs, one session after the other, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, job in enumerate(JOBS):
                group.create_task(self._employ(job, number * 2.0))
            group.create_task(self._knock())

    async def _knock(self) -> None:
        """Ask for the model that nobody serves now, again and again."""
        await self._pause(15, 20)
        session = f"{self._dice.getrandbits(32):08x}-{UNREACHABLE.project}"
        while True:
            talk = Conversation(UNREACHABLE.project, UNREACHABLE.model, UNREACHABLE.task, SOURCES[:2])
            await self._send(talk, {SESSION: session})
            await self._pause(60, 120)

    async def _employ(self, job: Job, delay: float) -> None:
        await self._pause(delay, delay + 1)
        while True:
            await self.session(job, turns=self._dice.randrange(9, 14))
            await self._pause(20, 60)

    async def session(self, job: Job, turns: int) -> None:
        """Hold one session. Before turn six, the user cancels; before the eighth, a server connects and breaks the cache."""
        session = f"{self._dice.getrandbits(32):08x}-{job.project}"
        main = Conversation(job.project, job.model, job.task, SOURCES[:3])
        for turn in range(turns):
            if turn == 7:
                main.connect_server()
            if turn == 5:
                await self._cancelled(job, session, main)
            agents = job.agents if turn % 5 == 2 else ()
            await self._turn(job, session, main, agents, turn)
            await self._pause(1, 6)
        self._provider.forget(session)

    async def _cancelled(self, job: Job, session: str, main: Conversation) -> None:
        watched = dataclasses.replace(self._said(" ".join(job.words) * 4), fault=None)  # after a cut there is nothing to leave
        self._provider.announce(session, "", watched)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as watching:

                def begun() -> None:
                    watching.reschedule(asyncio.get_running_loop().time() + LEAVES_AFTER / self._hurry)

                await self._send(main, {SESSION: session}, begun)

    async def _turn(self, job: Job, session: str, main: Conversation, agents: tuple[str, ...], turn: int) -> None:
        calls = [("Agent", f"{kind}: {job.task}") for kind in agents] or self._tools()
        words = job.words[turn % len(job.words)]
        self._provider.announce(session, "", self._said(words, calls, thinks=turn % 4 == 0))
        if not await self._send(main, {SESSION: session}):
            return
        await asyncio.gather(*(self._subagent(job, session, kind, turn) for kind in agents))
        await self._pause(0.3, 2)
        main.answered(words, calls, [self._printed(name, given) for name, given in calls])

    async def _subagent(self, job: Job, session: str, kind: str, turn: int) -> None:
        agent = f"{kind.lower()}-{turn}{self._dice.getrandbits(12):03x}"
        talk = Conversation(job.project, job.model, f"{kind}: {job.task}", SOURCES[4:6])
        headers = {SESSION: session, AGENT: agent, "x-claude-code-agent-type": kind}
        for _ in range(self._dice.randrange(2, 5)):
            calls = self._tools()
            self._provider.announce(session, agent, self._said(job.words[0], calls))
            if await self._send(talk, headers):
                talk.answered(job.words[0], calls, [self._printed(name, given) for name, given in calls])
            await self._pause(0.5, 2)

    def _tools(self) -> list[tuple[str, str]]:
        name = self._dice.choice(("Read", "Read", "Grep", "Bash", "Edit"))
        given = {"Bash": "make test", "Grep": "def "}.get(name) or self._dice.choice(SOURCES)
        return [(name, given)]

    def _printed(self, name: str, given: str) -> str:
        return printed(name, given, self._dice)

    def _said(self, words: str, calls: list[tuple[str, str]] | None = None, *, thinks: bool = False) -> Scenario:
        """Return an answer at the pace of a model."""
        pace, delay = self._dice.uniform(0.08, 0.25) / self._hurry, self._dice.uniform(0.4, 2.5) / self._hurry
        tools = tuple(ToolCall(name, inputs(name, given)) for name, given in calls or ())
        kind: Literal["tools", "thinking", "text"] = "tools" if tools else "thinking" if thinks else "text"
        fault = faults.cut("events", 9) if self._dice.random() < CUTS else None
        return Scenario(kind, text=words, tools=tools, deltas=max(8, len(words) // 6), pace=pace, delay=delay, fault=fault)

    async def _send(self, talk: Conversation, names: Mapping[str, str], begun: Callable[[], None] = lambda: None) -> bool:
        """Make a call, with retries as clients make them; whether it was answered."""
        kind = "subagent" if AGENT in names else "main"
        headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "authorization": "Bearer demo",
            "user-agent": "claude-cli/2.1.332 (demo)",
            "x-claude-code-request-class": kind,
            **names,
        }
        body = json.dumps(talk.body(), ensure_ascii=False).encode()
        for attempt in range(TRIES):
            seen = await call(self._url, headers, body, DEADLINES, begun)
            if seen.how == "answered":
                return True
            await self._pause(1 << attempt, 2 << attempt)
        return False

    async def _pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self._dice.uniform(least, most) / self._hurry)
