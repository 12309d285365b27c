"""From *Now* to a session, its agents and one exchange, in Chromium: by mouse, by keyboard, by search; on each screen."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from claude_proxy.exchange import Attempt, CacheVerdict, Failure
from claude_proxy.ledger.record import Charge
from claude_proxy.simulator import Simulator
from claude_proxy.web.texts import text
from tests.cli.ledgers import fill
from tests.integration.booked import booked
from tests.integration.proxy import RunningProxy
from tests.ledger.books import entry
from tests.web.browser import CONTRASTS, Chromium, Tab, only_from
from tests.web.pages.test_browser import AXE, TOO_WIDE, press

pytestmark = pytest.mark.system

SESSION = "0b1f2c3d-7f1b-4c8e-9a55-0123456789ab"
AGENT = "explorer-7a5c"


def life(now: int) -> list[Any]:
    """A session with an agent below an agent, a cache break, a failed attempt, an error and a pause."""
    overloaded = Failure("upstream", "overloaded_error", "Overloaded, please wait " * 8, "1305")
    tries = [Attempt("zai", 50.0, "plan-a", True, 50.4, 529, overloaded), Attempt("zai", 51.0, "plan-b", True, 51.5, 200)]
    broken = {"cache": CacheVerdict("changed", "tools", 14, None, 41_000), "charge": Charge(10**9, None, "zai/p", 41_000_000)}
    found = [
        entry(now - 600_000, session=SESSION, cache=CacheVerdict("first"), stream=True),
        entry(now - 590_000, session=SESSION, attempts=tries, stream=True),
        entry(now - 580_000, session=SESSION, agent=AGENT, request_class="agent", stream=True, model="glm-5.3-flash"),
        entry(now - 579_000, session=SESSION, agent="deeper", parent_agent=AGENT, request_class="agent", stream=True),
        entry(now - 30_000, session=SESSION, stream=True, **broken),
        entry(now - 20_000, session=SESSION, status=529, usage=None, failure=overloaded, stream=True),
    ]
    for one in found:
        one.record = msgspec.structs.replace(one.record, project="a-project-with-a-name-that-is-much-too-long-for-a-phone")
    return [*found, entry(now - 10_000, session="another")]


@pytest.fixture
async def place(simulator: Simulator, tmp_path: Path) -> AsyncIterator[tuple[RunningProxy, list[str]]]:
    """A proxy with that session in its ledger, and the ids of its exchanges."""
    numbers = fill(tmp_path, *life(int(time.time() * 1000)))
    async with booked(simulator, tmp_path) as proxy:
        yield proxy, numbers


async def go(tab: Tab, script: str) -> str:
    """Do something that leads to another page; its path and query."""
    tab.loaded.clear()
    await tab.run(script)
    await tab.loaded.wait()
    return str(await tab.run("location.pathname + location.search"))


def click(selector: str) -> str:
    return f"document.querySelector({selector!r}).click()"


async def test_every_row_leads_on_and_back(browser: Chromium, place: tuple[RunningProxy, list[str]]) -> None:
    proxy, numbers = place
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/")
    assert await go(tab, click("#finished-rows tr:last-child td.n")) == f"/exchanges/{numbers[0]}"
    assert await go(tab, click(".crumbs a:nth-of-type(2)")) == f"/sessions/{SESSION}"
    assert await go(tab, click(".agents tr:nth-child(2) td.n")) == f"/sessions/{SESSION}?agent={AGENT}"
    assert await tab.run("document.querySelectorAll('.stretch tbody tr').length") == 1
    assert await go(tab, click(".stretch tbody tr td.n")) == f"/exchanges/{numbers[2]}"
    assert await go(tab, click("a[rel=next]")) == f"/exchanges/{numbers[3]}"
    assert await go(tab, click("a[rel=prev]")) == f"/exchanges/{numbers[2]}"
    assert await go(tab, click("[data-view=sessions]")) == "/sessions"
    assert await go(tab, click("tr[data-row]:nth-child(2) td.n")) == f"/sessions/{SESSION}"
    only_from(proxy.origin, tab)


async def test_a_session_is_read_without_a_mouse(browser: Chromium, place: tuple[RunningProxy, list[str]]) -> None:
    proxy, numbers = place
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/")
    for keys, path in ((("g", "s"), "/sessions"), (("j", "j"), "")):
        tab.loaded.clear()
        await press(tab, *keys)
        if path:
            await tab.loaded.wait()
            assert await tab.run("location.pathname") == path
    assert await go(tab, "document.activeElement.click()") == f"/sessions/{SESSION}"
    await press(tab, "j", "j", "j", "j")  # three agents, then the newest stretch
    assert await go(tab, "document.activeElement.click()") == f"/exchanges/{numbers[4]}"


@pytest.mark.parametrize("what", ["exchange", "session", "project"])
async def test_the_search_box_finds_it(browser: Chromium, place: tuple[RunningProxy, list[str]], what: str) -> None:
    proxy, numbers = place
    typed, path = {
        "exchange": (numbers[1].upper(), f"/exchanges/{numbers[1]}"),
        "session": (SESSION, f"/sessions/{SESSION}"),
        "project": ("MUCH-too", "/sessions?q=MUCH-too"),
    }[what]
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/upstreams")
    await press(tab, "/")
    found = await go(tab, f"document.getElementById('q').value = '{typed}'; document.querySelector('.search').requestSubmit()")
    assert found == path
    if what == "project":
        assert await tab.run("document.querySelectorAll('tr[data-row]').length") == 1


async def test_the_id_can_be_copied(browser: Chromium, place: tuple[RunningProxy, list[str]]) -> None:
    proxy, numbers = place
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/exchanges/{numbers[1]}")
    await tab.run("globalThis.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }")
    await tab.run(click("[data-copy=exchange-id]"))
    assert await tab.run("copied") == [numbers[1]]


async def test_bars_have_the_colours_of_their_key_and_stay_within_their_cell(
    browser: Chromium, place: tuple[RunningProxy, list[str]]
) -> None:
    proxy, _ = place
    tab = await browser.tab()
    await tab.open(f"{proxy.origin}/sessions/{SESSION}")
    for kind in ("wait", "stream", "failed"):
        bar, swatch = await tab.run(
            f"[getComputedStyle(document.querySelector('rect.{kind}')).fill, "
            f"getComputedStyle(document.querySelector('.swatch.{kind}')).backgroundColor]"
        )
        assert bar == swatch
    outside = await tab.run(
        "[...document.querySelectorAll('.fall rect')].filter((bar) => "
        "bar.getBoundingClientRect().right > bar.ownerSVGElement.getBoundingClientRect().right + 1).length"
    )
    assert outside == 0
    assert await tab.run("document.querySelectorAll('.fall .broke').length") == 1
    assert await tab.run("document.querySelectorAll('.pause').length") == 1


def paths(numbers: list[str]) -> list[str]:
    return ["/sessions", "/sessions?q=nowhere", f"/sessions/{SESSION}", *(f"/exchanges/{number}" for number in numbers[1:6:2])]


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize(("dark", "language"), [(False, "en"), (True, "ko")], ids=["light-en", "dark-ko"])
async def test_it_fits_and_can_be_read(
    browser: Chromium, place: tuple[RunningProxy, list[str]], width: int, dark: bool, language: Any
) -> None:
    proxy, numbers = place
    tab = await browser.tab(width=width, dark=dark, language=language)
    for path in paths(numbers):
        await tab.open(f"{proxy.origin}{path}")
        wide = await tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, (path, await tab.run(TOO_WIDE))
        assert await tab.run(CONTRASTS) == [], path
        assert await tab.run("document.querySelector('.views [aria-current]').textContent") == text(language, "shell.sessions")
    only_from(proxy.origin, tab)


@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names axe-core's axe.min.js")
@pytest.mark.parametrize(("width", "dark", "language"), [(390, True, "ko"), (1280, False, "en")])
async def test_axe_has_nothing_to_say(
    browser: Chromium, place: tuple[RunningProxy, list[str]], width: int, dark: bool, language: str
) -> None:
    axe = Path(os.environ["AXE_CORE"]).read_text("utf-8")  # noqa: ASYNC240  # once, in a test
    proxy, numbers = place
    tab = await browser.tab(width=width, dark=dark, language=language)
    for path in paths(numbers):
        await tab.open(f"{proxy.origin}{path}")
        await tab.run(f"{axe}; true")
        assert await tab.run(AXE) == [], path
