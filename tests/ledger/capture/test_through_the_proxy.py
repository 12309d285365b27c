"""Through the real proxy: what is read back is what was sent and answered, but for credentials."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Listener, Listeners, Outcome, Tap
from claude_proxy.ledger.record import record
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.simulator.scenario import ToolCall
from tests.integration.listeners import listening, saying
from tests.integration.messages import COUNT, MESSAGES, body, post
from tests.integration.proxy import running_proxy
from tests.integration.wire import ask, connect
from tests.ledger.capture.captured import capturing, contents, counts, kept, only

KEY = b"my-own-credential-4711"
TOOLS = [{"name": "Bash", "description": "Run", "input_schema": {"type": "object"}}, {"name": "Read", "input_schema": {}}]
SYSTEM = [
    {"type": "text", "text": "You are a test."},
    {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
]
HISTORY = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three — ü"}]


def asking(**fields: Any) -> dict[str, Any]:
    return {"model": "glm-5.3", "messages": HISTORY, "system": SYSTEM, "tools": TOOLS, "max_tokens": 100, **fields}


WRITTEN = {
    "compact": lambda value: json.dumps(value, separators=(",", ":")),
    "spaced": json.dumps,
    "escaped": lambda value: json.dumps(value, ensure_ascii=True),
    "indented": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    "tabbed": lambda value: json.dumps(value, indent="\t") + "\n",
}
REQUESTS = {
    "all": asking(),
    "system as a string": asking(system="You are a test."),
    "no tools": {"model": "glm-5.3", "max_tokens": 1, "messages": HISTORY},
    "empty lists": asking(tools=[], system=[]),
    "keys in another order": dict(reversed(asking().items())),
    "one message": asking(messages=HISTORY[:1], tools=TOOLS[:1]),
    "a part inside another": asking(messages=[{"role": "user", "content": [{"tools": TOOLS, "messages": [1]}]}]),
    "unknown fields": asking(context_management={"edits": []}, betas=["x"]),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", REQUESTS)
async def test_the_request_is_read_back_byte_for_byte(simulator: Simulator, tmp_path: Path, name: str, written: str) -> None:
    sent = WRITTEN[written](REQUESTS[name]).encode()
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=sent)
    assert only(tmp_path).request == sent
    assert simulator.requests[0].body == sent


@pytest.mark.parametrize(
    "sent",
    [
        b'{"messages":[ {"role":"user","content":"a"},{"role":"user","content":"b"} ,{"role":"user","content":"c"}]}',
        b'{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}',
        b'{"messages":"none","model":"glm-5.3"}',
        b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b"no JSON at all",
    ],
    ids=["uneven", "twice", "no list", "no UTF-8", "no JSON"],
)
async def test_a_request_that_cannot_be_cut_is_kept_whole(simulator: Simulator, tmp_path: Path, sent: bytes) -> None:
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=sent)
    assert only(tmp_path).request == sent


async def test_a_compressed_request_is_kept_as_what_it_says(simulator: Simulator, tmp_path: Path) -> None:
    sent = json.dumps(asking()).encode()
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, [(b"content-encoding", b"gzip")], body=gzip.compress(sent))
    assert only(tmp_path).request == sent


ANSWERS: dict[str, Scenario] = {
    "text": Scenario("text", text="hello\nwörld" * 9, deltas=7),
    "tool": Scenario("tool", tools=(ToolCall("Bash", {"command": "ls -l", "deep": {"a": [1, 2.5, None]}}),)),
    "tools": Scenario("tools", tools=(ToolCall("Bash", {"command": "ls"}), ToolCall("Read", {}))),
    "thinking": Scenario("thinking", text="so"),
}


@pytest.mark.parametrize("encoding", [None, "gzip", "br", "zstd", "deflate"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_a_streamed_answer_is_kept_as_the_message_that_it_is(tmp_path: Path, name: str, encoding: Any) -> None:
    """The same scenario unstreamed says what that is."""
    found: list[dict[str, Any]] = []
    for stream in (True, False):
        folder = tmp_path / str(stream)
        async with (
            Simulator(replace(ANSWERS[name], encoding=encoding)) as upstream,
            capturing(upstream.base_url, folder) as proxy,
        ):
            await ask(proxy.port, "POST", MESSAGES, body=json.dumps(asking(stream=stream)).encode())
        (answer,) = only(folder).answer
        assert answer.kind == "answer"
        assert only(folder).note.complete
        found.append(answer.value())
    assert found[0] == found[1]


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_an_unstreamed_answer_is_read_back_byte_for_byte(tmp_path: Path, encoding: Any) -> None:
    async with (
        Simulator(Scenario("text", text="hello", encoding=encoding)) as upstream,
        capturing(upstream.base_url, tmp_path) as proxy,
    ):
        reply = await ask(proxy.port, "POST", MESSAGES, body=body(stream=False))
    sent = gzip.decompress(reply.body) if encoding else reply.body
    assert [block.data for block in only(tmp_path).answer] == [sent]


FAULTS = {
    "an error status": Scenario(fault=faults.status(529)),
    "an error event": Scenario("text", text="x" * 40, deltas=20, fault=faults.error_event(6)),
    "a cut": Scenario("text", text="x" * 40, deltas=20, fault=faults.cut("events", 8)),
    "a clean end in the middle": Scenario("text", text="x" * 40, deltas=20, framing="close", fault=faults.cut("events", 8)),
}


@pytest.mark.parametrize("mode", ["all", "errors"])
@pytest.mark.parametrize("name", FAULTS)
async def test_an_answer_that_went_wrong_is_kept_as_far_as_it_came(tmp_path: Path, name: str, mode: str) -> None:
    async with Simulator(FAULTS[name]) as upstream, capturing(upstream.base_url, tmp_path, mode) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=body())
        exchange = await proxy.last()
    found = only(tmp_path)
    assert exchange.transcript == found.number
    assert (found.note.status, found.note.outcome) == (exchange.status, exchange.outcome)
    assert found.request == body()
    assert found.answer
    said = b"".join(block.data for block in found.answer)
    if name in ("an error status", "an error event"):
        assert b"overloaded_error" in said
    else:
        assert b"xx" in said
    assert found.note.complete is (name == "an error status")


@pytest.mark.parametrize(("mode", "count"), [("all", 1), ("errors", 0)])
async def test_a_cancelled_exchange_is_no_error_and_keeps_what_had_come(tmp_path: Path, mode: str, count: int) -> None:
    scenario = Scenario("text", text="x" * 40, deltas=20, fault=faults.stall("events", 8, until="left"))
    async with Simulator(scenario) as upstream, capturing(upstream.base_url, tmp_path, mode) as proxy:
        async with connect(proxy.port) as wire:
            wire.send(post())
            await wire.head()
            got = b""
            while got.count(b"content_block_delta") < 5:
                got += await wire.chunk() or b""
        exchange = await proxy.last()
    assert exchange.outcome is Outcome.CANCELLED
    assert len(kept(tmp_path)) == count
    if count:
        assert only(tmp_path).answer[0].value()["content"][0]["text"].startswith("xxxx")
        assert not only(tmp_path).note.complete
    else:
        assert exchange.transcript is None


async def test_errors_keeps_nothing_of_what_went_well(simulator: Simulator, tmp_path: Path) -> None:
    async with capturing(simulator.base_url, tmp_path, "errors") as proxy:
        for stream in (True, False):
            await ask(proxy.port, "POST", MESSAGES, body=body(stream=stream))
        assert proxy.app.state.capture.in_flight == 0
    assert kept(tmp_path) == []


async def test_only_messages_calls_are_kept(simulator: Simulator, tmp_path: Path) -> None:
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", COUNT, body=body())
        await ask(proxy.port, "GET", MESSAGES)
        await ask(proxy.port, "GET", "/api/anthropic/v1/models")
        await proxy.recorder.wait_for(3)
    assert kept(tmp_path) == []


class Counting(Tap):
    """A tap that does not mind when it sees what."""

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once
        self.seen: list[bytes] = []

    def on_data(self, data: bytes) -> None:
        self.seen.append(data)


class Offering(Listener):
    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def tap(self, exchange: Exchange) -> Tap:
        return self._tap


async def test_a_tap_that_need_not_see_each_chunk_at_once_sees_all_of_them_in_the_end() -> None:
    tap = Counting(at_once=False)
    scenario = Scenario("text", text="x" * 200, deltas=100, writes="event")
    async with Simulator(scenario) as upstream, running_proxy(upstream.base_url, listeners=[Offering(tap)]) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body())
        exchange = await proxy.last()
    assert b"".join(tap.seen) == reply.body
    for others, at_once in ([], False), ([Counting(False)], False), ([Counting(True)], True):
        together = Listeners([Offering(one) for one in (tap, *others)]).tap(exchange)
        assert together is not None
        assert together.at_once is at_once


async def test_off_keeps_nothing(simulator: Simulator, tmp_path: Path) -> None:
    async with capturing(simulator.base_url, tmp_path, "off") as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=body())
        assert proxy.app.state.capture is None
    assert set(os.listdir(tmp_path)) <= {"client-accounts.key", "logins"}  # noqa: PTH208 - one look, nothing else runs


def test_a_proxy_that_does_not_capture_does_not_load_it(tmp_path: Path) -> None:
    program = (
        "import sys; from claude_proxy.app import create_app; from claude_proxy.settings import load;"
        f"create_app(load({{}}, data_dir={str(tmp_path)!r}).settings);"
        "assert not any(name.startswith('claude_proxy.ledger.capture') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_the_ledgers_row_knows_the_transcript(simulator: Simulator, tmp_path: Path) -> None:
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=body())
        exchange = await proxy.last()
    assert record(exchange).transcript == ids.decode(exchange.id) == only(tmp_path).number


async def test_everything_in_flight_is_given_back(simulator: Simulator, tmp_path: Path) -> None:
    async with capturing(simulator.base_url, tmp_path) as proxy:
        for _ in range(3):
            await ask(proxy.port, "POST", MESSAGES, body=body())
    capture = proxy.app.state.capture
    assert (capture.in_flight, capture.lost, capture.worker.written) == (0, 0, 3)


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
async def test_no_credential_of_the_exchange_is_in_the_file(tmp_path: Path, name: str) -> None:
    """Not where the client quotes it, not where the answer does: in one piece, in deltas, in a tool's input, in an error."""
    key, held = KEY.decode(), "the-proxys-own-0815"
    scenario = Scenario("tool", text=f"it is {key}", tools=(ToolCall("Bash", {"command": f"echo {key} {held}"}),), deltas=19)
    header = (name.encode(), b"Bearer " + KEY if name == "authorization" else KEY)
    sent = body(text=f"my key is {key}, is it not? {held}", system=f"never say {key}", metadata={"user_id": key})
    async with Simulator(scenario) as upstream, capturing(upstream.base_url, tmp_path, upstream_api_key=held) as proxy:
        for stream in (True, False):
            upstream.scenario = scenario
            await ask(
                proxy.port,
                "POST",
                MESSAGES,
                [header],
                body=sent.replace(b'"stream": true', b'"stream": %s' % str(stream).lower().encode()),
            )
        upstream.scenario = Scenario(fault=faults.status(401), message=f"bad key {key}")
        await ask(proxy.port, "POST", MESSAGES, [header], body=sent)
    assert len(kept(tmp_path)) == 3
    assert all(KEY not in data and held.encode() not in data for data in contents(tmp_path))
    first = kept(tmp_path)[0]
    assert json.loads(first.request or b"") == json.loads(sent.replace(KEY, b"[redacted]").replace(held.encode(), b"[redacted]"))


async def test_what_is_no_message_is_kept_as_text(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 25\r\n\r\n<script>alert(1)</script>"
    async with listening(saying(answer)) as upstream, capturing(f"http://127.0.0.1:{upstream.port}", tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=body())
    assert [(block.kind, block.data) for block in only(tmp_path).answer] == [("error", b"<script>alert(1)</script>")]
    assert counts(tmp_path)["head"] == 1
