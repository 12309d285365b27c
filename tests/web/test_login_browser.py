"""Logging in with Chromium, as somebody from elsewhere: by the link, by hand, without scripts, below a prefix."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from claude_proxy.access.origin import OriginRules
from claude_proxy.access.viewers import Viewers
from claude_proxy.app import App, bare_app
from claude_proxy.web import install
from claude_proxy.web.login_texts import ENGLISH, KOREAN
from tests.web.browser import ANSWER, CONTRASTS, Chromium, Tab, chromium
from tests.web.serving import Front, Pages, WithRootPath, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.system
TOKEN = "the-admin-token"


class Elsewhere:
    """Makes every request come from another machine."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.app({**scope, "client": ("192.0.2.7", 40000)}, receive, send)


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
async def tab(program: Chromium) -> AsyncIterator[Tab]:
    """A tab without cookies."""
    tab = await program.tab()
    await tab.call("Network.clearBrowserCookies")
    yield tab
    await program.close_tabs()


@pytest.fixture
def viewers() -> Viewers:
    return Viewers(SecretStr(TOKEN))


@pytest.fixture(params=["none", "told", "untold"])
async def place(request: pytest.FixtureRequest, viewers: Viewers) -> AsyncIterator[str]:
    """Where the pages are: at the root, under a prefix the server knows, under one it does not know."""
    app: Any = Pages(viewers=viewers).app
    prefix = "" if request.param == "none" else "/any/prefix"
    if prefix:
        app = Front(app, prefix)
    if request.param == "told":
        app = WithRootPath(app, prefix)
    async with serving(Elsewhere(app)) as origin:
        yield f"{origin}{prefix}"


def code_of(viewers: Viewers) -> str:
    code = viewers.logins.make_code()
    assert code is not None
    return code


async def arrive(tab: Tab, url: str, script: str = "") -> None:
    """Open `url`, or run `script`, and wait until the browser has come to the page."""
    tab.loaded.clear()
    await (tab.run(script) if script else tab.call("Page.navigate", url=url))
    async with asyncio.timeout(ANSWER):
        while True:
            await tab.loaded.wait()
            tab.loaded.clear()
            if await tab.run("location.pathname.endsWith('/') || document.querySelector('.message') !== null"):
                return


async def focus(tab: Tab) -> None:
    """Focus the field by the browser's own means, which need no script. The autofocus comes with a frame, at its own time."""
    root = (await tab.call("DOM.getDocument"))["root"]["nodeId"]
    field = (await tab.call("DOM.querySelector", nodeId=root, selector="#secret"))["nodeId"]
    await tab.call("DOM.focus", nodeId=field)


def quiet(place: str, tab: Tab) -> None:
    """Nothing was loaded from elsewhere, and the console tells only of the 401 that was meant."""
    assert {url for url in tab.asked if not url.startswith((f"{place}/", "data:"))} == set()
    assert [line for line in tab.said if "401" not in line and "favicon" not in line] == []


async def test_the_link_in_the_log_opens_the_page(tab: Tab, place: str, viewers: Viewers) -> None:
    code = code_of(viewers)
    await arrive(tab, f"{place}/login#code={code}")
    assert await tab.run("location.href") == f"{place}/"
    assert await tab.run("document.querySelector('h1').textContent") not in (ENGLISH.locked_title, ENGLISH.title)
    assert await tab.run("document.cookie") == ""  # it is there, but not for scripts
    assert not any(code in url for url in tab.asked if "#" not in url)
    assert await tab.run("history.length") <= 3
    quiet(place, tab)


async def test_a_link_that_was_used_says_so_and_is_not_left_in_the_address(tab: Tab, place: str, viewers: Viewers) -> None:
    code = code_of(viewers)
    assert viewers.logins.take_code(code)
    await arrive(tab, f"{place}/login#code={code}")
    assert await tab.run("document.querySelector('.message').textContent") == ENGLISH.wrong
    assert code not in await tab.run("location.href")
    quiet(place, tab)


async def test_a_new_link_works_in_the_tab_of_the_old_one(tab: Tab, place: str, viewers: Viewers) -> None:
    await tab.open(f"{place}/login")
    await arrive(tab, "", f"location.hash = 'code={code_of(viewers)}'; 0")
    assert await tab.run("location.href") == f"{place}/"


async def test_a_stranger_is_told_how_and_types_the_token(tab: Tab, place: str) -> None:
    await tab.open(f"{place}/")
    assert await tab.run("document.querySelector('h1').textContent") == ENGLISH.locked_title
    assert "docker logs claude-proxy" in await tab.run("document.body.textContent")
    await tab.open(await tab.run("document.querySelector('a.button').href"))
    assert await tab.run("document.querySelector('#secret').autofocus")
    await focus(tab)
    await tab.call("Input.insertText", text=TOKEN)
    await arrive(tab, "", "document.querySelector('button').click(); 0")
    assert await tab.run("location.href") == f"{place}/"
    quiet(place, tab)


async def test_without_scripts_the_code_can_be_pasted(tab: Tab, place: str, viewers: Viewers) -> None:
    await tab.call("Emulation.setScriptExecutionDisabled", value=True)
    await tab.open(f"{place}/login")
    await focus(tab)
    await tab.call("Input.insertText", text=code_of(viewers))
    tab.loaded.clear()
    await tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    async with asyncio.timeout(ANSWER):
        await tab.loaded.wait()
    history = await tab.call("Page.getNavigationHistory")
    assert history["entries"][history["currentIndex"]]["url"] == f"{place}/"
    assert len(viewers.logins.all()) == 1


async def test_a_page_of_another_origin_cannot_log_in_or_out(tab: Tab, viewers: Viewers) -> None:
    """The other origin is another port of the same host, so the browser sends the cookie along."""
    async with serving(Elsewhere(checked(viewers))) as origin, serving(Pages().app) as other:
        await arrive(tab, f"{origin}/login#code={code_of(viewers)}")
        await tab.open(f"{other}/health")
        for path, body in (("login", f"secret={TOKEN}"), ("logout", "")):
            ask = f"fetch('{origin}/{path}', {{ method: 'POST', mode: 'no-cors', credentials: 'include', headers: "
            ask += f"{{ 'content-type': 'application/x-www-form-urlencoded' }}, body: '{body}' }}).then((a) => a.type)"
            assert await tab.run(ask) == "opaque"
        assert len(viewers.logins.all()) == 1
        await tab.open(f"{origin}/")
        assert ENGLISH.locked_title not in await tab.run("document.body.textContent"), "it is still logged in"


def checked(viewers: Viewers) -> App:
    """The pages behind the proxy's check of hosts and origins."""
    app, pages = bare_app(), Pages()
    app.origins = OriginRules()
    install(app, lambda: pages.facts, lambda: pages.ready, viewers=viewers)
    return app


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/login"])
async def test_they_fit_a_phone_and_can_be_read(program: Chromium, viewers: Viewers, dark: bool, path: str) -> None:
    tab = await program.tab(width=360, dark=dark, language="ko")
    await tab.call("Network.clearBrowserCookies")
    async with serving(Elsewhere(Pages(viewers=viewers).app)) as origin:
        await tab.open(f"{origin}{path}")
        assert await tab.run("document.querySelector('h1').textContent") == (KOREAN.locked_title if path == "/" else KOREAN.title)
        assert await tab.run("document.documentElement.scrollWidth") == 360
        assert await tab.run(CONTRASTS) == []
    await program.close_tabs()
