"""The documents' pages as a person meets them, in Chromium: at the root, and below a prefix that the server knows or does not."""

from __future__ import annotations

import pytest

from tests.web.browser import Chromium, only_from

pytestmark = pytest.mark.system


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
