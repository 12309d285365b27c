"""Logging in and out over a real socket, at the root and below a prefix that the server knows or does not."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request

from claude_proxy.access.logins import Kept, Logins
from claude_proxy.access.viewers import Viewers
from claude_proxy.web.login import MAX_FORM, own_place
from claude_proxy.web.login_page import locked_page, login_page
from claude_proxy.web.login_texts import ENGLISH, KOREAN, LoginTexts
from tests.access.scopes import scope
from tests.web.serving import BROWSER, Front, Pages, WithRootPath, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.responses import Response

TOKEN = "the-admin-token"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def viewers() -> Viewers:
    return Viewers(SecretStr(TOKEN))


@pytest.fixture
def pages(viewers: Viewers) -> Pages:
    return Pages(viewers=viewers)


@pytest.fixture
async def browser(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that asks as browsers do and keeps cookies."""
    headers = {"accept": BROWSER, "accept-language": "en"}
    async with httpx.AsyncClient(base_url=f"{address}/", headers=headers) as client:
        yield client


def code_of(viewers: Viewers) -> str:
    code = viewers.logins.make_code()
    assert code is not None
    return code


def action_of(answer: httpx.Response) -> str:
    """Where the form of a page goes."""
    found = re.search(r'<form method="post" action="([^"]*)">', answer.text)
    assert found is not None
    return urljoin(str(answer.url), unescape(found[1]))


async def submit(browser: httpx.AsyncClient, secret: str, to: str = "/") -> httpx.Response:
    """Open the form, fill it in and send it, as a browser without a script does."""
    form = await browser.get("login", params={"to": to})
    assert form.status_code == 200
    origin = {"origin": f"{form.url.scheme}://{form.url.netloc.decode()}", "sec-fetch-site": "same-origin"}
    return await browser.post(action_of(form), data={"secret": secret, "to": to}, headers=origin)


# -- in


@pytest.mark.parametrize("by", ["code", "link", "token"])
async def test_a_stranger_logs_in_and_sees_the_page(browser: httpx.AsyncClient, viewers: Viewers, address: str, by: str) -> None:
    assert (await browser.get("./")).status_code == 401
    secret = {"code": code_of(viewers), "link": f"{address}/login#code={code_of(viewers)}", "token": TOKEN}[by]
    done = await submit(browser, secret)
    assert done.status_code == 303
    assert urljoin(str(done.url), done.headers["location"]) == f"{address}/"
    assert (await browser.get("./")).status_code == 200


async def test_the_cookie_goes_to_our_paths_only(browser: httpx.AsyncClient, viewers: Viewers, address: str) -> None:
    await submit(browser, TOKEN)
    [cookie] = browser.cookies.jar
    assert cookie.name == f"claude_proxy_{httpx.URL(address).port}"
    assert cookie.path == httpx.URL(address).path
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Lax"
    assert not cookie.secure
    assert len(viewers.logins.all()) == 1


async def test_the_page_that_was_asked_for_is_opened_then(browser: httpx.AsyncClient, address: str) -> None:
    locked = await browser.get("./", params={"lang": "en"})
    link = re.search(r'class="button" href="([^"]*)"', locked.text)
    assert link is not None
    to = httpx.URL(urljoin(str(locked.url), unescape(link[1]))).params["to"]
    assert to == "/?lang=en"
    done = await submit(browser, TOKEN, to)
    assert urljoin(str(done.url), done.headers["location"]) == f"{address}/?lang=en"


@pytest.mark.parametrize("secret", ["", "x", TOKEN + "x", "<script>alert(1)</script>"])
async def test_a_wrong_secret_is_said_on_the_form(browser: httpx.AsyncClient, secret: str) -> None:
    answer = await submit(browser, secret)
    assert answer.status_code == 401
    assert ENGLISH.wrong in unescape(answer.text)
    assert action_of(answer)
    assert "<script>alert" not in answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-claude-proxy-error"] == "login_wrong"


async def test_a_code_works_once(browser: httpx.AsyncClient, viewers: Viewers) -> None:
    code = code_of(viewers)
    assert [(await submit(browser, code)).status_code for _ in range(2)] == [303, 401]


async def test_brute_force_meets_a_429(browser: httpx.AsyncClient, viewers: Viewers) -> None:
    answers = [await submit(browser, f"guess {number}") for number in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert answers[-1].headers["retry-after"] == "30"
    assert ENGLISH.throttled.format(seconds=30) in unescape(answers[-1].text)
    assert (await submit(browser, TOKEN)).status_code == 429
    assert (await submit(browser, code_of(viewers))).status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example/x",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aset-cookie:x=1",
        "/\r\nset-cookie: x=1",
        "evil.example",
        "/" + "x" * 3000,
        "/한국",
        "",
    ],
    ids=lambda target: target[:20],
)
async def test_no_target_leads_elsewhere(browser: httpx.AsyncClient, address: str, target: str) -> None:
    done = await submit(browser, TOKEN, target)
    assert done.status_code == 303
    there = httpx.URL(urljoin(str(done.url), done.headers["location"]))
    assert (there.host, there.port, there.scheme) == ("127.0.0.1", httpx.URL(address).port, "http")
    assert there.path.startswith(httpx.URL(address).path)
    assert [name for name in done.headers if name == "set-cookie"] == ["set-cookie"]


@pytest.mark.parametrize(("target", "place"), [("/sessions/a?b=c", "/sessions/a?b=c"), ("/a b", "/"), ("a", "/"), ("//x", "//x")])
def test_a_place_is_one_of_our_paths(target: str, place: str) -> None:
    assert own_place(target) == place


# -- out


async def test_logging_out_ends_the_login_and_removes_the_cookie(
    browser: httpx.AsyncClient, viewers: Viewers, address: str
) -> None:
    await submit(browser, TOKEN)
    done = await browser.post("logout")
    assert (done.status_code, urljoin(str(done.url), done.headers["location"])) == (303, f"{address}/login")
    assert list(browser.cookies.jar) == []
    assert viewers.logins.all() == []
    assert (await browser.get("./")).status_code == 401


async def test_logging_out_twice_is_no_error(browser: httpx.AsyncClient) -> None:
    assert [(await browser.post("logout")).status_code for _ in range(2)] == [303, 303]


# -- programs


async def test_a_program_logs_in_without_pages(address: str) -> None:
    async with httpx.AsyncClient(base_url=f"{address}/") as program:
        assert (await program.post("login", data={"secret": "x"})).json()["error"]["type"] == "authentication_error"
        assert (await program.post("login", data={"secret": TOKEN})).status_code == 204
        assert (await program.get("./")).json()["upstreams"]
        assert (await program.post("logout")).status_code == 204
        assert "upstreams" not in (await program.get("./")).json()


async def test_a_stranger_learns_what_this_is_and_what_is_open(address: str) -> None:
    async with httpx.AsyncClient(base_url=f"{address}/") as program:
        told = (await program.get("./")).json()
    assert set(told) == {"name", "what", "status", "base_url", "links"}
    assert set(told["links"]) == {"docs", "redoc", "openapi", "health", "ready", "login"}


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("application/json", b'{"secret": "x"}', 400, "no_form"),
        ("multipart/form-data; boundary=x", b"--x", 400, "no_form"),
        ("text/plain", b"secret=x", 400, "no_form"),
        (FORM, b"&".join(b"%d=1" % number for number in range(50)), 400, "no_form"),
        (FORM, b"secret=" + b"x" * MAX_FORM, 413, "body_too_large"),
        (FORM, b"", 401, "login_wrong"),
        (FORM, b"secret=%ff%00", 401, "login_wrong"),
        (f"{FORM}; charset=utf-8", f"secret={TOKEN}".encode(), 204, None),
    ],
)
async def test_only_a_small_form_is_read(address: str, kind: str, body: bytes, status: int, code: str | None) -> None:
    """A page of another site can send the first three kinds without asking, but the form too: Origin is what is checked."""
    async with httpx.AsyncClient(base_url=f"{address}/") as program:
        answer = await program.post("login", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.headers.get("x-claude-proxy-error")) == (status, code)


# -- the 401


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "application/json"])
async def test_what_is_no_page_gets_a_401_in_our_envelope(viewers: Viewers, accept: str) -> None:
    pages = Pages(viewers=viewers, guarded=True)
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin, headers={"accept": accept}) as client:
        answer = await client.get("/guarded")
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/guarded", "/guarded/by/depth"])
@pytest.mark.parametrize("prefix", ["none", "told", "untold"])
async def test_links_of_the_401_page_lead_home_from_any_depth(viewers: Viewers, path: str, prefix: str) -> None:
    app = Pages(viewers=viewers, guarded=True).app
    root = "" if prefix == "none" else "/any/prefix"
    served = {"none": app, "told": WithRootPath(Front(app, root), root), "untold": Front(app, root)}[prefix]
    async with serving(served) as origin, httpx.AsyncClient(headers={"accept": BROWSER}) as client:
        answer = await client.get(f"{origin}{root}{path}")
        assert answer.status_code == 401
        links = [urljoin(str(answer.url), unescape(link)) for link in re.findall(r'(?:href|src)="(?!data:)([^"]*)"', answer.text)]
        assert f"{origin}{root}/login?to={path.replace('/', '%2F')}" in links
        for link in links:
            assert link.startswith(f"{origin}{root}/")
            followed = await client.get(link)
            assert followed.status_code == (401 if "/guarded?" in link or "/depth?" in link else 200), link


async def test_htmx_gets_no_page_into_its_place(viewers: Viewers) -> None:
    pages = Pages(viewers=viewers, guarded=True)
    async with serving(pages.app) as origin, httpx.AsyncClient(headers={"accept": "text/html", "hx-request": "true"}) as client:
        answer = await client.get(f"{origin}/guarded")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")


# -- what the pages say


def asked(language: str) -> Request:
    return Request(scope(("accept-language", language), query_string=b"", scheme="http", server=("127.0.0.1", 1)))


@pytest.mark.parametrize(("language", "words"), [("en", ENGLISH), ("ko", KOREAN)])
@pytest.mark.parametrize("make", [login_page, locked_page])
@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (Kept.FILES, ["docker logs claude-proxy", "docker exec claude-proxy claude-proxy login", "ADMIN_TOKEN"]),
        (Kept.MEMORY, ["docker logs claude-proxy", "ADMIN_TOKEN"]),
        (Kept.NOWHERE, ["ADMIN_TOKEN"]),
    ],
)
def test_they_say_how_to_log_in_where_logins_are_kept(
    make: Callable[..., Response], language: str, words: LoginTexts, kept: Kept, said: list[str]
) -> None:
    page = make(asked(language), kept)
    text = page.body.decode()
    assert f'<html lang="{language}">' in text
    assert [command for command in ("docker logs", "docker exec") if command in text] == [
        command for command in ("docker logs", "docker exec") if any(one.startswith(command) for one in said)
    ]
    assert "ADMIN_TOKEN" in text
    assert (words.only_way in unescape(text)) is (kept is Kept.NOWHERE)


@pytest.mark.parametrize("make", [login_page, locked_page])
def test_they_load_nothing_inline_and_nothing_from_elsewhere(make: Callable[..., Response]) -> None:
    page = make(asked("en"), Kept.FILES)
    policy = page.headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert "<style" not in text
    assert "style=" not in text
    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []
    assert page.headers["cache-control"] == "no-store"


def test_both_languages_have_all_texts() -> None:
    for name in ENGLISH.__dataclass_fields__:
        assert re.findall(r"{\w+}", getattr(ENGLISH, name)) == re.findall(r"{\w+}", getattr(KOREAN, name))
        assert getattr(KOREAN, name)


async def test_who_may_look_already_is_told(viewers: Viewers) -> None:
    pages = Pages()  # without ADMIN_TOKEN, this machine may
    async with serving(pages.app) as origin, httpx.AsyncClient(headers={"accept": BROWSER}) as client:
        assert ENGLISH.logged_in in (await client.get(f"{origin}/login")).text


def test_where_logins_cannot_be_stored_the_form_says_why() -> None:
    """The reason comes from the error; see tests/access/test_logins.py for a full disk."""
    page = login_page(asked("en"), Kept.FILES, status=503, message=ENGLISH.failed.format(reason="<no space>"))
    assert "The login failed: &lt;no space&gt;" in page.body.decode()


def test_by_default_logins_are_in_memory() -> None:
    assert Viewers().logins.kept is Logins().kept is Kept.MEMORY
