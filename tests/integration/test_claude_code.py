"""Claude Code direct and through the proxy: the same result in the same turns, whatever the upstream does.

Needs the program: `npm install @anthropic-ai/claude-code@2.1.330`, named by CLAUDE_CODE or on PATH as `claude`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import struct
import zlib
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import PRESETS, Recorded, Scenario, Simulator, error, faults
from tests.integration.proxy import running_proxy

PROGRAM = shutil.which(os.environ.get("CLAUDE_CODE", "claude"))
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(PROGRAM is None, reason="no Claude Code: set CLAUDE_CODE"),
    pytest.mark.timeout(300),
]


def picture() -> bytes:
    """A large PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\xff\0\0" * 64) * 64))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


async def claude(base_url: str, folder: Path, prompt: str, *options: str, **environ: str) -> dict[str, Any]:
    """Run one prompt headless in a fresh home; its JSON result."""
    home, work = folder / "home", folder / "work"
    home.mkdir(parents=True)
    work.mkdir()
    (work / "a.txt").write_text("the first word is apple\n")
    (work / "b.txt").write_text("the second word is pear\n")
    (work / "p.png").write_bytes(picture())
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "IS_SANDBOX": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_AUTH_TOKEN": "dummy",
        **environ,
    }
    command = (str(PROGRAM), "-p", prompt, "--output-format", "json", "--dangerously-skip-permissions", *options)
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=work, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(120):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result: dict[str, Any] = json.loads(out)
    return result


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What a user sees of a result, and how many turns it took; times, counts and ids aside."""
    seen = {name: result.get(name) for name in ("is_error", "num_turns", "stop_reason")}
    # Claude Code itself orders the results of parallel tools as they end.
    return {**seen, "result": sorted(re.sub(r"[0-9a-f]{6,}|\d+", "#", result["result"]).splitlines())}


def turns(requests: list[Recorded]) -> list[tuple[str, str, bool, int | None]]:
    """The requests of a run, as the upstream saw them."""
    return [(r.method, r.path, r.stream, r.status) for r in requests]


async def both(scenario: Any, folder: Path, prompt: str, *options: str, **environ: str) -> None:
    """The same prompt direct and through the proxy, each before a fresh simulator: nothing may differ."""
    runs = []
    for name in ("directly", "by-proxy"):  # of one length: the folder stands in the prompt
        async with Simulator() as sim:
            sim.scenario = scenario() if callable(scenario) else scenario
            if name == "directly":
                result = await claude(sim.base_url, folder / name, prompt, *options, **environ)
            else:
                async with running_proxy(sim.base_url) as proxy:
                    result = await claude(proxy.base_url, folder / name, prompt, *options, **environ)
            runs.append((told(result), turns(sim.requests)))
    assert runs[1] == runs[0]


@pytest.mark.parametrize(
    "prompt",
    [
        "say hi",
        "use Read on a.txt",
        "run Bash: echo one two",
        "in parallel: use Read on a.txt; use Read on b.txt",
        "ask a subagent: run Bash: echo from below",
        "use Read on p.png",
    ],
)
async def test_a_tool_loop_is_the_same(prompt: str, tmp_path: Path) -> None:
    await both(Scenario(), tmp_path, prompt)


async def test_context_costs_one_upstream_call_where_count_tokens_is_missing(tmp_path: Path) -> None:
    """Direct it is a burst of 26."""
    async with Simulator(error(404, message="Not found")) as sim, running_proxy(sim.base_url) as proxy:
        result = await claude(proxy.base_url, tmp_path, "/context")
        asked = len(proxy.recorder.ended)
        assert [r.path for r in sim.requests] == ["/api/anthropic/v1/messages/count_tokens"]
    assert not result["is_error"]
    assert asked > 10


async def test_context_is_the_same_where_count_tokens_is_there(tmp_path: Path) -> None:
    async with Simulator() as sim, running_proxy(sim.base_url) as proxy:
        result = await claude(proxy.base_url, tmp_path, "/context")
        assert len(sim.requests) == len(proxy.recorder.ended) > 10
    assert not result["is_error"]


def first_then_fine(first: Scenario) -> Any:
    """Scenarios for one run: the first request meets `first`, the others a working API."""

    def make() -> Any:
        met: list[Recorded] = []

        def choose(recorded: Recorded) -> Scenario:
            met.append(recorded)
            return first if len(met) == 1 else Scenario("text", text="all is well again")

        return Chooser(choose)

    return make


class Chooser:
    """A scenario chosen per request; not to be mistaken for a maker of scenarios."""

    def __init__(self, choose: Any) -> None:
        self.choose = choose

    def __call__(self, recorded: Recorded) -> Scenario:
        scenario: Scenario = self.choose(recorded)
        return scenario


FAULTS = {
    "529": error(529),
    "500": error(500),
    "504": error(504),
    "429 with retry-after": error(429, headers=(("retry-after", "1"),)),
    "403": error(403),
    "413": error(413),
    "400": error(400, message="context_management: Extra inputs are not permitted"),
    "z.ai 1302": PRESETS["zai-1302"].scenario,
    "z.ai error as 200 + SSE": PRESETS["zai-error-stream"].scenario,
    "0/0 in message_start": PRESETS["zero-start"].scenario,
    "cut before the head": Scenario(fault=faults.cut("head")),
    "cut after the head": Scenario(fault=faults.cut("events", 0)),
    "cut after one event": Scenario(fault=faults.cut("events", 1)),
    "cut after four events": Scenario(fault=faults.cut("events", 4)),
    "cut inside an event": Scenario(fault=faults.cut("mid-event", 3)),
    "error event before message_start": Scenario(fault=faults.error_event(0)),
    "error event in the middle": Scenario(fault=faults.error_event(4)),
    "split at every byte": Scenario(writes="byte"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_met_in_the_same_way(name: str, tmp_path: Path) -> None:
    await both(first_then_fine(FAULTS[name]), tmp_path, "say hi")


async def test_the_probe_at_start_and_model_discovery_work(tmp_path: Path) -> None:
    async with Simulator() as sim, running_proxy(sim.base_url) as proxy:
        environ = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "", "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"}
        result = await claude(proxy.base_url, tmp_path, "say hi", **environ)
        assert not result["is_error"]
        assert all(r.method != "HEAD" for r in sim.requests)
