"""Claude Code itself against the simulator, without the proxy: what runs through the proxy are compared with."""

from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import Simulator
from tests.claude_code import ALLOWED, PINNED, each_version, environment, furnish, needed, prompted

pytestmark = [pytest.mark.system, needed]


async def ask(sim: Simulator, folder: Path, prompt: str, *options: str, program: str | None = PINNED) -> dict[str, Any]:
    """Run one prompt headless in a fresh home; return its JSON result."""
    home, work = furnish(folder)
    environ = environment(sim.base_url, home)
    return (await prompted(program, prompt, *ALLOWED, *options, environ=environ, work=work)).result


@each_version
@pytest.mark.parametrize(
    ("prompt", "requests", "words"),
    [
        ("say hi", 1, ["You said: say hi"]),
        ("use Read on a.txt", 2, ["apple"]),
        ("run Bash: echo one two", 2, ["one two"]),
        ("in parallel: use Read on a.txt; use Read on b.txt", 2, ["apple", "pear"]),
        ("ask a subagent: run Bash: echo from below", 4, ["from below"]),
        ("use Read on p.png", 2, ["[image]"]),
        ("use Read on a.txt\nrun Bash: cat b.txt", 3, ["pear"]),
    ],
)
async def test_tool_loops(
    simulator: Simulator, tmp_path: Path, prompt: str, requests: int, words: list[str], program: str
) -> None:
    result = await ask(simulator, tmp_path, prompt, program=program)
    assert [word for word in words if word not in result["result"]] == []
    assert [(one.method, one.status, one.outcome) for one in simulator.requests] == [("POST", 200, "answered")] * requests


async def test_its_cost_follows_from_the_usage_reported(simulator: Simulator, tmp_path: Path) -> None:
    result = await ask(simulator, tmp_path, "use Read on a.txt", "--model", "claude-opus-5-5")
    reported = simulator.reported
    assert result["total_cost_usd"] == pytest.approx((reported.input_tokens * 4 + reported.output_tokens * 20) / 1e6)


async def test_context_asks_for_a_burst_of_counts(simulator: Simulator, tmp_path: Path) -> None:
    await ask(simulator, tmp_path, "/context")
    assert len(simulator.requests) > 10
    assert {one.path for one in simulator.requests} == {"/api/anthropic/v1/messages/count_tokens"}


@pytest.mark.parametrize("model", ["sim-gzip", "sim-br", "sim-zstd", "sim-thinking", "sim-crlf", "sim-split", "sim-trailers"])
async def test_manners_of_answering(simulator: Simulator, tmp_path: Path, model: str) -> None:
    result = await ask(simulator, tmp_path, "say hi", "--model", model)
    assert result["result"] == "This is a simulated answer. You said: say hi"
    assert len(simulator.requests) == 1
