"""The pages as a person meets them, in Chromium: at the root, and below a prefix that the server knows or does not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from claude_proxy.web.texts import text
from tests.web.browser import Chromium, Tab, chromium
from tests.web.serving import Pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.system

# Chromium has no clipboard without a screen: the page's own copy is watched instead.
WATCH_COPY = "globalThis.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }"


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
async def browser(program: Chromium) -> AsyncIterator[Chromium]:
    yield program
    await program.close_tabs()


def only_from(address: str, tab: Tab) -> None:
    """Nothing was loaded from elsewhere, and the page had nothing to complain of."""
    assert {url for url in tab.asked if not url.startswith((f"{address}/", "data:", "blob:"))} == set()
    assert tab.said == []


async def test_the_start_page_is_right_where_it_is(browser: Chromium, address: str) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/")
    assert await tab.run("document.title") == f"{text('en', 'shell.now')} · claude-proxy"
    shown = await tab.run("[...document.querySelectorAll('[data-address]')].map((spot) => spot.textContent)")
    assert set(shown) == {f"{address}/api/anthropic"}
    links = await tab.run("[...document.querySelectorAll('footer nav a')].map((link) => link.href)")
    assert links == [f"{address}/{name}" for name in ("docs", "redoc", "openapi.json", "health", "ready")]
    only_from(address, tab)


async def test_a_block_is_chosen_and_copied(browser: Chromium, address: str) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/")
    await tab.run(WATCH_COPY)
    await tab.run("document.getElementById('tab-fish').click()")
    assert await tab.run("[...document.querySelectorAll('.block')].filter((b) => !b.hidden).map((b) => b.id)") == [
        "fish",
        "python",
    ]
    await tab.run("document.querySelector('.tabs .copy').click()")
    await tab.until(f"document.querySelector('.tabs .copy').textContent === '{text('en', 'shell.copied')}'")
    [copied] = await tab.run("copied")
    assert copied == await tab.run("document.querySelector('#fish code').textContent.trim()")
    lines = copied.splitlines()
    assert lines[:2] == [
        f'set -gx ANTHROPIC_BASE_URL "{address}/api/anthropic"',
        'set -gx ANTHROPIC_AUTH_TOKEN "<your key>"',
    ]
    assert all(re.fullmatch(r'set -gx [A-Z_]+ "[^"]*"', line) for line in lines[2:-1])
    assert lines[-1] == "claude"


async def test_tabs_are_walked_by_keyboard(browser: Chromium, address: str) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/")
    await tab.run("document.getElementById('tab-python').focus()")
    for key, wanted in (("ArrowRight", "typescript"), ("End", "curl"), ("ArrowRight", "python"), ("ArrowLeft", "curl")):
        await tab.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        assert await tab.run("document.activeElement.id") == f"tab-{wanted}"
        assert await tab.run(f"document.getElementById('{wanted}').hidden") is False


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_it_fits_a_phone_and_can_be_read(browser: Chromium, address: str, dark: bool) -> None:
    tab = await browser.tab(width=360, dark=dark, language="ko")
    await tab.open(f"{address}/")
    assert await tab.run("document.documentElement.scrollWidth") == 360
    assert await tab.run("document.querySelector('.views [aria-current]').textContent") == text("ko", "shell.now")
    assert await tab.run(CONTRASTS) == []


# Text whose contrast with what is behind it is below 4.5:1 (WCAG 2.2, 1.4.3).
CONTRASTS = """
(() => {
  const parts = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('script, style')) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (!(contrast >= 4.5)) poor.push(`${element.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`);
  }
  return poor;
})()
"""


async def test_the_page_notices_that_the_proxy_drains(browser: Chromium, address: str, pages: Pages) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/")
    pages.ready = (False, "told to stop")
    await tab.run("document.dispatchEvent(new Event('visibilitychange'))")
    await tab.until("document.documentElement.dataset.state === 'trouble'")
    assert await tab.run("document.title") == f"● {text('en', 'shell.now')} · claude-proxy"


async def test_the_page_notices_that_the_proxy_is_gone(browser: Chromium, address: str) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/")
    await tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    await tab.run("document.dispatchEvent(new Event('visibilitychange'))")
    await tab.until("!document.getElementById('banner').hidden")
    assert await tab.run("document.getElementById('banner').textContent") == text("en", "shell.connection_lost")
    assert (await tab.run("document.title")).startswith("● ")


async def test_swagger_ui_shows_the_api_and_calls_it_at_this_address(browser: Chromium, address: str) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/docs")
    await tab.until("document.querySelectorAll('.opblock').length >= 9")
    assert await tab.run("document.querySelector('.servers select').value") == address
    await tab.run("document.querySelector('#operations-This_proxy-health_health_get .opblock-summary-control').click()")
    await tab.until("document.querySelector('.try-out__btn')")
    await tab.run("document.querySelector('.try-out__btn').click()")
    await tab.until("document.querySelector('.execute')")
    await tab.run("document.querySelector('.execute').click()")
    await tab.until("document.querySelector('.live-responses-table tbody .response-col_status')?.textContent.startsWith('200')")
    assert f"{address}/health" in tab.asked
    only_from(address, tab)


async def test_redoc_shows_the_api(browser: Chromium, address: str) -> None:
    tab = await browser.tab()
    await tab.open(f"{address}/redoc")
    await tab.until("document.querySelectorAll('[data-section-id]').length >= 9")
    assert await tab.run("document.querySelector('h1').textContent") == "claude-proxy (1.2.3)"
    # Redoc's bundle names a logo on a CDN; the policy stops it before anything is sent.
    tab.said = [line for line in tab.said if "logo-mini.svg" not in line]
    tab.asked = [url for url in tab.asked if "logo-mini.svg" not in url]
    only_from(address, tab)
