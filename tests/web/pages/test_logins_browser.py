"""Logins, odd names and what has no session, in Chromium: what a person sees and clicks, on each screen."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import Simulator
from claude_proxy.web.texts import text
from tests.cli.ledgers import fill
from tests.integration.booked import booked
from tests.integration.proxy import RunningProxy
from tests.ledger.books import entry
from tests.web.browser import CONTRASTS, Chromium, only_from
from tests.web.pages.test_browser import AXE, TOO_WIDE
from tests.web.pages.test_logins import FIREFOX, IPHONE
from tests.web.pages.test_sessions import ODD
from tests.web.pages.test_sessions_browser import click, go

pytestmark = pytest.mark.system

PATHS = ("/settings", "/sessions", "/session?id=")


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy with logins, with sessions of odd names, and with requests that have none."""
    now = int(time.time() * 1000)
    odd = [entry(now - 60_000 + at * 1000, session=name) for at, name in enumerate(ODD)]
    fill(tmp_path, *odd, entry(now, session=None, user_agent="curl/8.5.0 " * 9, status=529), entry(now + 1, session=None))
    async with booked(simulator, tmp_path) as running:
        for peer, browser in (
            ("172.17.0.1", FIREFOX),
            ("2001:db8:1234:5678:9abc:def0:1234:5678", IPHONE),
            ("192.0.2.7", "x" * 200),
        ):
            running.app.state.viewers.logins.add(peer, browser)
        yield running


async def test_a_click_logs_a_browser_out_and_its_open_page_says_so(browser: Chromium, proxy: RunningProxy) -> None:
    viewers = proxy.app.state.viewers
    gone, cookie = viewers.logins.add("192.0.2.8", FIREFOX)
    there = await browser.tab()
    await there.call("Network.setExtraHTTPHeaders", headers={"x-forwarded-for": "192.0.2.8"})
    await there.call("Network.setCookie", url=proxy.origin, name=f"claude_proxy_{proxy.port}", value=cookie)
    await there.open(f"{proxy.origin}/")
    await there.until("document.querySelector('#tiles dd')")
    here = await browser.tab()
    await here.call("Network.clearBrowserCookies")
    await here.open(f"{proxy.origin}/settings")
    here.loaded.clear()
    await here.run(f"document.querySelector('input[value=\"{gone.id}\"]').form.querySelector('button').click()")
    await here.loaded.wait()
    assert await here.run("location.pathname + location.hash") == "/settings#logins"
    assert not await here.run(f"document.querySelector('input[value=\"{gone.id}\"]')")
    await there.call("Page.bringToFront")
    await there.until(f"document.querySelector('#banner').textContent === {text('en', 'shell.logged_out')!r}")
    await there.call("Network.clearBrowserCookies")


async def test_every_session_opens_whatever_it_is_named(browser: Chromium, proxy: RunningProxy) -> None:
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/sessions")
    names = await tab.run("[...document.querySelectorAll('a.row')].map((link) => link.textContent)")
    assert names == [*ODD[::-1], text("en", "sessions.without")]
    for at, name in enumerate(names[:-1]):
        await tab.open(f"{proxy.origin}/sessions")
        await go(tab, f"document.querySelectorAll('a.row')[{at}].click()")
        assert await tab.run("document.querySelector('#session-id')?.textContent") == name
        await go(tab, click(".stretch a.row"))
        await go(tab, click(".crumbs a:nth-of-type(2)"))
        assert await tab.run("document.querySelector('#session-id')?.textContent") == name
    await tab.open(f"{proxy.origin}/sessions")
    await go(tab, click("tbody tr:last-child td.n"))
    assert await tab.run("document.querySelector('h1').textContent") == text("en", "sessions.without_title")
    assert await tab.run("document.querySelectorAll('a.row').length") == 2


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize(("dark", "language"), [(False, "en"), (True, "ko")], ids=["light-en", "dark-ko"])
async def test_it_fits_and_can_be_read(browser: Chromium, proxy: RunningProxy, width: int, dark: bool, language: Any) -> None:
    tab = await browser.tab(width=width, dark=dark, language=language)
    for path in PATHS:
        await tab.open(f"{proxy.origin}{path}")
        wide = await tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, (path, await tab.run(TOO_WIDE))
        assert await tab.run(CONTRASTS) == [], path
    only_from(proxy.origin, tab)


@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names axe-core's axe.min.js")
@pytest.mark.parametrize(("width", "dark", "language"), [(390, True, "ko"), (1280, False, "en")])
async def test_axe_has_nothing_to_say(browser: Chromium, proxy: RunningProxy, width: int, dark: bool, language: str) -> None:
    axe = Path(os.environ["AXE_CORE"]).read_text("utf-8")  # noqa: ASYNC240  # once, in a test
    tab = await browser.tab(width=width, dark=dark, language=language)
    for path in PATHS:
        await tab.open(f"{proxy.origin}{path}")
        await tab.run(f"{axe}; true")
        assert await tab.run(AXE) == [], path
