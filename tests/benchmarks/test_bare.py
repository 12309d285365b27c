"""The yardstick passes on what it is sent: a figure of a proxy that does less would flatter nobody but us."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from benchmarks import contenders, load, payload


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    core = min(os.sched_getaffinity(0))
    with (
        contenders.mock_upstream(core) as (upstream, _),
        contenders.running(contenders.bare(), upstream, core=core) as server,
    ):
        yield server.port


@pytest.mark.parametrize(("kind", "size"), [("json", 2048), ("json", 200 * 1024), ("fast", 2048), ("pace", 2048)])
def test_it_passes_whole_exchanges_over_kept_connections(port: int, kind: str, size: int) -> None:
    tally = asyncio.run(load.drive(port, payload.request(kind, port, size), 4, 12 if kind != "pace" else 4))
    assert (tally.done, tally.failed, tally.example) == (12 if kind != "pace" else 4, 0, b"")


def test_the_answer_is_the_upstreams(port: int) -> None:
    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(payload.request("json", port))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"request-id: req_011CTbenchbenchbenchbench" in head
        body = await reader.readexactly(payload.JSON_ANSWER_SIZE)
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()
        return body

    assert asyncio.run(ask()) == payload.json_answer_body()


@pytest.mark.parametrize("size", [512, 2048, 100 * 1024, 200 * 1024, 400 * 1024])
def test_a_request_has_the_size_that_was_asked_for_and_its_kind_at_the_end(size: int) -> None:
    for kind in payload.KINDS:
        body = payload.request_body(kind, size)
        assert len(body) == size
        assert body.endswith(kind.encode() + payload.MARK)
        assert json.loads(body)["messages"][-1]["role"] == "user"


def test_a_large_request_is_a_session_and_not_one_long_word() -> None:
    body = json.loads(payload.request_body("json", 200 * 1024))
    assert len(body["tools"]) > 20
    assert len(body["messages"]) > 50
    assert {block["type"] for turn in body["messages"] for block in turn["content"]} == {"text", "tool_use", "tool_result"}
