"""Remembering that an upstream has no count_tokens: one probe, everybody else waits for what it learns."""

import asyncio

import pytest

from claude_proxy.errors import NotFound
from claude_proxy.proxy.count_tokens import CountTokens, looks_missing, missing


class Clock:
    """The running loop, but its clock only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self.now

    def create_future(self) -> "asyncio.Future[bool]":
        return self._loop.create_future()


async def enter(memory: CountTokens, clock: Clock) -> bool:
    return await memory.enter(clock)  # type: ignore[arg-type] # as much of a loop as it needs


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_first_asks_and_the_burst_beside_it_waits() -> None:
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    burst = [asyncio.ensure_future(enter(memory, clock)) for _ in range(26)]
    await settle()
    assert not any(task.done() for task in burst)
    memory.learn(clock.now, is_missing=True)
    results = await asyncio.gather(*burst, return_exceptions=True)
    assert all(isinstance(result, NotFound) for result in results)


async def test_if_it_is_there_everybody_goes_on_and_nobody_waits_any_more() -> None:
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    burst = [asyncio.ensure_future(enter(memory, clock)) for _ in range(26)]
    await settle()
    memory.learn(clock.now, is_missing=False)
    assert await asyncio.gather(*burst) == [False] * 26
    assert [await enter(memory, clock) for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("is_missing", [True, False])
async def test_it_asks_again_when_the_memory_is_old(is_missing: bool) -> None:
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    memory.learn(clock.now, is_missing=is_missing)
    await settle()
    clock.now += 599.9
    if is_missing:
        with pytest.raises(NotFound):
            await enter(memory, clock)
    else:
        assert await enter(memory, clock) is False
    clock.now += 0.2
    assert await enter(memory, clock) is True


async def test_what_changed_is_learnt() -> None:
    memory, clock = CountTokens(600), Clock()
    for is_missing in (True, False, True):
        assert await enter(memory, clock) is True
        memory.learn(clock.now, is_missing=is_missing)
        await settle()
        clock.now += 601


async def test_after_an_answer_that_does_not_tell_everybody_asks_for_himself() -> None:
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    burst = [asyncio.ensure_future(enter(memory, clock)) for _ in range(5)]
    await settle()
    memory.learn(clock.now, is_missing=None)
    assert await asyncio.gather(*burst) == [False] * 5


async def test_after_a_probe_that_got_no_answer_one_other_asks_and_the_rest_wait_on() -> None:
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    burst = [asyncio.ensure_future(enter(memory, clock)) for _ in range(5)]
    await settle()
    memory.gave_up()
    await settle()
    assert [task.result() for task in burst if task.done()] == [True]
    memory.learn(clock.now, is_missing=True)
    results = await asyncio.gather(*burst, return_exceptions=True)
    assert sum(isinstance(result, NotFound) for result in results) == 4


async def test_nobody_waits_long_for_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.proxy.count_tokens.PATIENCE", 0.02)
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    assert await enter(memory, clock) is False


async def test_one_that_leaves_while_it_waits_disturbs_nobody() -> None:
    memory, clock = CountTokens(600), Clock()
    assert await enter(memory, clock) is True
    leaving, staying = (asyncio.ensure_future(enter(memory, clock)) for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    assert leaving.cancelled()
    memory.learn(clock.now, is_missing=False)
    assert await staying is False


async def test_switched_off_it_always_asks_and_never_waits() -> None:
    memory, clock = CountTokens(0), Clock()
    assert [await enter(memory, clock) for _ in range(3)] == [False] * 3


async def test_learning_without_a_probe_is_harmless() -> None:
    memory, clock = CountTokens(600), Clock()
    memory.learn(clock.now, is_missing=None)
    assert await enter(memory, clock) is True


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"input_tokens":5}', False),
        (404, b"", True),
        (404, b"<html>Not Found</html>", True),
        (404, b'{"type":"error","error":{"type":"not_found_error","message":"Not found: /v1/messages/count_tokens"}}', True),
        (404, b'{"detail":"Not Found"}', True),
        (404, b'{"type":"error","error":{"type":"not_found_error","message":"model: glm-9"}}', False),
        (404, b'{"error":{"message":"The model does not support count_tokens"}}', True),
        (400, b'{"error":{"message":"404 page not found"}}', True),
        (400, b'{"code":500,"msg":"404 NOT_FOUND","success":false}', True),
        (400, b'{"error":{"message":"model glm-9 not found (404)"}}', False),
        (400, b'{"error":{"message":"max_tokens: Field required"}}', False),
        (401, b"", None),
        (429, b"", None),
        (500, b"404 not found", None),
        (529, b"", None),
    ],
)
def test_only_an_answer_about_the_endpoint_tells(status: int, body: bytes, expected: bool | None) -> None:
    assert looks_missing(status, body) is expected


def test_the_answer_is_a_clean_404() -> None:
    error = missing()
    assert (error.status, error.type, error.code, error.should_retry) == (404, "not_found_error", "no_count_tokens", False)
