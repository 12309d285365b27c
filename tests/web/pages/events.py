"""The event stream of the page as a test reads it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.integration.proxy import RunningProxy

PATIENCE = 10.0
PARTIAL = re.compile(r'<hx-partial hx-target="(.*?)" hx-swap="(\w+)">(.*?)</hx-partial>', re.DOTALL)


class Page:
    """What a browser would show: rows by id, as the parts of the stream put them there."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.rows: dict[str, str] = {}
        self.tiles = ""
        self.beats: list[dict[str, Any]] = []
        self.charts: dict[str, str] = {}
        self.messages: list[str] = []

    async def until(self, condition: Callable[[Page], object]) -> Page:
        """Read on until something holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                await self._read()
        return self

    async def to_end(self) -> None:
        """Read until the stream ends, as it should."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self._read()
                except StopAsyncIteration:
                    return

    async def _read(self) -> None:
        event, data = "", []
        while line := await anext(self._lines):
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data.append(value)
        self._take(event, "\n".join(data))

    def _take(self, event: str, data: str) -> None:
        if event == "beat":
            self.beats.append(json.loads(data))
        elif event == "charts":
            self.charts = json.loads(data)
        else:
            self.messages.append(data)
            for target, how, inner in re.findall(
                r'<hx-partial hx-target="(.*?)" hx-swap="(\w+)">(.*?)</hx-partial>', data, re.DOTALL
            ):
                self._swap(target, how, inner)

    def _swap(self, target: str, how: str, inner: str) -> None:
        if target == "#tiles":
            self.tiles = inner
        if not target.endswith("-rows"):
            return
        kind = target[1]
        if how == "innerMorph":
            self.rows = {number: row for number, row in self.rows.items() if not number.startswith(f"{kind}-")}
        for number, rest, row in re.findall(r'<tr id="(.*?)"(.*?)>(.*?)</tr>', inner, re.DOTALL):
            if "data-gone" in rest:
                self.rows.pop(number, None)
            else:
                self.rows[number] = row


@asynccontextmanager
async def watching(proxy: RunningProxy, language: str = "en", **headers: str) -> AsyncIterator[Page]:
    """An open page."""
    url = f"{proxy.origin}/live?lang={language}"
    async with httpx.AsyncClient(timeout=PATIENCE, headers=headers) as client, client.stream("GET", url) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Page(answer.aiter_lines())
