"""A scripted session through the real proxy: Claude Code's requests, and an API that reports what it is told of its cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from claude_proxy.exchange import Exchange, Listener
from claude_proxy.observe.cache import CacheObserver
from claude_proxy.simulator import Scenario, Simulator
from claude_proxy.simulator.scenario import Usage
from tests.integration.proxy import RunningProxy, running_proxy
from tests.protocol.prompts import Json, encode, request, turn

FILL = "words of a long prompt, which every model caches; " * 100  # 5 KB
SESSION = {"x-claude-code-session-id": "session-1"}


def first_turn(**changes: Any) -> Json:
    """A first turn that is long enough to be cached."""
    body = request()
    body["system"][2]["text"] = FILL
    return {**body, **changes}


def grown(body: Json, turns: int) -> Json:
    for number in range(turns):
        body = turn(body, number)
    return body


class Clock:
    """Seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Conversation:
    """A client behind a proxy.

    Attributes:
        clock: of the observer.
        headers: what each request shows.
    """

    def __init__(self, simulator: Simulator, proxy: RunningProxy, client: httpx.AsyncClient, clock: Clock) -> None:
        self.simulator = simulator
        self.proxy = proxy
        self.clock = clock
        self.headers: dict[str, str] = {"x-api-key": "mine", **SESSION}
        self._client = client

    async def send(
        self, body: Json, *, read: int = 0, write: int = 0, rest: int = 100, after: float = 10, scenario: Scenario | None = None
    ) -> Exchange:
        """Send a request `after` seconds; the finished exchange. Counts of tokens are what the API reports."""
        self.clock.now += after
        usage = Usage(rest, 5, write, read)
        self.simulator.scenario = scenario or Scenario("text", text="ok", usage=usage)
        return await self.raw(encode(body))

    async def raw(self, data: bytes, **headers: str) -> Exchange:
        """Send these bytes."""
        ended = len(self.proxy.recorder.ended)
        url = f"{self.proxy.base_url}/v1/messages"
        await self._client.post(url, content=data, headers={"content-type": "application/json", **self.headers, **headers})
        return (await self.proxy.recorder.wait_for(ended + 1))[-1]

    async def verdict(self, body: Json, **how: Any) -> str:
        """The same; the verdict in words, with the tokens that were lost."""
        cache = (await self.send(body, **how)).cache
        if cache is None:
            return "none"
        return f"{cache}, lost {cache.lost}" if cache.lost else str(cache)


@asynccontextmanager
async def conversation(*others: Listener, observing: bool = True, **settings: Any) -> AsyncIterator[Conversation]:
    """A simulator, a proxy that watches caches by a clock of the test's, and a client."""
    clock = Clock()
    listeners = [*([CacheObserver(clock=clock)] if observing else []), *others]
    async with (
        Simulator() as simulator,
        running_proxy(simulator.base_url, listeners=listeners, **settings) as proxy,
        httpx.AsyncClient(timeout=30) as client,
    ):
        yield Conversation(simulator, proxy, client, clock)


async def eventually(condition: Callable[[], bool], patience: float = 20) -> None:
    """Return once the condition holds: another thread brings it about."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - a thread has no event of this loop to set
            await asyncio.sleep(0.002)
