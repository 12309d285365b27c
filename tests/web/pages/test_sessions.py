"""*Sessions* and *Exchange* of a real proxy: every row leads on, and what is said is what the books have."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from claude_proxy import ids
from claude_proxy.exchange import Attempt, CacheArea, CacheKind, CacheVerdict, Failure, Outcome, Usage
from claude_proxy.ledger.record import Charge
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.web.pages.sessions import EXCHANGES, SESSIONS
from claude_proxy.web.texts import text
from tests.cli.ledgers import fill
from tests.integration.booked import booked, written
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy
from tests.integration.wire import connect, request
from tests.ledger.books import NOW, entry
from tests.web.pages.html import Outline, outline
from tests.web.pages.site import call, visitor

LINK = re.compile(r'<a href="([^"]*)">([^<]*)</a>')
SESSION = b"x-claude-code-session-id"


@pytest.fixture
async def fresh(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy that nobody has used yet."""
    async with booked(simulator, tmp_path) as running:
        yield running


async def look(proxy: RunningProxy, path: str, language: str = "en", status: int = 200) -> Outline:
    """A page, well-formed."""
    async with visitor(proxy, language) as client:
        answer = await client.get(path)
    assert answer.status_code == status, answer.text
    return outline(answer.text)


async def with_books(simulator: Simulator, folder: Path, path: str, *entries: Any, language: str = "en") -> Outline:
    """A page of a proxy whose ledger has these entries."""
    fill(folder, *entries)
    async with booked(simulator, folder) as proxy:
        return await look(proxy, path, language)


def number_of(one: Any) -> str:
    """An entry's id."""
    return ids.encode(one.record.id)


# -- the list


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_without_sessions_the_list_says_how_to_get_one(fresh: RunningProxy, language: Any) -> None:
    page = await look(fresh, "/sessions", language)
    assert text(language, "sessions.nothing_lead") in page.text
    assert "./settings#connect" in page.addresses


async def test_from_the_list_to_a_session_to_an_exchange_and_back(fresh: RunningProxy, simulator: Simulator) -> None:
    await call(fresh, simulator, None, (SESSION, b"session-9"))
    await call(fresh, simulator, None, (SESSION, b"session-9"), (b"x-claude-code-agent-id", b"helper"))
    await written(fresh, 2)
    page = await look(fresh, "/sessions")
    assert "./sessions/session-9" in page.addresses
    page = await look(fresh, "/sessions/session-9")
    exchanges = [address for address in page.addresses if "exchanges/cp_" in address]
    assert len(exchanges) == 2
    for agent, shown in (("helper", 1), ("", 1), ("nobody", 0)):
        if shown:
            assert f"../sessions/session-9?agent={agent}#timeline" in page.addresses
        part = await look(fresh, f"/sessions/session-9?agent={agent}")
        assert len([address for address in part.addresses if "exchanges/cp_" in address]) == shown
    for address in exchanges:
        inner = await look(fresh, address.removeprefix(".."))
        assert "../sessions/session-9" in inner.addresses
        beside = {one for one in inner.addresses if one.startswith("../exchanges/")} - {f"{address}/conversation"}
        assert beside == set(exchanges) - {address}
        assert f"{address}/conversation" in inner.addresses
        await look(fresh, f"{address.removeprefix('..')}/conversation")


async def test_the_numbers_are_those_of_the_api(fresh: RunningProxy, simulator: Simulator) -> None:
    for _ in range(3):
        await call(fresh, simulator, Scenario("text"), (SESSION, b"session-9"))
    await call(fresh, simulator, Scenario(fault=faults.status(529)), (SESSION, b"session-9"))
    await written(fresh, 4)
    page = await look(fresh, "/sessions/session-9")
    async with httpx.AsyncClient(base_url=f"{fresh.origin}/api/v1") as api:
        told = (await api.get("/sessions/session-9")).json()
    tiles = dict(zip(page.texts, page.texts[1:], strict=False))
    assert tiles[text("en", "sessions.requests")] == str(told["exchanges"]) == "4"
    assert tiles[text("en", "sessions.errors")] == str(told["failed"]) == "1"


ODD = [
    "a/b",
    "../../etc",
    "a?b=c#d",
    "ä 100%",
    "..",
    ".",
    "a;b",
    "/",
    "?",
    "#",
    "%2F",
    "%2e%2e",
    "a\\b",
    "//evil.example",
    "&id=x",
]


@pytest.mark.parametrize("name", ODD)
async def test_a_session_of_any_name_can_be_opened_from_everywhere(fresh: RunningProxy, simulator: Simulator, name: str) -> None:
    await call(fresh, simulator, None, (SESSION, name.encode()))
    await call(fresh, simulator, None, (SESSION, name.encode()), (b"x-claude-code-agent-id", b"../x?"))
    await written(fresh, 2)
    async with visitor(fresh) as client:
        found = await client.get("/search", params={"q": name})
        links = {found.url.join(found.headers["location"])}
        sessions = await client.get("/sessions")
        [number] = [one for one in outline((await client.get("/")).text).addresses if "exchanges/cp_" in one][:1]
        for answer in (sessions, await client.get("/usage?by=session"), await client.get(sessions.url.join(number))):
            links |= {answer.url.join(one) for one in outline(answer.text).addresses if "session?id=" in one}
        assert {(one.path, one.params["id"]) for one in links} == {("/session", name)}
        assert {one.params.get("agent") for one in links} <= {None, "../x?"}
        answer = await client.get(min(links, key=lambda one: len(str(one))))
        assert answer.status_code == 200
        session = outline(answer.text)
        exchanges = [one for one in session.addresses if re.search(r"exchanges/cp_\w+$", one)]
        assert len(exchanges) == 2
        [agent] = [one for one in session.addresses if "agent=.." in one]
        part = await client.get(answer.url.join(agent))
        assert len([one for one in outline(part.text).addresses if "exchanges/cp_" in one]) == 1
        assert (await client.get(answer.url.join(exchanges[0]))).status_code == 200


@pytest.mark.parametrize("name", ODD)
async def test_the_api_knows_a_session_of_any_name(fresh: RunningProxy, simulator: Simulator, name: str) -> None:
    await call(fresh, simulator, None, (SESSION, name.encode()))
    await call(fresh, simulator, None, (SESSION, b"another"))
    await written(fresh, 2)
    async with httpx.AsyncClient(base_url=f"{fresh.origin}/api/v1") as api:
        [item] = (await api.get("/sessions", params={"session": name})).json()["items"]
        assert item["session"] == name
        assert (await api.get("/sessions", params={"session": "never"})).json()["items"] == []
        if name not in (".", "..", "../../etc", "%2e%2e"):  # clients resolve these in a path
            told = (await api.get(f"/sessions/{quote(name, safe='')}")).json()
            assert told == item


# -- what has no session


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_requests_without_a_session_are_found_from_the_sessions(
    fresh: RunningProxy, simulator: Simulator, language: Any
) -> None:
    await call(fresh, simulator)
    await call(fresh, simulator, Scenario(fault=faults.status(529)))
    await written(fresh, 2)
    page = await look(fresh, "/sessions", language)
    assert text(language, "sessions.nothing") not in page.text, "there is something to see"
    assert "./session?id=" in page.addresses
    page = await look(fresh, "/session?id=", language)
    assert text(language, "sessions.without_lead") in page.text
    numbers = [one for one in page.addresses if "exchanges/cp_" in one]
    assert len(numbers) == 2
    inner = await look(fresh, numbers[0].removeprefix("."), language)
    assert "../session?id=" in inner.addresses


@pytest.mark.parametrize("path", ["/session", "/session?id=", "/sessions/"])
async def test_without_such_requests_their_page_says_so(fresh: RunningProxy, simulator: Simulator, path: str) -> None:
    await call(fresh, simulator, None, (SESSION, b"session-9"))
    await written(fresh, 1)
    assert "./session?id=" not in (await look(fresh, "/sessions")).addresses
    assert text("en", "sessions.without_empty") in (await look(fresh, path)).text


async def test_requests_without_a_session_come_in_pages_with_all_their_sums(simulator: Simulator, tmp_path: Path) -> None:
    made = [entry(NOW + at * 1000, session=None, charge=Charge(10**9, None, "p")) for at in range(EXCHANGES + 2)]
    fill(tmp_path, *made, entry(NOW, session="session-9", charge=Charge(10**9, None, "p")))
    async with booked(simulator, tmp_path) as proxy, visitor(proxy) as client:
        seen = []
        answer = await client.get("/session?id=")
        for count in (EXCHANGES, 2):
            page = outline(answer.text)
            assert f"${EXCHANGES + 2}.00" in page.text
            seen += [one for one in page.addresses if "exchanges/cp_" in one]
            assert len(seen) - len(set(seen)) == 0
            assert len([one for one in page.addresses if "exchanges/cp_" in one]) == count
            following = [one for one in page.addresses if "before=" in one]
            if following:
                answer = await client.get(answer.url.join(following[0]))
        assert {f"./exchanges/{number_of(one)}" for one in made} == set(seen)


async def test_a_search_shows_what_it_found_or_what_can_be_searched(fresh: RunningProxy, simulator: Simulator) -> None:
    for name in (b"session-1", b"other-2"):
        await call(fresh, simulator, None, (SESSION, name))
    await written(fresh, 2)
    found = await look(fresh, "/sessions?q=SESSION")
    assert [one for one in found.addresses if "sessions/" in one] == ["./sessions/session-1"]
    nothing = await look(fresh, "/sessions?q=nowhere")
    assert text("en", "sessions.no_match", text="nowhere") in nothing.text
    assert text("en", "sessions.no_match_lead") in nothing.text


async def test_many_sessions_and_exchanges_come_in_pages(simulator: Simulator, tmp_path: Path) -> None:
    entries = [entry(NOW + at * 1000, session=f"session-{at}") for at in range(SESSIONS + 3)]
    entries += [entry(NOW - at * 1000, session="long", agent="helper") for at in range(EXCHANGES + 2)]
    fill(tmp_path, *entries)
    async with booked(simulator, tmp_path) as proxy, visitor(proxy) as client:
        for path, rest in (("/sessions", 4), ("/sessions/long", 2), ("/sessions/long?agent=helper", 2)):
            first = await client.get(path)
            (following,) = [one for one in outline(first.text).addresses if "before=" in one]
            second = await client.get(first.url.join(following))
            page = outline(second.text)
            assert page.tags.count("tr") - page.tags.count("thead") >= rest
            assert len([one for one in page.addresses if "exchanges/" in one or "sessions/session" in one]) <= rest
            newest = next(href for href, words in LINK.findall(second.text) if words == text("en", "shell.newest"))
            assert outline((await client.get(second.url.join(newest))).text).texts == outline(first.text).texts
        answer = await client.get("/sessions?before=nonsense")
        assert answer.status_code == 400
        assert outline(answer.text)


async def test_what_runs_is_marked(fresh: RunningProxy, simulator: Simulator) -> None:
    await call(fresh, simulator, None, (SESSION, b"session-9"))
    await written(fresh, 1)
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with connect(fresh.port) as wire:
        wire.send(request("POST", MESSAGES, [JSON, (SESSION, b"session-9")], body()))
        await simulator.hold.wait()
        assert text("en", "sessions.active") in (await look(fresh, "/sessions")).texts
        page = await look(fresh, "/sessions/session-9")
        assert text("en", "sessions.running", count=1) in page.texts
        (item,) = (await fresh.app.state.machine.running()).items
        running = await look(fresh, f"/exchanges/{item['id']}")
        assert text("en", "exchange.running") in running.texts
        async with visitor(fresh) as client:
            assert (await client.get(f"/exchanges/{item['id']}")).headers["refresh"] == "2"
            assert (await client.get(f"/search?q={item['id']}")).headers["location"] == f"./exchanges/{item['id']}"
        wire.leave()
    await written(fresh, 2)
    over = await look(fresh, f"/exchanges/{item['id']}")
    assert text("en", "exchange.what_cancelled") in over.text


async def test_a_session_that_has_just_begun_is_not_called_unknown(fresh: RunningProxy, simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with connect(fresh.port) as wire:
        wire.send(request("POST", MESSAGES, [JSON, (SESSION, b"session-9")], body()))
        await simulator.hold.wait()
        page = await look(fresh, "/sessions/session-9", status=404)
        assert text("en", "sessions.just_begun") in page.text
        wire.leave()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/sessions/nobody", "sessions.not_found"), ("/exchanges/cp_0000000000001", "exchange.not_found"),
        ("/exchanges/nonsense", "exchange.no_id"), ("/exchanges/cp_" + "z" * 300, "exchange.no_id"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "ko"])
async def test_what_is_not_there_is_a_sentence(fresh: RunningProxy, path: str, sentence: str, language: Any) -> None:
    page = await look(fresh, path, language, status=404)
    assert text(language, sentence) in page.text


# -- one exchange


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(
    ("kind", "area"),
    [("first", None), ("grew", None), ("expired", None), ("provider", None)]
    + [("changed", area) for area in ("tools", "system", "message", "model", "settings", None)],
)
async def test_the_cache_verdict_is_a_sentence(
    simulator: Simulator, tmp_path: Path, kind: CacheKind, area: CacheArea | None, language: Any
) -> None:
    verdict = CacheVerdict(
        kind, area, 14 if area in ("tools", "system", "message") else None, 9 if area == "message" else None, 41_000
    )
    one = entry(cache=verdict, charge=Charge(10**9, None, "p", 250_000_000))
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one, language=language)
    key = f"exchange.cache_{kind}" + (f"_{area}" if area else "")
    assert text(language, key, message=9) in page.text
    assert text(language, "exchange.lost", tokens="41k" if language == "en" else "4.1만") in page.text
    assert "~" in page.text
    assert "$0.25" in page.text
    if verdict.block is not None:
        assert text(language, "exchange.block", n=14) in page.text


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.COMPLETED])
async def test_how_it_ended_is_a_sentence(simulator: Simulator, tmp_path: Path, outcome: Outcome, language: Any) -> None:
    one = entry(outcome=outcome, status=499, usage=None, first_byte=None)
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one, language=language)
    assert text(language, f"exchange.what_{outcome.value}") in page.text
    assert "unpriced" not in page.text, "where nothing was used, no price is missing"


async def test_an_error_says_what_it_means_and_what_to_do(simulator: Simulator, tmp_path: Path) -> None:
    failure = Failure("upstream", "rate_limit_error", "[1302][High concurrency]", "1302", provider="zai")
    one = entry(failure=failure, status=429, usage=None)
    fill(tmp_path, one)
    async with booked(simulator, tmp_path) as proxy:
        english, korean = [await look(proxy, f"/exchanges/{number_of(one)}", language) for language in ("en", "ko")]
    assert "1302" in english.texts
    assert text("en", "exchange.side_upstream") in english.text
    assert text("ko", "exchange.side_upstream") in korean.text
    assert "[1302][High concurrency]" in english.texts
    assert english.text != korean.text


async def test_attempts_stand_as_a_ladder(simulator: Simulator, tmp_path: Path) -> None:
    failure = Failure("upstream", "overloaded_error", "Overloaded, please wait", "1305")
    tries = [Attempt("zai", 50.0, "plan-a", True, 50.4, 529, failure), Attempt("backup", 51.0, None, False, 51.5, 200)]
    one = entry(attempts=tries)
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one)
    assert page.tags.count("svg") >= 2
    for said in ("529", "200", "zai", "backup", "overloaded", "Overloaded, please wait", text("en", "exchange.passed_on")):
        assert said in page.texts


async def test_the_times_are_told_in_sentences(simulator: Simulator, tmp_path: Path) -> None:
    one = entry(stream=True, started=50.0, ended=62.0, first_byte=3.4, longest_silence=7.0)
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one)
    assert text("en", "exchange.streamed", first="3.4 s", rest="8.6 s") in page.text
    assert text("en", "exchange.silent", time="7.0 s") in page.text


async def test_the_prompts_tokens_are_shown_by_where_they_came_from(simulator: Simulator, tmp_path: Path) -> None:
    one = entry(usage=Usage(input=100, output=20, cache_read=3000, cache_write=900))
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one)
    for key, tokens in (("input_tokens", "100"), ("cache_read_input_tokens", "3,000"), ("cache_creation_input_tokens", "900")):
        assert f"{text('en', f'exchange.{key}')}: {tokens}" in page.text
    assert text("en", "exchange.in_out", input="4k", output="20") in page.text


async def test_an_exchange_without_a_session_stands_alone(simulator: Simulator, tmp_path: Path) -> None:
    one = entry(session=None, agent=None, model=None, usage=None)
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one, entry(NOW + 1, session=None))
    assert [address for address in page.addresses if re.search(r"exchanges/cp_\w+$", address) and "api" not in address] == []


async def test_details_name_everything_that_the_row_has(simulator: Simulator, tmp_path: Path) -> None:
    values = {
        "session": "session-x", "agent": "agent-x", "parent_agent": "parent-x", "request_class": "class-x", "model": "model-x",
        "model_sent": "sent-x", "model_served": "served-x", "upstream": "upstream-x", "account": "account-x",
        "client": "192.0.2.77", "user_agent": "program-x", "stop_reason": "stop-x", "upstream_request_id": "request-x",
    }  # fmt: skip
    one = entry(**values, charge=Charge(10**9, 5_500_000, "price-x"))
    one.record = msgspec.structs.replace(one.record, project="project-x")
    page = await with_books(simulator, tmp_path, f"/exchanges/{number_of(one)}", one)
    for value in (*values.values(), "project-x", "price-x", "5.5"):
        assert value in page.text, value


async def test_a_stranger_sees_neither_sessions_nor_exchanges(simulator: Simulator, tmp_path: Path) -> None:
    one = entry(session="session-secret")
    fill(tmp_path, one)
    async with booked(simulator, tmp_path) as proxy, visitor(proxy, **{"x-forwarded-for": "203.0.113.9"}) as client:
        for path in ("/sessions", "/sessions/session-secret", f"/exchanges/{number_of(one)}"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert "glm" not in answer.text
