"""The page as a person meets it, in Chromium: live, by keyboard, on a phone, in the dark, in Korean."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import State, Usage
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.web.texts import text
from tests.integration.booked import booked, fill
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy
from tests.integration.wire import Wire, connect, request
from tests.observe.running import exchange, finished
from tests.web.browser import CONTRASTS, Chromium, Tab, only_from
from tests.web.pages.site import call

pytestmark = pytest.mark.system

VIEWS = ("/", "/sessions", "/sessions/session-1", "/upstreams", "/settings")
ROWS = "[...document.querySelectorAll('#running-rows tr')].map((row) => row.id)"
TOO_WIDE = """
[...document.querySelectorAll('main *')]
  .filter((one) => one.getBoundingClientRect().right > innerWidth)
  .map((one) => one.outerHTML)
"""
AXE = """
axe.run().then((result) => result.violations.map((one) => [one.impact, one.id, one.nodes.map((node) => node.html)]))
"""
STAY = """
document.querySelector('#finished-rows a.row').addEventListener('click', (event) => {
  event.preventDefault();
  globalThis.went = event.currentTarget.href;
})
"""
MARKED = """
(() => {
  const canvas = document.querySelector('#first-byte canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let found = 0;
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3] > 99 && pixels[at] - pixels[at + 2] > 80) found += 1;
  return found;
})()
"""  # pixels in the reddish colour of the second series, which covers the first one
CODES = {"Escape": 27, "Enter": 13}
WATCH_COPY = "globalThis.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }"


@pytest.fixture
async def fresh(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    async with booked(simulator, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def used(fresh: RunningProxy, simulator: Simulator) -> RunningProxy:
    """A proxy with exchanges of every kind behind it."""
    await fill(fresh, simulator)
    return fresh


@asynccontextmanager
async def streaming(proxy: RunningProxy, simulator: Simulator) -> AsyncIterator[Wire]:
    """A client whose stream has begun and stands still."""
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with connect(proxy.port) as wire:
        wire.send(request("POST", MESSAGES, [JSON, (b"x-claude-code-session-id", b"session-9")], body()))
        await simulator.hold.wait()
        yield wire


def live(proxy: RunningProxy) -> Any:
    """Where exchanges can be put that run without a client."""
    return proxy.app.state.live


async def press(tab: Tab, *keys: str) -> None:
    """Type keys as a person does."""
    for key in keys:
        typed: dict[str, Any] = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": CODES.get(key, 0)}
        await tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, **typed)
        await tab.call("Input.dispatchKeyEvent", type="keyUp", key=key)


async def test_a_stream_appears_and_moves_to_the_finished_ones_by_itself(
    browser: Chromium, used: RunningProxy, simulator: Simulator
) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    await tab.run("globalThis.same = true")
    async with streaming(used, simulator) as wire:
        await tab.until("document.querySelector('#running-rows .mark.good')")
        assert await tab.run("document.querySelector('#tiles dd').textContent") == "1"
        await tab.until("document.querySelector('#running-rows [data-since]').textContent.endsWith(' s')")
        [number] = await tab.run(ROWS)
        wire.leave()
        await tab.until(f"document.getElementById('{number.replace('r-', 'f-')}')")
        await tab.until("!document.querySelector('#running-rows tr')")
    assert await tab.run("document.querySelector('#finished-rows tr').id") == number.replace("r-", "f-")
    assert await tab.run("globalThis.same"), "nothing was loaded anew"
    only_from(used.origin, tab)


async def test_the_first_exchange_turns_the_connect_card_into_the_page(
    browser: Chromium, fresh: RunningProxy, simulator: Simulator
) -> None:
    tab = await browser.tab()
    await tab.open(f"{fresh.origin}/")
    assert await tab.run("document.querySelector('h1').textContent") == "Anthropic API → 127.0.0.1"
    shown = await tab.run("[...document.querySelectorAll('[data-address]')].map((spot) => spot.textContent)")
    assert set(shown) == {fresh.base_url}
    tab.loaded.clear()
    await call(fresh, simulator)
    await tab.loaded.wait()
    await tab.until("document.querySelector('#finished-rows tr')")
    only_from(fresh.origin, tab)


async def test_an_update_keeps_focus_selection_scroll_and_open_details(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    one, two = exchange(state=State.SENT, session="session-1", model="first"), exchange(state=State.SENT, session="session-2")
    for running in (one, two):
        live(used).on_exchange_start(running)
    await tab.until(f"document.getElementById('r-{two.id}')")
    await tab.run(f"document.querySelector('#r-{one.id} a').focus()")
    await tab.run("document.querySelector('details').open = true; scrollTo(0, 120)")
    await tab.run(f"getSelection().selectAllChildren(document.querySelector('#r-{two.id} td:nth-child(2)'))")
    await tab.run(f"globalThis.kept = document.getElementById('r-{one.id}')")
    two.model = one.model = "another"
    one.state = State.ANSWERING
    await tab.until(f"document.querySelector('#r-{one.id} .mark.good')")
    assert await tab.run(f"kept === document.getElementById('r-{one.id}')"), "the row was changed, not replaced"
    assert await tab.run(f"document.activeElement === document.querySelector('#r-{one.id} a')")
    assert await tab.run("String(getSelection())") == "–"
    assert await tab.run("[document.querySelector('details').open, scrollY]") == [True, 120]
    assert "another" not in await tab.run(f"document.getElementById('r-{two.id}').textContent"), "it is selected"
    await tab.run("getSelection().removeAllRanges()")
    two.state = State.ANSWERING
    await tab.until(f"document.getElementById('r-{two.id}').textContent.includes('another')")
    only_from(used.origin, tab)


async def test_focus_follows_a_row_to_the_finished_ones(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    one = exchange(state=State.SENT, session="session-1")
    live(used).on_exchange_start(one)
    await tab.until(f"document.querySelector('#r-{one.id} a')")
    await tab.run(f"document.querySelector('#r-{one.id} a').focus()")
    now = asyncio.get_running_loop().time()
    done = finished(id=one.id, started_at=1_890_000_000.0, started=now - 1, ended=now)
    live(used).on_exchange_end(done)
    await tab.until(f"document.activeElement.closest('tr')?.id === 'f-{one.id}'")


async def test_of_a_thousand_two_hundred_are_shown_and_the_rest_is_counted(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab(language="ko")
    for _ in range(1000):
        live(used).on_exchange_start(exchange(state=State.ANSWERING, stream=True, usage=Usage(output=9)))
    await tab.open(f"{used.origin}/")
    await tab.until("document.querySelectorAll('#running-rows tr').length === 200")
    assert await tab.run("document.getElementById('more').textContent.trim()") == text("ko", "now.more", count=800)
    assert await tab.run("document.querySelector('#tiles dd').textContent") == "1,000"


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize(("dark", "language"), [(False, "en"), (True, "ko")], ids=["light-en", "dark-ko"])
async def test_every_view_fits_and_can_be_read(
    browser: Chromium, used: RunningProxy, simulator: Simulator, width: int, dark: bool, language: str
) -> None:
    tab = await browser.tab(width=width, dark=dark, language=language)
    async with streaming(used, simulator):
        for view in VIEWS:
            await tab.open(f"{used.origin}{view}")
            await tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            wide = await tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, (view, await tab.run(TOO_WIDE))
            assert await tab.run("document.documentElement.lang") == language
            assert await tab.run(CONTRASTS) == [], view
    only_from(used.origin, tab)


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_times_are_the_viewers(browser: Chromium, used: RunningProxy, language: str) -> None:
    tab = await browser.tab(language=language)
    await tab.call("Emulation.setTimezoneOverride", timezoneId="Asia/Kathmandu")
    await tab.open(f"{used.origin}/")
    stamp, shown, title = await tab.run(
        "((spot) => [spot.dateTime, spot.textContent, spot.title])(document.querySelector('#finished-rows time'))"
    )
    wanted = await tab.run(f"new Date('{stamp}').toLocaleTimeString('en-GB', {{timeZone: 'Asia/Kathmandu'}})")
    assert shown == wanted
    assert "GMT+5:45" in title
    assert ("년" in title) == (language == "ko")


async def test_everything_is_within_reach_of_the_keyboard(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    await press(tab, "j", "j", "k", "j")
    assert await tab.run("[...document.querySelectorAll('tr[data-row]')].indexOf(document.activeElement.closest('tr'))") == 1
    await press(tab, "/")
    assert await tab.run("document.activeElement.id") == "q"
    await press(tab, "g", "p", "?", "j")
    assert await tab.run("document.activeElement.value") == "gp?j"
    await press(tab, "Escape", "?")
    assert await tab.run("document.getElementById('keys').open") is True
    await press(tab, "Escape")
    await tab.until("!document.getElementById('keys').open")
    tab.loaded.clear()
    await press(tab, "g", "p")
    await tab.loaded.wait()
    assert await tab.run("location.pathname") == "/upstreams"
    tab.loaded.clear()
    await press(tab, "g", "e")
    await tab.loaded.wait()
    assert await tab.run("location.pathname") == "/settings"


async def test_a_row_is_a_link_as_a_whole(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    target = await tab.run("document.querySelector('#finished-rows a.row').href")
    await tab.run(STAY)
    await tab.run("document.querySelector('#finished-rows tr td.n').click()")
    assert await tab.run("globalThis.went") == target


async def test_a_block_is_chosen_and_copied(browser: Chromium, fresh: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{fresh.origin}/")
    await tab.run(WATCH_COPY)
    await tab.run("document.getElementById('tab-fish').click()")
    visible = await tab.run("[...document.querySelectorAll('.block')].filter((block) => !block.hidden).map((block) => block.id)")
    assert visible == ["fish", "python"]
    await tab.run("document.querySelector('.tabs .copy').click()")
    [copied] = await tab.run("copied")
    assert copied.startswith(f'set -gx ANTHROPIC_BASE_URL "{fresh.base_url}"')
    await tab.run("document.getElementById('tab-python').focus()")
    for key, wanted in (("ArrowRight", "typescript"), ("End", "curl"), ("ArrowRight", "python"), ("ArrowLeft", "curl")):
        await press(tab, key)
        assert await tab.run("document.activeElement.id") == f"tab-{wanted}"


async def test_trouble_shows_in_the_title_and_the_icon(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/settings")
    await tab.until("document.documentElement.dataset.state === 'calm'")
    live(used).on_upstream_state("default", "ejected")
    await tab.run("claudeProxy.look()")
    assert await tab.run("document.title") == "● Settings · claude-proxy"
    assert "icon-alert" in await tab.run("document.querySelector('link[rel=icon]').href")
    live(used).on_upstream_state("default", "up")
    await tab.run("claudeProxy.look()")
    assert await tab.run("document.title") == "Settings · claude-proxy"


async def test_the_page_says_that_the_proxy_is_gone_and_goes_on_when_it_is_back(
    browser: Chromium, used: RunningProxy, simulator: Simulator
) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    await tab.until("document.getElementById('live')._htmx?.sse")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await tab.call("Network.emulateNetworkConditions", offline=True, **offline)
    await tab.run("document.getElementById('live')._htmx.sse.reader.cancel()")
    await tab.until("!document.getElementById('banner').hidden")
    assert await tab.run("document.getElementById('banner').textContent") == text("en", "shell.connection_lost")
    await tab.call("Network.emulateNetworkConditions", offline=False, **offline)
    await tab.until("document.getElementById('banner').hidden")
    async with streaming(used, simulator):
        await tab.until("document.querySelector('#running-rows tr')")


async def test_the_charts_are_drawn_and_their_numbers_are_a_table(browser: Chromium, used: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{used.origin}/")
    assert await tab.run("document.querySelectorAll('.plot canvas').length") == 2
    total = await tab.run(
        "[...document.querySelectorAll('#requests tbody tr')].reduce((sum, row) => sum + Number(row.children[1].textContent), 0)"
    )
    assert total == 21
    only_from(used.origin, tab)


async def test_the_only_minute_of_a_new_proxy_is_a_point(browser: Chromium, fresh: RunningProxy, simulator: Simulator) -> None:
    await call(fresh, simulator)
    tab = await browser.tab()
    await tab.open(f"{fresh.origin}/")
    await tab.until("document.querySelectorAll('.plot canvas').length == 2")
    await tab.until(f"{MARKED} > 3")
    only_from(fresh.origin, tab)


@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names axe-core's axe.min.js")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("dark", "language"), [(False, "en"), (True, "ko")], ids=["light-en", "dark-ko"])
async def test_axe_has_nothing_serious_to_say(
    browser: Chromium, used: RunningProxy, simulator: Simulator, width: int, dark: bool, language: str
) -> None:
    axe = Path(os.environ["AXE_CORE"]).read_text("utf-8")  # noqa: ASYNC240  # once, in a test
    tab = await browser.tab(width=width, dark=dark, language=language)
    async with streaming(used, simulator):
        for view in VIEWS:
            await tab.open(f"{used.origin}{view}")
            await tab.run(f"{axe}; true")
            found = await tab.run(AXE)
            assert [one for one in found if one[0] in ("serious", "critical")] == [], view
            assert found == [], view
