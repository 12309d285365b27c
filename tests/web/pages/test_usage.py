"""*Usage* of a real proxy: the same numbers as the API, in the viewer's days, with what is left of the plan."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import msgspec
import pytest

from claude_proxy.ledger.options import Sample
from claude_proxy.ledger.prices.quota import Meter, Window
from claude_proxy.ledger.record import Charge
from claude_proxy.simulator import Simulator
from claude_proxy.web.texts import text
from tests.cli.ledgers import DOLLAR, HOUR, fill
from tests.integration.booked import api, booked
from tests.integration.proxy import RunningProxy
from tests.ledger.books import entry
from tests.ledger.places import Place
from tests.web.pages.html import Outline, outline
from tests.web.pages.site import visitor
from tests.web.pages.test_hostile import CORPUS, only_text

MICRO = 10**6


def in_project(one: Any, project: str) -> Any:
    """An entry whose session has a project."""
    one.record = msgspec.structs.replace(one.record, project=project)
    return one


def life(now: int) -> list[Any]:
    """Exchanges of several models, sessions and clients: one has no price, one failed."""
    return [
        in_project(entry(now - 2 * HOUR, charge=Charge(3 * DOLLAR), session="one", model="glm-5.3"), "tools"),
        in_project(
            entry(now - 3 * HOUR, charge=Charge(DOLLAR // 2), session="one", model="glm-5.3-flash", agent="helper"), "tools"
        ),
        in_project(entry(now - 30 * HOUR, charge=Charge(2 * DOLLAR), session="two", client="laptop"), "site"),
        entry(now - 5 * HOUR, model="nobody-knows-it", session=None),
        entry(now - 40 * 24 * HOUR, charge=Charge(100 * DOLLAR), session="old"),
    ]


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy with books."""
    fill(tmp_path, *life(int(time.time() * 1000)))
    async with booked(simulator, tmp_path) as running:
        yield running


async def look(proxy: RunningProxy, query: str = "", language: str = "en") -> tuple[Outline, str]:
    """The page, and its source."""
    async with visitor(proxy, language) as client:
        answer = await client.get(f"/usage{query}")
    assert answer.status_code == 200, answer.text
    return outline(answer.text), unescape(answer.text)


def rows(source: str) -> dict[str, list[str]]:
    """The cells of the table of groups, by name."""
    table = source.partition('<table class="rows">')[2].partition("</table>")[0]
    found = {}
    for row in re.findall(r"<tr data-row>(.*?)</tr>", table, re.DOTALL):
        cells = [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        found[cells[0]] = cells[1:]
    return found


@pytest.mark.parametrize("by", ["model", "project", "session", "agent", "class", "client", "upstream", "account"])
async def test_the_numbers_are_those_of_the_api(proxy: RunningProxy, by: str) -> None:
    page, source = await look(proxy, f"?by={by}&since=7d")
    async with api(proxy) as client:
        answer = (await client.get("/usage", params={"by": by, "since": "7d", "timezone": "UTC"})).json()
    found = rows(source)
    assert list(found) == [group["key"] or "(none)" for group in answer["groups"]]
    for group in answer["groups"]:
        cells = found[group["key"] or "(none)"]
        assert cells[0] == str(group["exchanges"])
        assert cells[-1].removeprefix("≥ ") == ("unpriced" if group["cost_usd"] is None else f"${group['cost_usd']:,.2f}")
        assert cells[-1].startswith("≥") == bool(group["unpriced_exchanges"] and group["cost_usd"] is not None)
    assert f"≥ ${answer['totals']['cost_usd']:,.2f}" in page.text
    assert "1 request has no list price and is not in the cost." in page.text
    assert "$0" not in source.replace("$0.50", "")


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_list_prices_are_named_once(proxy: RunningProxy, language: str) -> None:
    page, _ = await look(proxy, language=language)
    assert page.text.count(text(language, "shell.list_prices")) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "cost", "requests"),
    [
        ("model=glm-5.3", "$5.00", "2"),
        ("session=one", "$3.50", "2"),
        ("session=one&model=glm-5.3-flash", "$0.50", "1"),
        ("project=site", "$2.00", "1"),
        ("agent=helper", "$0.50", "1"),
        ("agent=", "≥ $5.00", "3"),
        ("client=laptop", "$2.00", "1"),
        ("since=90d", "≥ $105.50", "5"),
    ],
)
async def test_filters_scope_every_number(proxy: RunningProxy, query: str, cost: str, requests: str) -> None:
    page, source = await look(proxy, f"?{query}")
    tiles = dict(re.findall(r'<div class="tile"><dt>(.*?)</dt><dd>(.*?)</dd>', source))
    assert re.sub("<[^>]+>", "", tiles["Cost"]) == cost
    assert tiles["Requests"] == requests
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "since":
            assert (value or "(none)") in page.text
    drawn = [float(one) for one in re.findall(r": \$([\d.]+)</title>", source)]
    assert sum(drawn) == pytest.approx(float(cost.lstrip("≥ $")))


async def test_a_filter_that_nothing_fits_says_so(proxy: RunningProxy) -> None:
    page, _ = await look(proxy, "?model=never-seen")
    assert text("en", "usage.empty_filtered") in page.text


async def test_rows_lead_to_their_own_numbers_and_filters_are_removed(proxy: RunningProxy) -> None:
    page, _ = await look(proxy, "?by=model&timezone=Asia/Seoul")
    [link] = [one for one in page.addresses if one.startswith("?") and "model=glm-5.3&" in f"{one}&"]
    assert dict(parse_qsl(link[1:]))["timezone"] == "Asia/Seoul"
    narrowed, _ = await look(proxy, link)
    assert "$5.00" in narrowed.text
    [back] = [one for one in narrowed.addresses if one.startswith("?since") and "model=" not in one]
    assert (await look(proxy, back))[0].text.count("glm-5.3-flash")
    sessions, _ = await look(proxy, "?by=session")
    assert "./sessions/one" in sessions.addresses


async def test_the_files_have_the_same_numbers(proxy: RunningProxy) -> None:
    page, _ = await look(proxy, "?by=session&model=glm-5.3&since=7d&timezone=Asia/Kathmandu")
    links = {dict(parse_qsl(urlsplit(one).query))["format"]: one for one in page.addresses if "api/v1/usage" in one}
    async with visitor(proxy) as client:
        report = (await client.get(links["json"].removeprefix("."))).json()
        table = (await client.get(links["csv"].removeprefix("."))).text
    assert (report["timezone"], report["by"], report["totals"]["cost_usd"]) == ("Asia/Kathmandu", "session", 5.0)
    assert len(table.splitlines()) == 3


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/Los_Angeles", "Asia/Kathmandu", "UTC"])
async def test_days_are_the_viewers(proxy: RunningProxy, zone: str) -> None:
    page, source = await look(proxy, f"?timezone={zone}&since=7d&measure=exchanges")
    async with api(proxy) as client:
        report = (await client.get("/usage", params={"by": "day", "since": "7d", "timezone": zone})).json()
    assert zone in page.text
    for group in report["groups"]:
        bars = re.findall(rf"<title>{group['key'][5:]} · [^:]*: (\d+)</title>", source)
        assert sum(map(int, bars)) == group["exchanges"]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "", "x" * 3000, "%00"])
async def test_a_zone_that_is_not_known_gives_way_to_the_setting(simulator: Simulator, tmp_path: Path, zone: str) -> None:
    Place(tmp_path).store().close(0)
    async with booked(simulator, tmp_path, timezone="Asia/Tokyo") as proxy:
        page, _ = await look(proxy, f"?timezone={zone}")
    assert "Asia/Tokyo" in page.text


@pytest.mark.parametrize("query", ["since=soon", "since=2026-13-45", "until=1970-01-01", "since=%3Cscript%3E", "since=now"])
async def test_a_time_that_cannot_be_understood_is_said(proxy: RunningProxy, query: str) -> None:
    async with visitor(proxy) as client:
        answer = await client.get(f"/usage?{query}")
    assert answer.status_code == 400
    assert outline(answer.text)


@pytest.mark.parametrize("since", ["1970-01-01", "2020-01-01", "99999d", "24h", "366d"])
@pytest.mark.parametrize("period", ["hour", "month"])
async def test_no_time_makes_a_chart_without_end(proxy: RunningProxy, since: str, period: str) -> None:
    async with visitor(proxy) as client:
        answer = await client.get(f"/usage?since={since}&period={period}")
    assert answer.status_code in (200, 400)
    assert len(answer.content) < 250_000


async def test_nothing_used_yet_says_what_to_do(simulator: Simulator, tmp_path: Path) -> None:
    Place(tmp_path).store().close(0)
    async with booked(simulator, tmp_path) as proxy:
        page, _ = await look(proxy, language="ko")
    assert text("ko", "usage.empty_lead") in page.text


async def test_a_plan_shows_its_windows_the_rate_and_what_went_past_the_proxy(simulator: Simulator, tmp_path: Path) -> None:
    now = time.time()
    fill(tmp_path, entry(int(now * 1000) - 60_000, charge=Charge(DOLLAR, 300 * MICRO)))
    store = Place(tmp_path).store()
    limit = (Meter.CREDITS, "CREDIT_LIMIT")
    five = Window("5h", *limit, 12000 * MICRO, 11000 * MICRO, 1000 * MICRO, 0.9166, 18_000, now + 9000)
    week = Window(
        "week", Meter.CREDITS, "CREDIT_LIMIT", 60000 * MICRO, 20000 * MICRO, 40000 * MICRO, 0.3333, 604_800, now + 300_000
    )
    calls = Window("month", Meter.TOOL_CALLS, "TIME_LIMIT", None, None, None, 0.02, None, None)
    store.sample(Sample(int(now * 1000) - 1000, "default", None, (five, week, calls)))
    store.close(0)
    async with booked(simulator, tmp_path) as proxy:
        page, source = await look(proxy)
    for said in ("5-hour window", "Weekly window", "Monthly window", "92%", "33%", "2%", "11k of 12k", "~600", "Used up in"):
        assert said in page.text, said
    tiles = re.findall(r"<dt>Spent outside this proxy</dt><dd>(.*?)</dd>", source)
    assert tiles == ["10.7k", "19.7k"]
    assert "~1 h 40 min" in page.text or "~1 h 39 min" in page.text


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
async def test_names_and_filters_are_text(simulator: Simulator, tmp_path: Path, hostile: str) -> None:
    fields = dict.fromkeys(("session", "agent", "model", "request_class", "client", "key", "upstream"), hostile)
    fill(tmp_path, in_project(entry(int(time.time() * 1000) - 1000, charge=Charge(DOLLAR), **fields), hostile))
    async with booked(simulator, tmp_path) as proxy, visitor(proxy) as client:
        for by in ("model", "session", "project", "agent", "class", "client", "upstream"):
            for query in (
                {"by": by},
                {"by": by, by: hostile},
                dict.fromkeys(("by", "measure", "period", "timezone", "q"), hostile),
            ):
                answer = await client.get("/usage", params=query)
                assert answer.status_code == 200
                page = outline(answer.text)
                only_text(page)
                if len(query) == 1 and hostile.isprintable():
                    assert hostile in page.texts


async def test_without_books_it_says_why(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path, ledger="off") as proxy, httpx.AsyncClient() as client:
        answer = await client.get(f"{proxy.origin}/usage", headers={"accept": "text/html"})
    assert answer.status_code == 503
    assert "LEDGER is off" in unescape(answer.text)
