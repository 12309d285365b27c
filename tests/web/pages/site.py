"""A whole proxy with its page, in front of the simulator, and a browser's requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from claude_proxy.simulator import Scenario, Simulator
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy
from tests.integration.wire import Header, ask
from tests.web.serving import BROWSER


@asynccontextmanager
async def visitor(proxy: RunningProxy, language: str = "en", **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at a proxy."""
    sent = {"accept": BROWSER, "accept-language": language} | headers
    async with httpx.AsyncClient(base_url=proxy.origin, headers=sent, timeout=30) as client:
        yield client


async def call(proxy: RunningProxy, simulator: Simulator, scenario: Scenario | None = None, *fields: Header, **more: Any) -> None:
    """One Messages call, to its end."""
    simulator.scenario = scenario or Scenario("text")
    await ask(proxy.port, "POST", MESSAGES, [JSON, *fields], body(**more))
