"""`/api/v1` of a real proxy in front of the simulator: shapes to the key, sums to the last token, errors in sentences."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.web.api import models
from claude_proxy.web.api.logins import LoginList
from tests.architecture.source import ROOT
from tests.integration.booked import AMOUNTS, TOKENS, api, booked, counted, fill
from tests.integration.messages import JSON, MESSAGES, body, post
from tests.integration.proxy import RunningProxy
from tests.integration.served import served
from tests.integration.wire import ask, connect

SHAPES: dict[str, type[BaseModel]] = {
    "/exchanges": models.Exchanges,
    "/sessions": models.Sessions,
    "/usage": models.UsageReport,
    "/usage?by=window": models.UsageReport,
    "/usage?breakdown=true": models.UsageReport,
    "/quota": models.Quotas,
    "/live": models.Running,
    "/upstreams": models.Upstreams,
    "/incidents": models.Incidents,
    "/settings": models.SettingsList,
    "/logins": LoginList,
}


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy with books of every kind of exchange."""
    async with booked(simulator, tmp_path) as running:
        await fill(running, simulator)
        yield running


async def test_every_answer_is_what_openapi_says(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        for path, model in SHAPES.items():
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"] == "no-store"
            model.model_validate_json(answer.content, strict=True)
        first = (await client.get("/exchanges")).json()["items"][0]["id"]
        models.WholeExchange.model_validate_json((await client.get(f"/exchanges/{first}")).content, strict=True)
        models.Session.model_validate_json((await client.get("/sessions/session-1")).content, strict=True)


async def test_the_keys_that_scripts_rely_on_are_these(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        usage = (await client.get("/usage")).json()
        page = (await client.get("/exchanges?limit=3")).json()
    assert list(usage) == ["from", "to", "timezone", "by", "totals", "groups"]
    assert set(AMOUNTS) <= usage["totals"].keys()
    assert all({"key", *AMOUNTS} <= group.keys() for group in usage["groups"])
    assert list(page) == ["items", "next"]
    assert len(page["items"]) == 3
    wanted = {"id", "started_at", "session", "agent", "model", "status", "outcome", "usage", "cost_usd", "first_byte_ms"}
    assert all({*wanted, "duration_ms"} <= item.keys() and set(TOKENS) <= item["usage"].keys() for item in page["items"])
    assert page["next"] == page["items"][-1]["id"]


async def test_the_sums_are_those_of_the_rows_and_of_the_simulator(
    proxy: RunningProxy, simulator: Simulator, tmp_path: Path
) -> None:
    async with api(proxy) as client:
        kinds = ("day", "model", "session", "agent", "window")
        reports = [(await client.get("/usage", params={"by": by, "breakdown": "on"})).json() for by in kinds]
        sessions = (await client.get("/sessions")).json()["items"]
        items = (await client.get("/exchanges?limit=1000")).json()["items"]
    sums = counted(tmp_path)
    reported = simulator.reported
    assert {key: getattr(reported, key) for key in TOKENS} == {key: sums[key] for key in TOKENS}
    for report in reports:
        assert {key: report["totals"][key] for key in sums} == sums, report["by"]
        for key in ("exchanges", "failed", "cancelled", "unpriced_exchanges", *TOKENS):
            assert sum(group[key] for group in report["groups"]) == report["totals"][key], (report["by"], key)
            assert all(sum(part[key] for part in group["breakdown"]) == group[key] for group in report["groups"])
    in_sessions = {key: sum(item[key] for item in sessions) for key in TOKENS}
    without = {key: sum(item["usage"][key] or 0 for item in items if item["session"] is None) for key in TOKENS}
    assert {key: in_sessions[key] + without[key] for key in TOKENS} == {key: sums[key] for key in TOKENS}
    assert {key: reports[0]["totals"][key] for key in ("exchanges", "failed", "cancelled", "count_tokens_calls")} == {
        "exchanges": 21, "failed": 2, "cancelled": 1, "count_tokens_calls": 1,
    }  # fmt: skip


FILTERS: list[dict[str, str]] = [
    {"session": "session-1"},
    {"session": ""},
    {"model": "glm-5.3-flash"},
    {"agent": "agent-0"},
    {"agent": "", "session": "session-2"},
    {"model": "nobody-knows-it", "session": "session-2"},
    {"model": "never-asked"},
]


async def test_filters_scope_the_numbers(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        items = (await client.get("/exchanges?limit=1000")).json()["items"]
        for by, filters in itertools.product(("day", "model", "session", "window"), FILTERS):
            report = (await client.get("/usage", params={"by": by, **filters})).json()
            wanted = [item for item in items if all((item[key] or "") == text for key, text in filters.items())]
            for key in TOKENS:
                expected = sum(item["usage"][key] or 0 for item in wanted)
                assert report["totals"][key] == expected, (by, filters)
                assert sum(group[key] for group in report["groups"]) == expected, (by, filters)
            assert report["totals"]["exchanges"] == sum(item["kind"] == "messages" for item in wanted), (by, filters)


async def test_pages_follow_one_another_to_the_end(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        for path, key in (("/exchanges", "id"), ("/sessions", "session")):
            whole = [item[key] for item in (await client.get(path, params={"limit": 1000})).json()["items"]]
            seen: list[str] = []
            cursor = None
            while True:
                page = (await client.get(path, params={"limit": 2} | ({"before": cursor} if cursor else {}))).json()
                seen += [item[key] for item in page["items"]]
                cursor = page["next"]
                if cursor is None:
                    break
            assert seen == whole
            assert len(set(seen)) == len(seen) > 2


async def test_an_export_is_all_of_it_in_either_form(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.web.api.books.CHUNK", 4)
    async with api(proxy) as client:
        items = (await client.get("/exchanges?limit=1000")).json()["items"]
        in_json = await client.get("/exchanges/export?format=json")
        in_csv = await client.get("/exchanges/export?format=csv")
        chosen = await client.get("/exchanges/export?format=json&session=session-1&since=24h")
        nothing = await client.get("/exchanges/export?format=json&until=2020-01-01")
    assert in_json.json() == items
    assert nothing.json() == []
    assert chosen.json() == [item for item in items if item["session"] == "session-1"]
    rows = list(csv.DictReader(io.StringIO(in_csv.text)))
    assert [row["id"] for row in rows] == [item["id"] for item in items]
    for key in TOKENS:
        assert [row[key] for row in rows] == ["" if item["usage"][key] is None else str(item["usage"][key]) for item in items]
    assert in_csv.headers["content-disposition"] == 'attachment; filename="exchanges.csv"'


async def test_a_name_that_is_a_formula_is_none_in_a_spreadsheet(simulator: Simulator, tmp_path: Path) -> None:
    evil = ("=1+1", "+1", "-2", "@x", '=HYPERLINK("http://evil.example")', " =1")
    async with booked(simulator, tmp_path) as proxy, api(proxy) as client:
        for text in evil:
            await ask(proxy.port, "POST", MESSAGES, [JSON, (b"x-claude-code-session-id", text.encode())], body(model=text))
        await _until_written(client, len(evil))
        exported = list(csv.reader(io.StringIO((await client.get("/exchanges/export")).text)))
        sums = list(csv.reader(io.StringIO((await client.get("/usage?by=session&format=csv")).text)))
    cells = [cell for row in [*exported, *sums] for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert "'=1+1" in cells


async def _until(client: httpx.AsyncClient, path: str, condition: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            answer = await client.get(path)
            if answer.status_code == 200 and condition(answer.json()):
                return
            await asyncio.sleep(0.02)


async def _until_written(client: httpx.AsyncClient, count: int) -> None:
    await _until(client, "/usage", lambda report: report["totals"]["exchanges"] >= count)


BAD = {
    "/exchanges?limit=0": "limit=0: expected a whole number from 1 to 1000.",
    "/exchanges?limit=many": "limit=many: expected a whole number",
    "/exchanges?limit=1001": "limit=1001: expected a whole number",
    "/exchanges?before=nonsense": "'nonsense' is not an exchange id",
    "/exchanges?status=ok": "status='ok': expected a number such as 429",
    "/exchanges?sesion=x": "sesion=x: there is no such parameter here.",
    "/exchanges?since=soon": "'soon' is not a time known here: expected one such as 7d",
    "/exchanges/cp_1": "'cp_1' is not an exchange id",
    "/sessions?before=1": "before='1': expected the `next` of the page before.",
    "/usage?by=minute": "by=minute: expected one of hour, day, week",
    "/usage?timezone=Mars/Base": "'Mars/Base' is not a time zone known here",
    "/usage?timezone=../../etc/passwd": "is not a time zone known here",
    "/usage?until=9999-99-99": "is not a time known here",
    "/usage?since=0001-01-01": "is not a time known here",
    "/usage?since=2026-11-02&until=2026-11-01": "until is not after since",
    "/exchanges?since=2026-11-02&until=2026-11-01": "until is not after since",
    "/exchanges/export?since=2026-11-02&until=2026-11-01": "until is not after since",
    "/usage?by=hour&since=1970-01-02": "More than 10000 of hour",
    "/usage?breakdown=maybe": "breakdown=maybe: expected true or false.",
    "/usage?format=xml": "format=xml: expected one of json, csv.",
    "/usage?model=" + "x" * 300: "expected 200 characters at most",
    "/exchanges/export?format=xlsx": "format=xlsx: expected one of csv, json.",
}


async def test_a_bad_parameter_gets_a_sentence_in_the_envelope(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        for path, sentence in BAD.items():
            answer = await client.get(path)
            assert answer.status_code == 400, (path, answer.text)
            error = answer.json()
            assert error["type"] == "error"
            assert error["error"]["type"] == "invalid_request_error"
            assert sentence in error["error"]["message"], path
            assert answer.headers["x-claude-proxy-error"] == "bad_parameter"


async def test_what_is_not_there_is_404_with_a_sentence(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        for path in ("/exchanges/cp_6h28x52yemr00", "/sessions/never"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
            assert "is in the ledger" in answer.json()["error"]["message"]
        assert (await client.get("/nothing-here")).status_code == 404
        wrong = await client.post("/usage")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


async def test_an_id_is_understood_as_people_type_it(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        known = (await client.get("/exchanges?limit=1")).json()["items"][0]["id"]
        typed = known.removeprefix("cp_").upper().replace("0", "O")
        assert (await client.get(f"/exchanges/{typed}")).json()["id"] == known


async def test_an_exchange_tells_its_failure_and_attempts(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        failed = (await client.get("/exchanges?status=failed")).json()["items"]
        whole = [(await client.get(f"/exchanges/{item['id']}")).json() for item in failed]
    assert {item["outcome"] for item in whole} == {"cut", "completed"}
    assert all(item["failure"]["side"] == "upstream" for item in whole)


async def test_times_are_those_of_the_zone_that_was_asked_for(proxy: RunningProxy) -> None:
    async with api(proxy) as client:
        for zone in ("Asia/Kathmandu", "Asia/Seoul", "America/New_York", "UTC"):
            report = (await client.get("/usage", params={"timezone": zone, "since": "2d"})).json()
            assert report["timezone"] == zone
            assert report["from"][10:19] == "T00:00:00"
            assert report["totals"]["exchanges"] == 21


# -- who may ask


async def test_other_machines_need_the_token(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path, admin_token="the-token") as proxy:
        for path in (*SHAPES, "/events", "/exchanges/export", "/exchanges/cp_1", "/sessions/x"):
            async with api(proxy, **{"x-forwarded-for": "192.0.2.7"}) as client:
                refused = await client.get(path)
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error"), path
        async with api(proxy, **{"x-forwarded-for": "192.0.2.7", "authorization": "Bearer the-token"}) as client:
            assert (await client.get("/live")).status_code == 200


async def test_no_secret_is_in_any_answer(simulator: Simulator, tmp_path: Path) -> None:
    secrets = {"upstream_api_key": "sk-secret-1", "proxy_api_key": "sk-secret-2", "admin_token": "sk-secret-3"}
    secrets |= {"ntfy_topic": "t", "ntfy_token": "sk-secret-4"}
    async with booked(simulator, tmp_path, **secrets) as proxy, api(proxy, authorization="Bearer sk-secret-3") as client:
        await ask(proxy.port, "POST", MESSAGES, [JSON, (b"x-api-key", b"sk-secret-2")], body())
        await _until_written(client, 1)
        for path in SHAPES:
            assert "sk-secret" not in (await client.get(path)).text, path
        settings = {item["name"]: item for item in (await client.get("/settings")).json()["items"]}
    assert settings["UPSTREAM_API_KEY"] | {"description": ""} == {
        "name": "UPSTREAM_API_KEY", "value": "set", "source": None, "secret": True, "description": "",
    }  # fmt: skip
    assert settings["DATABASE_URL"]["value"] is None


# -- books that cannot answer


async def test_without_books_the_answer_says_so(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path, ledger="off") as proxy, api(proxy) as client:
        for path in ("/exchanges", "/sessions", "/usage", "/quota", "/exchanges/cp_6h28x52yemr00", "/exchanges/export"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert answer.json()["error"]["message"] == "No books are kept here: LEDGER is off."
            assert answer.headers["x-should-retry"] == "false"
        assert (await client.get("/live")).status_code == 200


async def test_books_in_memory_are_read_too(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with booked(simulator, tmp_path / "file") as proxy, api(proxy) as client:
        await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        await _until_written(client, 1)


async def test_a_question_that_takes_too_long_is_told_so(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api(proxy) as client:
        await client.get("/usage")
        books = proxy.app.state.reader._books
        monkeypatch.setattr(books, "_timeout", -1.0)
        monkeypatch.setattr("claude_proxy.ledger.queries._INSTRUCTIONS", 1)
        answer = await client.get("/usage")
    assert (answer.status_code, answer.headers["x-claude-proxy-error"]) == (503, "too_slow")
    assert "Ask for a shorter time, or filter." in answer.json()["error"]["message"]


# -- what runs now


async def test_a_running_exchange_is_seen_with_its_usage_so_far(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 4))
    async with booked(simulator, tmp_path) as proxy, api(proxy) as client, connect(proxy.port) as wire:
        wire.send(post(headers=[(b"x-claude-code-session-id", b"watched")]))
        async with asyncio.timeout(10):
            await simulator.hold.wait()
        await _until(client, "/live", lambda found: bool(found["items"]) and found["items"][0]["bytes_out"] > 0)
        upstream = (await client.get("/upstreams")).json()["items"][0]
        (item,) = (await client.get("/live")).json()["items"]
        assert (item["state"], item["session"], item["model"], item["outcome"]) == ("answering", "watched", "glm-5.3", None)
        assert item["usage"]["input_tokens"] is not None
        assert item["duration_ms"] >= 0
        assert (upstream["running"], upstream["state"], upstream["credential"]) == (1, "up", "client")
        wire.leave()
        await proxy.recorder.wait_for(1)
        assert (await client.get("/live")).json() == {"items": [], "silent_workers": 0}


async def events_of(lines: AsyncIterator[str], count: int) -> list[tuple[str, Any]]:
    """So many events, as name and data."""
    found: list[tuple[str, Any]] = []
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
            if len(found) == count:
                break
    return found


async def test_events_tell_what_starts_and_ends(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path) as proxy, api(proxy) as client, client.stream("GET", "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith(":")
        await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        async with asyncio.timeout(10):
            found = await events_of(lines, 2)
    assert [name for name, _ in found] == ["started", "ended"]
    for _, data in found:
        models.LiveExchange.model_validate_json(json.dumps(data), strict=True)
    assert found[0][1]["id"] == found[1][1]["id"]
    assert (found[1][1]["outcome"], found[1][1]["state"]) == ("completed", "ended")


async def test_events_end_when_the_process_is_told_to_stop(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path) as proxy, api(proxy) as client, client.stream("GET", "/events") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        proxy.app.state.live.end()
        async with asyncio.timeout(10):
            assert [line async for line in lines if line] == []
        assert proxy.app.state.live.watchers == 0


async def test_readers_of_events_do_not_hold_up_a_stop(simulator: Simulator, tmp_path: Path) -> None:
    """A real `serve`, which would give running streams ten minutes."""
    async with httpx.AsyncClient(timeout=30) as client:
        async with served(simulator.base_url, tmp_path, GRACEFUL_TIMEOUT="600") as process:
            request = client.build_request("GET", f"http://127.0.0.1:{process.port}/api/v1/events")
            answer = await client.send(request, stream=True)
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith(":")
        assert [line async for line in lines if line] == []


async def test_incidents_are_those_that_notices_are_about(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = Scenario(fault=faults.status(429))
    nowhere = "http://127.0.0.1:9"
    async with booked(simulator, tmp_path, ntfy_topic="t", ntfy_server=nowhere) as proxy, api(proxy) as client:
        await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        await proxy.recorder.wait_for(1)
        answer = await client.get("/incidents")
    models.Incidents.model_validate_json(answer.content, strict=True)
    (incident,) = answer.json()["items"]
    assert (incident["failing"], incident["failures"], incident["upstream"]) == (True, 1, "default")


# -- the command line reads the same


async def program(*words: str) -> str:
    """What a command prints."""
    environ = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "DATABASE_URL", "TIMEZONE", "TZ")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "claude_proxy", *words),
        env=environ | {"PYTHONPATH": str(ROOT / "src")}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_stats_api_and_sql_say_the_same_while_the_proxy_runs(
    proxy: RunningProxy, simulator: Simulator, tmp_path: Path
) -> None:
    sums = counted(tmp_path)
    async with api(proxy) as client:
        for words in (["--by", "day"], ["--by", "model"], ["--by", "session", "--model", "glm-5.3"], ["--by", "window"]):
            report = json.loads(await program("stats", "--json", "--data-dir", str(tmp_path), *words))
            query = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
            answer = (await client.get("/usage", params=query)).json()
            assert report["totals"] == answer["totals"]
            assert report["groups"] == answer["groups"]
            if "--model" not in words:
                assert {key: report["totals"][key] for key in sums} == sums
        listed = json.loads(await program("sessions", "--json", "--data-dir", str(tmp_path)))
        assert listed == (await client.get("/sessions")).json()
        first = (await client.get("/exchanges?status=failed")).json()["items"][0]["id"]
        shown = json.loads(await program("show", first, "--json", "--data-dir", str(tmp_path)))
        assert shown == (await client.get(f"/exchanges/{first}")).json()
    assert {key: getattr(simulator.reported, key) for key in TOKENS} == {key: sums[key] for key in TOKENS}
