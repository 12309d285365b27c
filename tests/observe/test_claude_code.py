"""The real Claude Code: its turns keep the cache, its folder is the project, and its status line says what the proxy knows.

Needs the program, as tests/claude_code.py says, and tmux for the terminal.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from claude_proxy.cli.claude_settings import status_line
from claude_proxy.observe.cache import CacheObserver
from claude_proxy.protocol.status_line import _count
from claude_proxy.proxy.target import PREFIX
from claude_proxy.simulator import Scenario, Simulator, error
from tests.claude_code import ALLOWED, PINNED, each_version, environment, furnish, needed, prompted
from tests.integration import listeners
from tests.integration.booked import booked, written
from tests.integration.proxy import Recorder, running_proxy
from tests.observe.conversation import eventually

pytestmark = [pytest.mark.system, needed, pytest.mark.timeout(180)]
in_a_terminal = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")
HINTS = {"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"}


@each_version
@pytest.mark.parametrize("model", ["opus", "glm-5.3", "claude-haiku-4-5"])
async def test_three_turns_grew_and_name_the_project(simulator: Simulator, tmp_path: Path, program: str, model: str) -> None:
    home, work = furnish(tmp_path)
    async with running_proxy(simulator.base_url, listeners=[CacheObserver()]) as proxy:
        environ = environment(proxy.base_url, home, **HINTS)
        prompt = "use Read on a.txt\nuse Read on b.txt"
        await prompted(program, prompt, *ALLOWED, "--model", model, environ=environ, work=work)
        await prompted(program, "say hi", *ALLOWED, "--model", model, "--continue", environ=environ, work=work)
        ended = proxy.recorder.ended
    assert [str(one.cache) for one in ended] == ["first", "grew", "grew", "grew"]
    assert {one.project for one in ended} == {"work"}


@each_version
async def test_an_agent_is_a_conversation_of_its_own_in_the_same_project(
    simulator: Simulator, tmp_path: Path, program: str
) -> None:
    home, work = furnish(tmp_path)
    async with running_proxy(simulator.base_url, listeners=[CacheObserver()]) as proxy:
        environ = environment(proxy.base_url, home, **HINTS)
        await prompted(program, "ask a subagent: run Bash: cat a.txt", *ALLOWED, environ=environ, work=work)
        ended = proxy.recorder.ended
    agents = [str(one.cache) for one in ended if one.agent is not None]
    assert agents[0] == "first"
    assert set(agents[1:]) | {str(one.cache) for one in ended[1:] if one.agent is None} == {"grew"}
    assert len({one.session for one in ended}) == 1
    assert {one.project for one in ended} == {"work"}


async def test_a_tool_that_the_user_takes_away_is_named(simulator: Simulator, tmp_path: Path) -> None:
    home, work = furnish(tmp_path)
    async with running_proxy(simulator.base_url, listeners=[CacheObserver()]) as proxy:
        environ = environment(proxy.base_url, home, **HINTS)
        await prompted(PINNED, "use Read on a.txt", *ALLOWED, environ=environ, work=work)
        await prompted(PINNED, "say hi", "--continue", "--disallowedTools", "Bash", environ=environ, work=work)
        last = proxy.recorder.ended[-1].cache
    assert last is not None
    assert (last.kind, last.area) == ("changed", "tools")


class Terminal:
    """Claude Code at work in a terminal of 120 columns."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self._server = f"claude-proxy-{uuid.uuid4().hex[:8]}"
        home, self._work = furnish(folder)
        project = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        known = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(self._work): project}}
        (home / ".claude.json").write_text(json.dumps(known))
        self._environ = environment(base_url, home, TERM="xterm-256color", CLAUDE_CODE_AUTO_MODE_SERVER="0", **HINTS)
        self._settings = json.dumps(status_line({"HOME": str(home)}, self._work))

    def tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._server, *words], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout

    def start(self) -> None:
        environ = [f"{name}={value}" for name, value in self._environ.items()]
        command = ["env", "-i", *environ, str(PINNED), "--model", "claude-opus-5-5", "--settings", self._settings]
        command += ["--permission-mode", "default", "--allowedTools", *ALLOWED[1].split(",")]
        self.tmux("new-session", "-d", "-x", "120", "-y", "40", "-c", str(self._work), *command)

    async def type(self, prompt: str) -> None:
        """Type a prompt and send it. An Enter that comes too soon after the text counts as part of what is pasted."""
        self.tmux("send-keys", "-l", prompt)
        await self._input(lambda text: text.endswith(prompt[-20:]), then=None)
        await self._input(lambda text: prompt[-20:] not in text, then="Enter")

    async def _input(self, condition: Callable[[str], bool], *, then: str | None) -> None:
        """Return once what stands in the prompt is as expected; press a key again and again until then."""
        for _ in range(100):
            lines = [line for line in self.tmux("capture-pane", "-p").splitlines() if line.startswith("❯")]
            if lines and condition(lines[-1].removeprefix("❯").strip()):
                return
            if then is not None:
                self.tmux("send-keys", then)
            await asyncio.sleep(0.2)
        raise AssertionError(self.tmux("capture-pane", "-p"))

    async def shows(self, condition: Callable[[str], bool], patience: float = 40) -> str:
        """The line below the prompt, once it is as expected."""
        screen = ""
        for _ in range(int(patience / 0.2)):
            screen = self.tmux("capture-pane", "-p")
            found = next((line.strip() for line in screen.splitlines() if " · context " in line), "")
            if found and condition(found):
                return found
            await asyncio.sleep(0.2)
        raise AssertionError(screen)


@asynccontextmanager
async def terminal(folder: Path, base_url: str) -> AsyncIterator[Terminal]:
    found = Terminal(folder, base_url)
    found.start()
    try:
        yield found
    finally:
        found.tmux("kill-server")


@in_a_terminal
async def test_the_status_line_in_a_terminal(tmp_path: Path) -> None:
    """Before the first prompt, after an answer, in a silence, in trouble, and when the proxy is gone."""
    async with Simulator() as simulator, AsyncExitStack() as running:
        proxy = await running.enter_async_context(running_proxy(simulator.base_url, ledger="on", data_dir=tmp_path / "data"))
        async with terminal(tmp_path / "claude", proxy.base_url) as claude:
            await claude.shows(lambda line: line == "Opus 5.5 · context 0%")
            await claude.type("use Read on a.txt")
            said = await claude.shows(lambda line: "tokens" in line and "~" not in line)
            assert said.startswith("Opus 5.5 · unpriced · "), "the simulator's host has no prices"
            assert "$" not in said
            simulator.scenario = Scenario("text", text="at last", delay=9)
            await claude.type("say hi")
            await claude.shows(lambda line: "waiting " in line)
            await claude.shows(lambda line: "waiting " not in line)
            simulator.scenario = error(529)
            await claude.type("say ho")
            await claude.shows(lambda line: "127.0.0.1: overloaded (529)" in line)
            await running.aclose()
            await claude.shows(lambda line: line.endswith("claude-proxy does not answer"))


async def ran(*words: str) -> str:
    """What a command of ours prints."""
    command = (sys.executable, "-m", "claude_proxy", *words)
    environ = {**os.environ, "COLUMNS": "160"}
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=True, env=environ)
    return done.stdout


@in_a_terminal
async def test_a_session_with_two_subagents_is_one_session_with_its_agents(tmp_path: Path) -> None:
    """In the status line, and afterwards for every command that reads the books."""
    data = tmp_path / "data"
    async with Simulator() as simulator, booked(simulator, data) as proxy:
        async with terminal(tmp_path / "claude", proxy.base_url) as claude:
            await claude.shows(lambda line: line == "Opus 5.5 · context 0%")
            await claude.type("in parallel: ask a subagent: run Bash: cat a.txt; ask a subagent: use Read on b.txt")
            await claude.shows(
                lambda line: both_have_reported(proxy.recorder) and f" · {tokens(proxy.recorder)} tokens · " in line
            )
        await eventually(lambda: len(proxy.recorder.started) == len(proxy.recorder.ended))
        ended = proxy.recorder.ended
        await written(proxy, len(ended))
        (session,) = {str(one.session) for one in ended}
        agents = {one.agent for one in ended} - {None}
        place = ("--data-dir", str(data))
        (item,) = json.loads(await ran("sessions", "--json", *place))["items"]
        assert (item["session"], item["project"], item["exchanges"]) == (session, "work", len(ended))
        assert {part["agent"] for part in item["agents"]} == {None, *agents}
        groups = json.loads(await ran("stats", "--by", "agent", "--session", session, "--json", *place))["groups"]
        assert {group["key"]: group["exchanges"] for group in groups} == Counter(one.agent for one in ended)
        assert f" {session}   work " in await ran("sessions", *place)
        assert f" {session} " in await ran("stats", "--by", "session", *place)
        one = next(one for one in ended if one.agent is not None)
        told = " ".join((await ran("show", one.id, *place)).split())
        assert f"class subagent session {session} project work agent {one.agent} " in told


def both_have_reported(recorder: Recorder) -> bool:
    """Whether two agents have used their tool and ended, and the main conversation has heard of it."""
    calls = Counter(one.agent for one in recorder.ended)
    main = calls.pop(None, 0)
    return sorted(calls.values()) == [2, 2] and main >= 3 and len(recorder.started) == len(recorder.ended)


def tokens(recorder: Recorder) -> str:
    """All tokens so far, as the status line writes them."""
    found = [one.usage for one in recorder.ended if one.usage is not None]
    return _count(sum((one.input or 0) + (one.output or 0) + (one.cache_read or 0) + (one.cache_write or 0) for one in found))


@in_a_terminal
async def test_the_status_line_while_nobody_answers(tmp_path: Path) -> None:
    async with (
        listeners.listening(listeners.silent) as server,
        terminal(tmp_path, f"http://127.0.0.1:{server.port}{PREFIX}") as claude,
    ):
        said = await claude.shows(lambda line: True)
    assert said == "Opus 5.5 · ~$0.00 · context 0% · claude-proxy does not answer"
