"""Errors on *Upstreams* and on an exchange's page mean what the provider's table says, in the viewer's language."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_proxy.notify.advice import OWN
from claude_proxy.protocol.providers.base import Language
from claude_proxy.protocol.providers.zai import ZAI
from claude_proxy.simulator import Simulator, error
from tests.integration.booked import written
from tests.integration.proxy import RunningProxy
from tests.integration.queued import queued
from tests.web.pages.html import outline
from tests.web.pages.site import call, visitor

LANGUAGES: tuple[Language, ...] = ("en", "ko")


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """In front of an upstream that only the settings call a z.ai, with notices on."""
    notices = {"ntfy_topic": "t", "ntfy_server": simulator.origin}
    async with queued(tmp_path, simulator, "ONE", queue=False, ledger="on", **notices) as running:
        yield running


async def shown(proxy: RunningProxy, path: str, language: Language) -> str:
    async with visitor(proxy, language) as client:
        return outline((await client.get(path)).text).text


@pytest.mark.parametrize("code", ["1302", "1305", "1308", "1113"])
async def test_a_code_means_what_its_provider_means_by_it(simulator: Simulator, proxy: RunningProxy, code: str) -> None:
    await call(proxy, simulator, error(429, message=f"[{code}][Something that nobody can interpret][1]", error_code=code))
    await written(proxy, 1)
    about = ZAI.codes[code]
    for path in ("/upstreams", f"/exchanges/{proxy.recorder.ended[0].id}"):
        for language in LANGUAGES:
            page = await shown(proxy, path, language)
            assert about.meaning.to(language) in page
            assert about.fix.to(language) in page


async def test_an_incident_is_told_in_the_viewers_language_and_names_its_upstream(
    simulator: Simulator, proxy: RunningProxy
) -> None:
    await simulator.refuse()
    for _ in range(3):
        await call(proxy, simulator)
    await asyncio.sleep(0)
    about = OWN["connect_failed"]
    for language in LANGUAGES:
        page = await shown(proxy, "/upstreams", language)
        [incident] = [line for line in page.split("connect_failed: ") if line.startswith(about.name.to(language))][:1]
        assert about.do.to(language) in incident
        assert "· zai ·" in page
