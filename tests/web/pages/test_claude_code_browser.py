"""The page while the real Claude Code works behind it: subagents, an upstream in trouble, a broken cache, a cancelled stream.

Needs the program, as tests/claude_code.py says, and Chromium.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.protocol.providers.zai import ZAI
from claude_proxy.simulator import Recorded, Scenario, Simulator, Usage, error, faults, refusal
from claude_proxy.web.texts import text
from tests.claude_code import ALLOWED, PINNED, environment, furnish, needed, prompted
from tests.integration.booked import written
from tests.integration.proxy import RunningProxy
from tests.integration.queued import queued
from tests.web.browser import CONTRASTS, Chromium, Tab, only_from
from tests.web.pages.test_browser import TOO_WIDE

pytestmark = [pytest.mark.system, needed, pytest.mark.timeout(300)]

PARALLEL = "in parallel: ask a subagent: run Bash: cat a.txt; ask a subagent: run Bash: cat b.txt"
FEWER_TOOLS = ("--continue", "--disallowedTools", "Bash")
HINTS = {"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"}
PROMPT = 20_000  # tokens that the provider says a prompt has


class Provider:
    """A z.ai with two accounts: the window of ONE is used up, and TWO is overloaded once. It caches prompts by their tools."""

    def __init__(self, simulator: Simulator) -> None:
        self.window = refusal("window", "zai", 4_070_905_200.0)
        self.overloaded = 1
        self.scenario = Scenario(pace=0.05)
        self._cached: set[str] = set()
        simulator.scenario = self

    def __call__(self, recorded: Recorded) -> Scenario | None:
        if not recorded.path.endswith("/v1/messages"):
            return None
        if recorded.header("authorization") == "Bearer sk-one-000":
            return self.window
        if self.overloaded:
            self.overloaded -= 1
            return error(529, "overloaded_error", "[1305][The service may be temporarily overloaded][1]", error_code="1305")
        return replace(self.scenario, usage=self._usage(json.loads(recorded.body)))

    def _usage(self, body: dict[str, Any]) -> Usage:
        tools = json.dumps([tool["name"] for tool in body.get("tools", ())])
        known = tools in self._cached
        self._cached.add(tools)
        if known:
            return Usage(input_tokens=10, output_tokens=20, cache_read_input_tokens=PROMPT)
        return Usage(input_tokens=10, output_tokens=20, cache_creation_input_tokens=PROMPT)


@dataclass
class Client:
    """Claude Code in a home of its own."""

    proxy: RunningProxy
    home: Path
    work: Path

    @property
    def environ(self) -> dict[str, str]:
        return environment(self.proxy.base_url, self.home, **HINTS)

    async def ask(self, prompt: str, *options: str) -> None:
        """One prompt, to its end, until the books have it."""
        run = await prompted(PINNED, prompt, *ALLOWED, *options, environ=self.environ, work=self.work)
        assert not run.result["is_error"], run
        await written(self.proxy, len(self.proxy.recorder.ended))

    async def leave(self, simulator: Simulator) -> None:
        """A prompt whose stream is cancelled by the user."""
        ended = len(self.proxy.recorder.ended)
        command = (str(PINNED), *FEWER_TOOLS, "-p", "count to a thousand")
        process = await asyncio.create_subprocess_exec(*command, env=self.environ, cwd=self.work, stdout=DEVNULL, stderr=DEVNULL)
        await asyncio.wait_for(simulator.hold.wait(), 60)
        process.terminate()
        await process.wait()
        await written(self.proxy, ended + 1)


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    books = {"ledger": "on", "capture": "all", "timezone": "UTC"}
    async with queued(tmp_path / "proxy", simulator, "ONE", "TWO", **books) as running:
        yield running


async def content(tab: Tab, url: str) -> str:
    """What a page says."""
    await tab.open(url)
    return str(await tab.run("document.querySelector('main').innerText"))


async def test_every_view_tells_what_claude_code_went_through(
    browser: Chromium, proxy: RunningProxy, simulator: Simulator, tmp_path: Path
) -> None:
    provider = Provider(simulator)
    client = Client(proxy, *furnish(tmp_path / "claude"))
    tab = await browser.tab(width=1280)
    await tab.open(f"{proxy.origin}/")
    tab.loaded.clear()
    working = asyncio.ensure_future(client.ask(PARALLEL))
    await asyncio.wait_for(tab.loaded.wait(), 60)  # the connect card gives way to the page
    await tab.until("document.querySelectorAll('#running-rows tr').length === 2")  # both subagents
    await tab.until("document.querySelector('#running-rows tr .mark.good')")
    await working
    await client.ask("say hi", *FEWER_TOOLS)
    provider.scenario = Scenario(fault=faults.stall("events", 3))
    await client.leave(simulator)

    ended = proxy.recorder.ended
    (session,) = {one.session for one in ended}
    agents = {one.agent for one in ended if one.agent}
    (retried,) = (one for one in ended if any(attempt.status == 529 for attempt in one.attempts))
    (broken,) = (one for one in ended if one.cache is not None and one.cache.kind == "changed" and one.cache.area == "tools")
    (left,) = (one for one in ended if one.status == 499)
    assert len(agents) == 2

    assert text("en", "shell.outcome_cancelled") in await content(tab, f"{proxy.origin}/")
    assert "work" in await content(tab, f"{proxy.origin}/sessions")
    shown = await content(tab, f"{proxy.origin}/sessions/{session}")
    assert await tab.run("document.querySelectorAll('.agents tbody tr').length") == 3
    assert text("en", "sessions.broke_tools") in shown
    ladder = await content(tab, f"{proxy.origin}/exchanges/{retried.id}")
    assert "529" in ladder
    assert ZAI.codes["1305"].meaning.en in ladder
    assert "1308" in await content(tab, f"{proxy.origin}/upstreams")
    assert text("en", "shell.outcome_cancelled") in await content(tab, f"{proxy.origin}/exchanges/{left.id}")
    conversation = await content(tab, f"{proxy.origin}/exchanges/{broken.id}/conversation")
    assert "say hi" in conversation
    assert "cat a.txt" in conversation
    assert str(len(ended)) in await content(tab, f"{proxy.origin}/usage")
    only_from(proxy.origin, tab)

    views = ["", "sessions", f"sessions/{session}", "usage", "upstreams"]
    views += [f"exchanges/{one.id}" for one in (retried, broken, left)] + [f"exchanges/{broken.id}/conversation"]
    for width, dark, language in ((1280, False, "en"), (390, True, "ko")):
        tab = await browser.tab(width=width, dark=dark, language=language)
        for view in views:
            await tab.open(f"{proxy.origin}/{view}")
            wide = await tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, (view, await tab.run(TOO_WIDE))
            assert await tab.run(CONTRASTS) == [], (view, width)
        only_from(proxy.origin, tab)
