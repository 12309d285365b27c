"""The prompts that Claude Code really sends: what it sent before is a prefix of what it sends next, unless the user changes it.

Needs the program, as tests/claude_code.py says.
"""

from pathlib import Path

import pytest

from claude_proxy.exchange import Usage
from claude_proxy.protocol.blocks import cut
from claude_proxy.protocol.cache_verdict import CacheWatch
from claude_proxy.simulator import Recorded, Simulator
from tests.claude_code import ALLOWED, PINNED, environment, furnish, needed, prompted

pytestmark = [pytest.mark.system, needed, pytest.mark.timeout(120)]
TOOLS = "use Read on a.txt\nrun Bash: cat b.txt"


class Client:
    """Claude Code in one home, so that a session can be continued; and the verdict on each request it sends."""

    def __init__(self, sim: Simulator, folder: Path) -> None:
        self.sim = sim
        self.watch = CacheWatch()
        home, self.work = furnish(folder / "client")
        self.environ = environment(sim.base_url, home)

    async def ask(self, prompt: str, *options: str) -> list[str]:
        """Run one prompt; the verdicts on its requests."""
        before = len(self.sim.requests)
        run = await prompted(PINNED, prompt, *ALLOWED, *options, environ=self.environ, work=self.work)
        assert not run.result["is_error"]
        return [self.judge(recorded) for recorded in self.sim.requests[before:]]

    def judge(self, recorded: Recorded) -> str:
        prompt = cut(recorded.body)
        assert prompt is not None
        assert prompt.marked
        key = recorded.header("x-claude-code-session-id"), recorded.header("x-claude-code-agent-id")
        assert key[0]
        return str(self.watch.settle(self.watch.compare(key, prompt, 0), Usage(10, 10)))


async def test_each_turn_of_a_tool_loop_goes_on_from_the_one_before(simulator: Simulator, tmp_path: Path) -> None:
    client = Client(simulator, tmp_path)
    assert await client.ask(TOOLS) == ["first", "grew", "grew"]


async def test_a_continued_session_goes_on_even_if_files_and_the_model_have_changed(simulator: Simulator, tmp_path: Path) -> None:
    client = Client(simulator, tmp_path)
    await client.ask(TOOLS)
    (client.work / "CLAUDE.md").write_text("Answer in verse.\n")
    assert await client.ask("say hi", "--continue") == ["grew"]
    assert await client.ask(TOOLS, "--continue", "--model", "claude-sonnet-5-5") == ["grew", "grew", "grew"]
    assert await client.ask("say hi", "--continue", "--model", "glm-5.3") == ["grew"]


async def test_a_subagent_is_a_conversation_of_its_own(simulator: Simulator, tmp_path: Path) -> None:
    client = Client(simulator, tmp_path)
    said = await client.ask("ask a subagent: run Bash: cat a.txt\nuse Read on b.txt")
    assert said.count("first") == 2
    assert said.count("grew") == len(said) - 2 >= 2


@pytest.mark.parametrize(
    ("options", "area"),
    [
        (("--disallowedTools", "Bash"), "(tools)"),
        (("--model", "claude-haiku-4-5"), "(message 0)"),  # for older models it writes its own messages differently
    ],
)
async def test_what_the_user_changes_is_named(simulator: Simulator, tmp_path: Path, options: tuple[str, ...], area: str) -> None:
    client = Client(simulator, tmp_path)
    await client.ask(TOOLS)
    (said,) = await client.ask("say hi", "--continue", *options)
    assert said.startswith("changed at block ")
    assert said.endswith(area)
