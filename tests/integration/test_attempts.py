"""What is known of an attempt: each one that was waited for ends with a status or a failure, and who listens is told."""

from __future__ import annotations

import asyncio

import pytest

from claude_proxy import exchange as model
from claude_proxy.simulator import Simulator
from claude_proxy.upstream.connection import Connection
from tests.integration.listeners import listening, silent, small_buffers
from tests.integration.messages import FILES, MESSAGES, body
from tests.integration.proxy import running_proxy
from tests.integration.test_pool import ClosesBehindTheHead, message
from tests.integration.wire import ask

Told = tuple[int | None, str | None]


class Attempts(model.Listener):
    """Keeps what it is told of attempts: status and kind of failure."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def on_attempt(self, exchange: model.Exchange, attempt: model.Attempt) -> None:
        self.told.append((attempt.status, attempt.failure and attempt.failure.kind))


async def test_an_attempt_without_an_answer_in_time_has_failed() -> None:
    attempts = Attempts()
    async with (
        listening(silent) as upstream,
        running_proxy(f"http://127.0.0.1:{upstream.port}", response_head_timeout=0.1, listeners=[attempts]) as proxy,
    ):
        reply = await ask(proxy.port, "POST", MESSAGES, body=body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, exchange.outcome) == (504, model.Outcome.FAILED)
    assert attempts.told == [(None, "response_head_timeout")]
    assert exchange.attempts[0].failure == exchange.failure


@pytest.mark.parametrize("path", [MESSAGES, FILES], ids=["read first", "still coming"])
async def test_nor_has_one_whose_request_nobody_takes_succeeded(path: str) -> None:
    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await asyncio.sleep(60)

    attempts = Attempts()
    async with (
        listening(deaf, small_buffers()) as upstream,
        running_proxy(f"http://127.0.0.1:{upstream.port}", write_timeout=0.1, listeners=[attempts]) as proxy,
    ):
        reply = await ask(proxy.port, "POST", path, body=b"a" * 7_000_000)
    assert reply.status == 504
    assert attempts.told == [(None, "write_timeout")]


async def test_the_wait_for_one_answer_does_not_go_on_while_another_connection_is_made(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection may take longer than an answer."""
    attempts = Attempts()
    async with running_proxy(simulator.base_url, response_head_timeout=0.2, listeners=[attempts]) as proxy:
        await message(proxy.port)
        pool = proxy.app.forward.config.upstreams[0].pool
        connect = pool.connect

        async def slowly(loop: asyncio.AbstractEventLoop) -> Connection:
            await asyncio.sleep(0.4)
            return await connect(loop)

        monkeypatch.setattr(pool, "take", ClosesBehindTheHead(pool).take)
        monkeypatch.setattr(pool, "connect", slowly)
        reply = await message(proxy.port)
    assert reply.status == 200
    assert attempts.told == [(200, None), (None, "stale_connection"), (200, None)]
