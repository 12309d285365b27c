"""Claude Code direct and through the proxy: the same result in the same turns, whatever the upstream does.

The second half measures what `claude-proxy env` and `code` set: it is why they set it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.cli.claude_settings import beside_environment
from claude_proxy.cli.client_env import applied, variables
from claude_proxy.settings import Settings
from claude_proxy.simulator import PRESETS, Recorded, Scenario, Simulator, error, faults
from tests.claude_code import ALLOWED, PINNED, Run, each_version, environment, furnish, needed, prompted
from tests.integration.proxy import running_proxy

pytestmark = [pytest.mark.system, needed, pytest.mark.timeout(300)]


async def claude(
    base_url: str, folder: Path, prompt: str, *options: str, program: str | None = PINNED, **environ: str
) -> dict[str, Any]:
    """Run one prompt headless in a fresh home; its JSON result."""
    home, work = furnish(folder)
    found = environment(base_url, home, **environ)
    return (await prompted(program, prompt, *ALLOWED, *options, environ=found, work=work)).result


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What a user sees of a result, and how many turns it took; times, counts and ids aside."""
    seen = {name: result.get(name) for name in ("is_error", "num_turns", "stop_reason")}
    # Claude Code itself orders the results of parallel tools as they end.
    return {**seen, "result": sorted(re.sub(r"[0-9a-f]{6,}|\d+", "#", result["result"]).splitlines())}


def turns(requests: list[Recorded]) -> list[tuple[str, str, bool, int | None]]:
    """The requests of a run, as the upstream saw them."""
    return [(r.method, r.path, r.stream, r.status) for r in requests]


async def both(scenario: Any, folder: Path, prompt: str, *options: str, **environ: Any) -> None:
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


@each_version
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
async def test_a_tool_loop_is_the_same(prompt: str, tmp_path: Path, program: str) -> None:
    await both(Scenario(), tmp_path, prompt, program=program)


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


@each_version
async def test_the_probe_at_start_and_model_discovery_work(tmp_path: Path, program: str) -> None:
    async with Simulator() as sim, running_proxy(sim.base_url) as proxy:
        environ = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "", "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"}
        result = await claude(proxy.base_url, tmp_path, "say hi", program=program, **environ)
        assert not result["is_error"]
        assert all(r.method != "HEAD" for r in sim.requests)


# What `claude-proxy env` and `code` set


ASKS = "run Bash: python3 -c \"open('made.txt', 'w')\""  # not one that auto mode lets through unseen
ZAI = "https://api.z.ai/api/anthropic"


class Upstream:
    """An API that does not answer `safeguards`: it talks, and as a checker of tool calls gives one verdict."""

    def __init__(self, verdict: str = "<block>no</block>") -> None:
        self.verdict = verdict

    def __call__(self, recorded: Recorded) -> Scenario:
        if recorded.method == "GET":
            return Scenario("models")
        return Scenario() if json.loads(recorded.body).get("stream") else Scenario("text", text=self.verdict)


async def equipped(
    program: str, origin: str, folder: Path, prompt: str, *options: str, base_url: str = ZAI, without: str = "", **more: str
) -> Run:
    """Run one prompt as `claude-proxy code` does, behind a proxy that has `base_url` as its upstream."""
    home, work = furnish(folder)
    bare = environment("", home, **more)
    environ = applied(bare, variables(Settings(base_url=base_url), bare, origin))
    environ.pop(without, None)
    beside = beside_environment(environ, work)
    return await prompted(program, prompt, "--settings", json.dumps(beside), *options, environ=environ, work=work)


def bodies(simulator: Simulator) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in simulator.requests if one.method == "POST"]


@each_version
async def test_auto_mode_has_the_sonnet_model_check_a_tool_call(tmp_path: Path, program: str) -> None:
    async with Simulator(Upstream()) as sim, running_proxy(sim.base_url) as proxy:
        run = await equipped(program, proxy.origin, tmp_path, ASKS, "--permission-mode", "auto")
    first, check, last = bodies(sim)
    assert (run.returncode, run.stderr, run.result["permission_denials"]) == (0, "", [])
    assert (tmp_path / "work/made.txt").exists()
    assert [check["model"], "safeguards" in first, "safeguards" in last] == ["glm-5.3", False, False]
    assert check["max_tokens"] > 2000, "a thinking model needs room before its verdict"


async def test_without_the_variable_auto_mode_refuses_the_tool_call(tmp_path: Path) -> None:
    """What the variable is for. If this fails, Claude Code has changed, and the variable may not be needed any more."""
    async with Simulator(Upstream()) as sim, running_proxy(sim.base_url) as proxy:
        without = "CLAUDE_CODE_AUTO_MODE_SERVER"
        run = await equipped(str(PINNED), proxy.origin, tmp_path, ASKS, "--permission-mode", "auto", without=without)
    assert len(run.result["permission_denials"]) == 1
    assert [("safeguards" in body) for body in bodies(sim)] == [True, True]


async def test_without_a_sonnet_model_auto_mode_asks_for_one_of_anthropics(tmp_path: Path) -> None:
    async with Simulator(Upstream()) as sim, running_proxy(sim.base_url) as proxy:
        without = "ANTHROPIC_DEFAULT_SONNET_MODEL"
        await equipped(str(PINNED), proxy.origin, tmp_path, ASKS, "--permission-mode", "auto", without=without)
    assert "claude-sonnet-5" in [body["model"] for body in bodies(sim)]


async def test_a_model_that_the_user_named_checks_tool_calls_at_any_upstream(tmp_path: Path) -> None:
    async with Simulator(Upstream()) as sim, running_proxy(sim.base_url) as proxy:
        run = await equipped(
            *(str(PINNED), proxy.origin, tmp_path, ASKS, "--permission-mode", "auto"),
            base_url="https://api.deepseek.com/anthropic",
            ANTHROPIC_MODEL="deepseek-v4-pro",
        )
    assert run.result["permission_denials"] == []
    assert {body["model"] for body in bodies(sim)} == {"deepseek-v4-pro"}


@each_version
@pytest.mark.parametrize("model", ["opus", "sonnet", "haiku", "fable", "glm-5.3[1m]"])
async def test_no_model_is_unknown_and_little_changes_for_it(tmp_path: Path, model: str, program: str) -> None:
    """The same system prompt, tools and effort as for an unknown model; only the limit of the answer grows."""
    found: list[dict[str, Any]] = []
    for folder, options in (("known", ()), ("alien", ("--settings", "{}"))):
        async with Simulator() as sim, running_proxy(sim.base_url) as proxy:
            run = await equipped(program, proxy.origin, tmp_path / folder, "say hi", *options, "--model", model)
        assert ("unrecognized_model" in run.stderr) is (folder == "alien")
        found += bodies(sim)
    known, alien = found
    assert (known["max_tokens"], alien["max_tokens"]) == (128_000, 32_000)
    for name in ("model", "tools", "thinking", "output_config", "context_management"):
        assert known[name] == alien[name]
    assert [len(block["text"]) for block in known["system"]] == [len(block["text"]) for block in alien["system"]]


async def test_a_529_is_tried_again_as_often_as_for_an_unknown_model(tmp_path: Path) -> None:
    """For a model that resembles an Opus Claude Code gives up after three."""

    def choose(recorded: Recorded) -> Scenario:
        return error(529) if len(sim.requests) < 4 else Scenario("text", text="at last")

    async with Simulator(Chooser(choose)) as sim, running_proxy(sim.base_url) as proxy:
        run = await equipped(str(PINNED), proxy.origin, tmp_path, "say hi")
    assert run.result["result"] == "at last"


@each_version
async def test_the_timeouts_reach_the_request(tmp_path: Path, program: str) -> None:
    """The header says API_TIMEOUT_MS; that the wait is as long only the clock could tell."""
    async with Simulator() as sim, running_proxy(sim.base_url) as proxy:
        await equipped(program, proxy.origin, tmp_path, "say hi")
    assert [one.header("x-stainless-timeout") for one in sim.requests] == ["3000"]


@each_version
async def test_each_request_says_what_it_is_for(tmp_path: Path, program: str) -> None:
    async with Simulator(Upstream()) as sim, running_proxy(sim.base_url) as proxy:
        await equipped(program, proxy.origin, tmp_path, ASKS, "--permission-mode", "auto")
    assert [one.header("x-claude-code-request-class") for one in sim.requests] == ["main", "auxiliary", "main"]


@each_version
@pytest.mark.parametrize(
    ("without", "outcome"), [("", "answered"), ("CLAUDE_CODE_GATEWAY_MODEL_DISCOVERY_TIMEOUT_MS", "client-left")]
)
async def test_model_discovery_waits_for_a_slow_list(tmp_path: Path, without: str, outcome: str, program: str) -> None:
    """3 seconds by default; the prompt's answer takes longer than both, so that the process is still there."""

    def choose(recorded: Recorded) -> Scenario:
        return Scenario("models", delay=3.3) if recorded.method == "GET" else Scenario(delay=3.8)

    async with Simulator(Chooser(choose)) as sim, running_proxy(sim.base_url) as proxy:
        on = {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"}
        await equipped(program, proxy.origin, tmp_path, "say hi", without=without, **on)
    assert [one.outcome for one in sim.requests if one.method == "GET"] == [outcome]
