"""The client of the deploy tests: from 127.0.0.2, so that its address is not the front's."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from claude_proxy.simulator import Recorded, Simulator
from tests.deploy.fronts import NAME, Certificate

CLIENT = "127.0.0.2"
MESSAGES = "/api/anthropic/v1/messages"
BODY = {"model": "claude-check", "max_tokens": 64, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True)
class Way:
    """How a client gets there: a port of 127.0.0.1, with TLS or without, and what it says as Host."""

    port: int
    tls: bool
    certificate: Certificate

    @property
    def host(self) -> str:
        """The name under which the proxy is called."""
        return f"{NAME}:{self.port}" if self.tls else f"127.0.0.1:{self.port}"

    @asynccontextmanager
    async def client(self, *, http2: bool = False) -> AsyncIterator[httpx.AsyncClient]:
        """A client with connections of its own."""
        transport = httpx.AsyncHTTPTransport(
            verify=self.certificate.trust(),
            http1=not http2,
            http2=http2,
            local_address=CLIENT,
            limits=httpx.Limits(max_connections=20),
        )
        url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        headers = {"host": self.host, "authorization": "Bearer client-key"}
        async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers, timeout=30) as client:
            yield client

    @property
    def extensions(self) -> dict[str, Any]:
        """For each request: the name to ask for in TLS."""
        return {"sni_hostname": NAME} if self.tls else {}


class Call:
    """One request that can be found again at the upstream and in the proxy's log."""

    def __init__(self, scenario: str = "", **fields: str) -> None:
        self.session = str(uuid.uuid4())
        self.headers = {"x-claude-code-session-id": self.session, **fields}
        if scenario:
            self.headers["x-simulate"] = scenario

    def at(self, simulator: Simulator) -> Recorded:
        """What the upstream received.

        Raises:
            AssertionError: it has not arrived.
        """
        found = self._find(simulator)
        assert found is not None, "the request did not arrive at the upstream"
        return found

    async def received(self, simulator: Simulator) -> None:
        """Wait until the upstream has it whole.

        Raises:
            TimeoutError: it does not arrive.
        """
        await simulator.wait_for(lambda sim: (one := self._find(sim)) is not None and one.complete)

    async def left(self, simulator: Simulator) -> None:
        """Wait until the upstream saw the client leave before the answer was finished.

        Raises:
            TimeoutError: it does not see that.
        """
        await simulator.wait_for(lambda sim: self.at(sim).outcome == "client-left")

    def _find(self, simulator: Simulator) -> Recorded | None:
        return next((one for one in simulator.requests if one.header("x-claude-code-session-id") == self.session), None)


@asynccontextmanager
async def stream(client: httpx.AsyncClient, way: Way, call: Call, prefix: str = "") -> AsyncIterator[AsyncIterator[str]]:
    """Send a streamed message; the block gets the names of the events as they come."""
    async with client.stream("POST", prefix + MESSAGES, json=BODY, headers=call.headers, extensions=way.extensions) as response:
        assert response.status_code == 200, await response.aread()
        yield (line.removeprefix("event: ") async for line in response.aiter_lines() if line.startswith("event: "))
