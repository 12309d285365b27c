"""*Usage* and *Conversation* as a person meets them, in Chromium."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_proxy.simulator import Simulator
from claude_proxy.web.texts import text
from tests.cli.ledgers import fill
from tests.integration.booked import api, booked
from tests.integration.proxy import RunningProxy
from tests.web.browser import CONTRASTS, Chromium, only_from
from tests.web.pages.talk import assistant, call, coding, request, result, say, tool, user
from tests.web.pages.test_browser import AXE, TOO_WIDE, WATCH_COPY
from tests.web.pages.test_usage import life

pytestmark = pytest.mark.system
ATTACK = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy with books of some days, which captures."""
    fill(tmp_path, *life(int(time.time() * 1000)))
    async with booked(simulator, tmp_path, capture="all") as running:
        yield running


async def views(proxy: RunningProxy, simulator: Simulator) -> list[str]:
    """Every state of the two views."""
    await say(proxy, simulator, request(coding()[:3]))
    id = await say(proxy, simulator, request(coding(), tools=[tool("Bash", "Runs it."), tool("Grep")]), text="Done.\n한국어")
    place = f"{proxy.origin}/exchanges/{id}/conversation"
    usage = f"{proxy.origin}/usage?timezone=UTC"
    async with api(proxy) as client:
        oldest = (await client.get("/exchanges?limit=10")).json()["items"][-1]["id"]
    missing = f"{proxy.origin}/exchanges/{oldest}/conversation"
    return [
        usage,
        f"{usage}&measure=tokens&by=session&model=glm-5.3&since=30d",
        place,
        f"{place}?find=parse",
        f"{place}/parts/7",
        missing,
    ]


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize(("dark", "language"), [(False, "en"), (True, "ko")], ids=["light-en", "dark-ko"])
async def test_every_view_fits_and_can_be_read(
    browser: Chromium, proxy: RunningProxy, simulator: Simulator, width: int, dark: bool, language: str
) -> None:
    tab = await browser.tab(width=width, dark=dark, language=language)
    for view in await views(proxy, simulator):
        await tab.open(view)
        await tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        wide = await tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, (view, await tab.run(TOO_WIDE))
        assert await tab.run(CONTRASTS) == [], view
    only_from(proxy.origin, tab)


@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names axe-core's axe.min.js")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("dark", "language"), [(False, "en"), (True, "ko")], ids=["light-en", "dark-ko"])
async def test_axe_has_nothing_to_say(
    browser: Chromium, proxy: RunningProxy, simulator: Simulator, width: int, dark: bool, language: str
) -> None:
    axe = Path(os.environ["AXE_CORE"]).read_text("utf-8")  # noqa: ASYNC240  # once, in a test
    tab = await browser.tab(width=width, dark=dark, language=language)
    for view in await views(proxy, simulator):
        await tab.open(view)
        await tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        await tab.run(f"{axe}; true")
        assert await tab.run(AXE) == [], view


async def test_usage_is_in_the_viewers_days_without_being_asked(browser: Chromium, proxy: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.call("Emulation.setTimezoneOverride", timezoneId="Asia/Seoul")
    await tab.open(f"{proxy.origin}/")
    assert await tab.run("document.querySelector('[data-view=usage]').search") == "?timezone=Asia%2FSeoul"
    await tab.open(f"{proxy.origin}/usage")
    await tab.until("location.search.includes('Seoul') && document.querySelector('.lead')?.textContent.includes('Seoul')")


async def test_a_choice_is_shown_at_once_and_keeps_the_filters(browser: Chromium, proxy: RunningProxy) -> None:
    tab = await browser.tab(language="ko")
    await tab.open(f"{proxy.origin}/usage?timezone=UTC&model=glm-5.3")
    assert not await tab.run("document.querySelector('.choices button').checkVisibility()")
    tab.loaded.clear()
    await tab.run(
        "(() => { const list = document.querySelector('select[name=since]'); list.value = '90d';"
        " list.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    await tab.loaded.wait()
    query = await tab.run("Object.fromEntries(new URLSearchParams(location.search))")
    assert query | {"since": "90d", "model": "glm-5.3", "timezone": "UTC"} == query
    assert await tab.run("document.querySelector('select[name=period]').value") == "week"


async def test_a_long_result_is_loaded_in_its_place(browser: Chromium, proxy: RunningProxy, simulator: Simulator) -> None:
    long = ATTACK + "".join(f"line {at}\n" for at in range(4000))
    id = await say(proxy, simulator, request([user("go"), assistant(call("t")), user(result("t", long))]))
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/exchanges/{id}/conversation")
    title = await tab.run("document.title")
    await tab.run("document.querySelector('details.result').open = true")
    assert "line 3999" not in await tab.run("document.body.textContent")
    await tab.run("document.querySelector('details.result a[data-all]').click()")
    await tab.until("document.querySelector('details.result .said').textContent.includes('line 3999')")
    assert await tab.run("document.querySelector('details.result .said').textContent.startsWith('<script>')")
    assert await tab.run("document.querySelectorAll('main script, main img').length") == 0
    assert await tab.run("document.title") == title
    only_from(proxy.origin, tab)


async def test_the_command_is_copied(browser: Chromium, proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request(coding()))
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/exchanges/{id}/conversation")
    await tab.run(WATCH_COPY)
    await tab.run("document.querySelector('a[data-curl]').click()")
    await tab.until(f"document.querySelector('a[data-curl]').textContent === '{text('en', 'shell.copied')}'")
    [copied] = await tab.run("copied")
    assert copied.startswith("curl -N ")
    assert "Fix the failing test" in copied


async def test_a_link_to_a_folded_part_opens_it(browser: Chromium, proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request(coding()))
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/exchanges/{id}/conversation?find=FAILED")
    await tab.run("document.querySelector('#hits a').click()")
    await tab.until("document.querySelector('details.result[open]')")


async def test_an_image_opens_in_a_sandbox(browser: Chromium, proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request(coding()))
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/exchanges/{id}/conversation")
    link = await tab.run("document.querySelector('.media a').href")
    await tab.open(link)
    assert await tab.run("[document.images.length, document.images[0].naturalWidth]") == [1, 40]
    assert await tab.run("self.origin") == "null"
