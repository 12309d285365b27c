"""Claude Code as an oracle: it prices synthetic usage of every `claude-*` model as we do.

Needs the program, as tests/claude_code.py says.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.ledger.prices import load
from claude_proxy.protocol.usage import StreamReader
from claude_proxy.simulator import Scenario, Simulator
from tests.claude_code import PINNED, environment, furnish, needed, prompted

pytestmark = [pytest.mark.system, needed, pytest.mark.timeout(120)]

PRICES = load().prices
NOW = 1_796_000_000.0
MODELS = sorted(model for provider, model in PRICES.rows.prices if provider == "anthropic")
FAST = [model for model in MODELS if "fast" in PRICES.rows.prices["anthropic", model][0].speeds]


def usage(**changes: Any) -> dict[str, Any]:
    """Counts that have no factor in common, so that no two rates can be mistaken for one another."""
    writes = {"ephemeral_5m_input_tokens": 4001, "ephemeral_1h_input_tokens": 1013}
    counts = {"input_tokens": 1009, "output_tokens": 2003, "cache_read_input_tokens": 30_011, "cache_creation_input_tokens": 5014}
    return {**counts, "cache_creation": writes, "service_tier": "standard", **changes}


def stream(model: str, reported: dict[str, Any]) -> bytes:
    """A short answer that reports this usage at its start and its end."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "usage": reported}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": reported},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


async def compare(model: str, folder: Path, reported: dict[str, Any]) -> None:
    """Claude Code's cost of one answer, and ours from the same bytes."""
    body = stream(model, reported)
    async with Simulator(Scenario("raw", content_type="text/event-stream", body=body)) as sim:
        home, work = furnish(folder)
        run = await prompted(PINNED, "say hi", "--model", model, environ=environment(sim.base_url, home), work=work)
        assert len(sim.requests) == 1
    (theirs,) = run.result["modelUsage"].values()
    assert theirs["costBasis"] == "list"
    reader = StreamReader()
    reader.feed(body)
    ours = PRICES.cost(reader.usage, "anthropic", reader.model, NOW).nano_dollars
    assert ours is not None
    assert ours == pytest.approx(theirs["costUSD"] * 10**9, rel=0, abs=0.51)  # theirs is a sum of floats, ours is rounded


@pytest.mark.parametrize("model", MODELS)
async def test_every_kind_of_token(model: str, tmp_path: Path) -> None:
    await compare(model, tmp_path, usage())


@pytest.mark.parametrize("model", FAST)
async def test_fast_mode(model: str, tmp_path: Path) -> None:
    await compare(model, tmp_path, usage(speed="fast"))


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-5"])
async def test_geography_and_searches(model: str, tmp_path: Path) -> None:
    searches = {"web_search_requests": 3, "web_fetch_requests": 5}
    await compare(model, tmp_path, usage(inference_geo="us", server_tool_use=searches))


async def test_fast_mode_and_geography_together(tmp_path: Path) -> None:
    await compare("claude-fable-5-2", tmp_path, usage(speed="fast", inference_geo="us"))


@pytest.mark.parametrize("read", [94_977 - 1000, 94_978 - 1000, 500_000])
async def test_the_boundary_of_a_long_prompt(read: int, tmp_path: Path) -> None:
    """100,000 tokens and one more."""
    reported = usage(cache_read_input_tokens=read)
    prompt = sum(reported[name] for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"))
    assert prompt in (100_000, 100_001, 506_023)
    await compare("claude-haiku-5-5", tmp_path, reported)


@pytest.mark.parametrize(
    "writes", [None, {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 5014}, {"ephemeral_1h_input_tokens": 9000}]
)
async def test_writes_with_and_without_a_lifetime(writes: dict[str, int] | None, tmp_path: Path) -> None:
    await compare("claude-opus-5-5", tmp_path, usage(cache_creation=writes))


async def test_a_dated_snapshot(tmp_path: Path) -> None:
    await compare("claude-haiku-4-5-20251001", tmp_path, usage())
