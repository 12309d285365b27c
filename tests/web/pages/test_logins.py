"""The logins on *Settings*: who is listed, what is said of each, and logging them out without a script."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import SecretStr

from claude_proxy.access.logins import Logins
from claude_proxy.access.viewers import Viewers
from claude_proxy.web.pages.browsers import browser_name
from claude_proxy.web.texts import text
from tests.web.pages.html import outline
from tests.web.serving import BROWSER, Pages, serving

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Safari/604.1"
)
FORM = re.compile(r'<form[^>]*method="post" action="([^"]*)">(.*?)</form>', re.DOTALL)
HIDDEN = re.compile(r'name="(\w+)" value="([^"]*)"')


@pytest.fixture
def viewers() -> Viewers:
    return Viewers()


@pytest.fixture
def pages(viewers: Viewers) -> Pages:
    return Pages(viewers=viewers)


@pytest.fixture
async def owner(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser on the proxy's own machine."""
    async with httpx.AsyncClient(base_url=f"{address}/", headers={"accept": BROWSER}) as client:
        yield client


def forms(page: httpx.Response) -> list[tuple[str, dict[str, str]]]:
    """Where the forms of logins lead, and what they send."""
    found = [(urljoin(str(page.url), unescape(to)), dict(HIDDEN.findall(inner))) for to, inner in FORM.findall(page.text)]
    return [(to, fields) for to, fields in found if to.endswith(("/settings/logins", "/logout"))]


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_every_login_is_listed_with_its_browser_and_address(
    owner: httpx.AsyncClient, viewers: Viewers, language: Any
) -> None:
    for peer, browser in (("172.17.0.1", FIREFOX), ("192.0.2.7", IPHONE), ("2001:db8::7", "")):
        viewers.logins.add(peer, browser)
    page = outline((await owner.get(f"settings?lang={language}")).text)
    for shown in ("Firefox · Linux", "172.17.0.1", "Safari · iPhone", "192.0.2.7", "2001:db8::7"):
        assert shown in page.texts
    assert text(language, "settings.login_unknown") in page.texts
    assert text(language, "settings.revoke_all") in page.texts
    assert text(language, "settings.login_this") not in page.texts, "this browser looks without a login"


async def test_one_is_logged_out_and_the_list_is_shown_again(owner: httpx.AsyncClient, viewers: Viewers, address: str) -> None:
    stays, _ = viewers.logins.add("192.0.2.7", IPHONE)
    goes, _ = viewers.logins.add("172.17.0.1", FIREFOX)
    [(to, fields)] = [one for one in forms(await owner.get("settings")) if one[1].get("id") == goes.id]
    answer = await owner.post(to, data=fields)
    assert answer.status_code == 303
    assert urljoin(str(answer.url), answer.headers["location"]) == f"{address}/settings#logins"
    assert [one.id for one in viewers.logins.all()] == [stays.id]
    assert (await owner.post(to, data=fields)).status_code == 303, "a second click asks for what is already so"


async def test_all_are_logged_out(owner: httpx.AsyncClient, viewers: Viewers) -> None:
    for _ in range(3):
        viewers.logins.add("172.17.0.1", FIREFOX)
    [(to, fields)] = [one for one in forms(await owner.get("settings")) if "others" in one[1]]
    assert (await owner.post(to, data=fields)).status_code == 303
    page = await owner.get("settings")
    assert forms(page) == []
    assert text("en", "settings.no_logins") in outline(page.text).text


async def test_this_browser_is_marked_first_and_logs_itself_out(pages: Pages, viewers: Viewers) -> None:
    async with serving(pages.app) as origin:
        own, value = viewers.logins.add("192.0.2.7", IPHONE)
        viewers.logins.add("172.17.0.1", FIREFOX)
        headers = {"accept": BROWSER, "x-forwarded-for": "192.0.2.7"}
        cookies = {f"claude_proxy_{httpx.URL(origin).port}": value}
        async with httpx.AsyncClient(base_url=origin, headers=headers, cookies=cookies) as client:
            page = await client.get("/settings")
            shown = outline(page.text).texts
            assert shown.index(text("en", "settings.login_this")) < shown.index("Firefox · Linux")
            assert text("en", "settings.revoke_others") in shown
            (logout, _), *_ = forms(page)
            assert (await client.post(logout)).status_code == 303
            assert own.id not in [one.id for one in viewers.logins.all()]
            assert (await client.get("/settings")).status_code == 401


@pytest.mark.parametrize("body", [b"", b"x=1", b"id=", b"id=../../x", b"id=0000000000000000"])
async def test_a_form_that_names_nobody_logs_nobody_out(owner: httpx.AsyncClient, viewers: Viewers, body: bytes) -> None:
    viewers.logins.add("172.17.0.1", FIREFOX)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await owner.post("settings/logins", content=body, headers=form)).status_code == 303
    assert len(viewers.logins.all()) == 1


@pytest.mark.parametrize(("alone", "key"), [(True, "settings.logins_memory"), (False, "settings.logins_nowhere")])
async def test_where_logins_are_not_in_files_it_is_said(tmp_path: Path, alone: bool, key: str) -> None:
    (tmp_path / "file").write_text("in the way")
    logins = Logins(tmp_path / "file")
    logins.start(alone=alone)
    token = {"authorization": "Bearer the-token", "accept": BROWSER}
    pages = Pages(viewers=Viewers(SecretStr("the-token"), logins))
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin, headers=token) as client:
        page = outline((await client.get("/settings")).text)
    assert text("en", key) in page.text  # type: ignore[arg-type]
    assert (text("en", "settings.no_logins") in page.text) is alone


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox · Linux"),
        (IPHONE, "Safari · iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/143.0 Safari/537.36", "Chrome · Windows"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/143.0 Safari/537.36 Edg/143.0", "Edge · Windows"),
        ("Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 Chrome/143.0 Mobile Safari/537.36", "Chrome · Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.1 Safari/605.1.15", "Safari · macOS"),
        ("curl/8.5.0", "curl"),
        ("", ""),
    ],
)
def test_a_user_agent_is_named_as_people_name_it(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == name
