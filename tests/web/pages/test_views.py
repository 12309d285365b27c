"""The views of a real proxy: well-formed in both languages, within the policy, and true."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from claude_proxy.errors import Unavailable
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.simulator.scenario import error
from claude_proxy.web.examining import examination
from claude_proxy.web.pages import VIEWS, settings
from claude_proxy.web.pages.answering import POLICY
from claude_proxy.web.texts import text
from tests.integration.booked import booked, fill, written
from tests.integration.proxy import RunningProxy, running_proxy
from tests.web.pages.html import outline
from tests.web.pages.site import call, visitor
from tests.web.serving import BROWSER, Pages, serving

PLAIN = ["/", *(view.path for view in VIEWS if "{" not in view.path and view.key)]


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy with books of every kind of exchange."""
    async with booked(simulator, tmp_path) as running:
        await fill(running, simulator)
        yield running


@pytest.fixture
async def fresh(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy that nobody has used yet."""
    async with booked(simulator, tmp_path) as running:
        yield running


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_every_view_is_well_formed_and_within_the_policy(proxy: RunningProxy, language: str) -> None:
    async with visitor(proxy, language) as client:
        for path in PLAIN:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["content-language"] == language
            assert answer.headers["cache-control"] == "no-store"
            page = outline(answer.text)
            assert f'<html lang="{language}"' in answer.text
            assert [address for address in page.addresses if re.match(r"\w+:|//", address)] == []


async def test_every_address_of_a_view_leads_somewhere(proxy: RunningProxy) -> None:
    built = {view.key for view in VIEWS} | {"now"}
    async with visitor(proxy) as client:
        for path in PLAIN:
            page = outline((await client.get(path)).text)
            for address in set(page.addresses):
                if address.startswith(("#", "./live", "./search", "./exchanges", "./sessions/", "./settings/doctor")):
                    continue
                if address.strip("./") in {"sessions", "usage"} - built:
                    continue  # not built yet
                answer = await client.get(httpx.URL(proxy.origin + path).join(address))
                assert answer.status_code == 200, (path, address)


async def test_now_shows_what_finished_with_its_cost_and_where_it_leads(proxy: RunningProxy) -> None:
    async with visitor(proxy) as client, httpx.AsyncClient(base_url=f"{proxy.origin}/api/v1") as api:
        page = (await client.get("/")).text
        items = (await api.get("/exchanges?limit=20")).json()["items"]
    rows = dict(re.findall(r'<tr id="f-(cp_\w+)".*?>(.*?)</tr>', page, re.DOTALL))
    assert set(rows) == {item["id"] for item in items}
    for item in items:
        row = unescape(rows[item["id"]])
        assert f'href="./exchanges/{item["id"]}"' in row
        assert (item["model"] or "–") in row
        assert "unpriced" in row or "–" in row, "the simulator's host has no price, and that is no zero"
        assert "$0" not in row
    assert "Costs are API list prices, not a bill." in page


async def test_errors_are_marked_by_word_and_shape(simulator: Simulator, fresh: RunningProxy) -> None:
    await call(fresh, simulator, Scenario(fault=faults.status(529)))
    await call(fresh, simulator, Scenario(fault=faults.cut("events", 3)))
    await written(fresh, 2)
    async with visitor(fresh) as client:
        page = (await client.get("/")).text
    assert '<span class="mark bad">error 529</span>' in page
    assert '<span class="mark bad">cut off</span>' in page


async def test_now_is_the_connect_card_until_somebody_has_connected(fresh: RunningProxy, simulator: Simulator) -> None:
    async with visitor(fresh, "ko") as client:
        page = (await client.get("/")).text
        assert page.count(f"<span data-address>{fresh.base_url}</span>") == 1 + 4 + 3
        assert "data-waiting" in page, "the page changes by itself"
        assert text("ko", "connect.lead") in unescape(page)
        await call(fresh, simulator)
        await written(fresh, 1)
        assert "data-waiting" not in (await client.get("/")).text


async def test_the_connect_card_is_also_among_the_settings(proxy: RunningProxy) -> None:
    async with visitor(proxy) as client:
        page = (await client.get("/settings")).text
    assert f"<span data-address>{proxy.base_url}</span>" in page


@pytest.mark.parametrize(
    ("holds", "asks", "sentence"),
    [(False, False, "key_passes"), (True, True, "key_asked"), (True, False, "key_held"), (False, True, "key_both")],
)
async def test_the_card_says_which_key_belongs_where(holds: bool, asks: bool, sentence: str) -> None:
    async with serving(Pages(holds=holds, asks=asks).app) as origin, httpx.AsyncClient() as client:
        for language in ("en", "ko"):
            answer = await client.get(origin, headers={"accept": BROWSER, "accept-language": language})
            page = unescape(re.sub("</?mark>", "", answer.text))
            assert text(language, f"connect.{sentence}", upstream="api.z.ai") in page  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "$(reboot)", "a';reboot;'"])
async def test_a_hostile_host_does_not_reach_the_page(pages: Pages, host: str) -> None:
    async with serving(pages.app) as origin, httpx.AsyncClient() as client:
        page = (await client.get(origin, headers={"accept": BROWSER, "host": host})).text
    assert "reboot" not in page
    assert "alert(1)" not in page
    assert "http://127.0.0.1:" in page


async def test_page_and_links_work_under_every_prefix(address: str) -> None:
    async with httpx.AsyncClient(headers={"accept": BROWSER}) as client:
        for path in PLAIN:
            page = outline((await client.get(f"{address}{path}")).text)
            for link in page.addresses:
                if link.startswith(("#", "?")) or any(part in link for part in ("live", "sessions", "usage", "search", "doctor")):
                    continue
                answer = await client.get(httpx.URL(f"{address}{path}").join(link))
                assert answer.status_code == 200, link


async def test_without_books_now_still_says_what_runs_and_why_the_rest_is_missing(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy, visitor(proxy) as client:
        page = (await client.get("/")).text
        assert outline(page)
        found = await client.get("/search?q=abc")
        assert found.status_code == 503
        assert "LEDGER is off" in unescape(found.text)
        assert outline(found.text)


async def test_a_language_that_was_chosen_stays(proxy: RunningProxy) -> None:
    async with visitor(proxy, "ko") as client:
        assert '<html lang="en"' in (await client.get("/?lang=en")).text
        assert '<html lang="en"' in (await client.get("/upstreams")).text
        answer = await client.get("/upstreams?lang=%22%3E%3Cb%3Emark1")
        assert "mark1" not in answer.text
        assert '<html lang="en"' in answer.text


async def test_pages_are_compressed_for_those_who_take_it(proxy: RunningProxy) -> None:
    async with visitor(proxy, **{"accept-encoding": "gzip"}) as client, client.stream("GET", "/") as answer:
        assert answer.headers["content-encoding"] == "gzip"
        packed = b"".join([part async for part in answer.aiter_raw()])
    assert b"</html>" in gzip.decompress(packed)
    async with visitor(proxy, **{"accept-encoding": "identity"}) as client:
        assert "content-encoding" not in (await client.get("/")).headers


@pytest.mark.parametrize("path", [*PLAIN, "/search?q=x"])
async def test_a_stranger_gets_a_page_that_says_what_to_do(proxy: RunningProxy, path: str) -> None:
    async with visitor(proxy, **{"x-forwarded-for": "203.0.113.9"}) as client:
        answer = await client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "ADMIN_TOKEN" in outline(answer.text).text
    assert "cp_" not in answer.text


@pytest.mark.parametrize("path", ["/live", "/trouble"])
async def test_a_stranger_program_gets_the_envelope_and_no_redirect(proxy: RunningProxy, path: str) -> None:
    async with httpx.AsyncClient(headers={"x-forwarded-for": "203.0.113.9"}) as client:
        answer = await client.get(proxy.origin + path)
    assert answer.status_code == 401
    assert answer.json()["type"] == "error"


@pytest.mark.parametrize("query", ["", "q=%20", "q=nobody-knows-it", "q=cp_0000000000001", "q=%22%3E%3Cscript%3E&x=1"])
async def test_a_search_that_finds_nothing_leads_to_the_sessions(proxy: RunningProxy, query: str) -> None:
    async with visitor(proxy) as client:
        answer = await client.get(f"/search?{query}")
    assert answer.status_code == 303
    assert re.fullmatch(r"\./sessions(\?q=[\w%-]+)?", answer.headers["location"])


async def test_a_search_finds_an_exchange_and_a_session(proxy: RunningProxy) -> None:
    async with visitor(proxy) as client, httpx.AsyncClient(base_url=f"{proxy.origin}/api/v1") as api:
        number = (await api.get("/exchanges?limit=1")).json()["items"][0]["id"]
        for typed in (number, number.upper(), f" {number.removeprefix('cp_')} "):
            location = (await client.get("/search", params={"q": typed})).headers["location"]
            assert location.startswith("./exchanges/")
        assert (await client.get("/search?q=session-1")).headers["location"] == "./sessions/session-1"


async def test_trouble_is_told_to_background_tabs(proxy: RunningProxy) -> None:
    async with visitor(proxy) as client:
        assert (await client.get("/trouble")).json() == {"status": "ready", "trouble": False}
        proxy.app.state.live.on_upstream_state("default", "ejected")
        assert (await client.get("/trouble")).json() == {"status": "ready", "trouble": True}
        page = (await client.get("/upstreams")).text
        assert '<span class="mark bad">ejected</span>' in page


async def test_upstreams_says_what_an_error_means_and_what_to_do(simulator: Simulator, fresh: RunningProxy) -> None:
    await call(fresh, simulator, error(429, message="[1302][High concurrency]", error_code="1302"))
    await call(fresh, simulator, Scenario(fault=faults.status(529)))
    await call(fresh, simulator, Scenario(fault=faults.status(529)))
    await call(fresh, simulator)
    await written(fresh, 4)
    async with visitor(fresh) as english, visitor(fresh, "ko") as korean:
        page, seite = [outline((await client.get("/upstreams")).text) for client in (english, korean)]
    assert "overloaded" in page.text
    assert "과부하" in seite.text
    assert page.addresses.count("./live") == 0
    assert len([address for address in page.addresses if address.startswith("./exchanges/cp_")]) == 2
    assert "up" in page.texts


async def test_upstreams_without_errors_says_what_would_be_there(fresh: RunningProxy) -> None:
    async with visitor(fresh) as client:
        page = outline((await client.get("/upstreams")).text).text
    assert text("en", "upstreams.no_errors") in page
    assert text("en", "upstreams.notices_off") in page


async def test_settings_shows_what_was_set_and_where_and_no_secret(simulator: Simulator, tmp_path: Path) -> None:
    secrets = {"upstream_api_key": "sk-secret-1", "admin_token": "token-secret-2-" + "x" * 20}
    seen = {"authorization": f"Bearer {secrets['admin_token']}"}
    async with booked(simulator, tmp_path, **secrets) as proxy, visitor(proxy, **seen) as client:
        page = (await client.get("/settings")).text
    assert "secret-1" not in page
    assert "secret-2" not in page
    assert text("en", "settings.hidden") in page
    rows = re.findall(r"<code>([A-Z_]+)</code>", page)
    assert {"BASE_URL", "UPSTREAM_API_KEY", "LOG_LEVEL", "LEDGER_KEEP"} <= set(rows)
    assert len(rows) == len(set(rows)) >= 40


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "on"), (False, "off"), (None, None), ("", None), ((), None), (["a", "b"], "a, b"), (7, "7"), (0, "0")],
)
def test_a_value_is_shown_as_it_is_set(value: object, shown: str | None) -> None:
    assert settings.written(value) == shown


async def test_the_doctor_looks_around_when_asked(proxy: RunningProxy) -> None:
    async with visitor(proxy) as client:
        answer = await client.post("/settings/doctor", headers={"origin": proxy.origin, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200
    page = outline(answer.text)
    assert text("en", "settings.check_ok") in page.texts
    assert "version" in page.texts
    assert [address for address in page.addresses if address.startswith("./")] == [], "one folder deeper"


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}])
async def test_another_site_cannot_send_the_doctor(proxy: RunningProxy, headers: dict[str, str]) -> None:
    async with visitor(proxy, **headers) as client:
        answer = await client.post("/settings/doctor")
    assert answer.status_code == 403


async def test_the_doctor_is_sent_by_post_only_and_not_by_strangers(proxy: RunningProxy) -> None:
    async with visitor(proxy) as client:
        assert (await client.get("/settings/doctor")).status_code == 405
    async with visitor(proxy, **{"x-forwarded-for": "203.0.113.9"}) as client:
        assert (await client.post("/settings/doctor")).status_code == 401


async def test_the_doctor_looks_once_at_a_time() -> None:
    """Each look is a process: many clicks must not start many."""
    inside, out = asyncio.Event(), asyncio.Event()

    async def examine() -> list[dict[str, str]]:
        inside.set()
        await out.wait()
        return [{"name": "version", "state": "ok", "detail": "1.2.3", "fix": ""}]

    pages = Pages(examine=examine)
    async with serving(pages.app) as origin, httpx.AsyncClient(headers={"accept": BROWSER}) as client:
        first = asyncio.create_task(client.post(f"{origin}/settings/doctor"))
        await inside.wait()
        second = await client.post(f"{origin}/settings/doctor")
        out.set()
        assert (await first).status_code == 200
    assert second.status_code == 503
    assert "already looking" in second.text


async def test_a_doctor_that_fails_is_a_sentence() -> None:
    examine = examination(("--no-such-option",))
    with pytest.raises(Unavailable, match="claude-proxy doctor"):
        await examine()
