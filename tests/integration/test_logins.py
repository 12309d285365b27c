"""Who may look, with the whole application on a real server, and with several workers as processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route

from claude_proxy.access.logins import CODE_SECONDS, Kept
from claude_proxy.app import App
from claude_proxy.simulator import Simulator
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import ask
from tests.web.serving import BROWSER

TOKEN = "the-admin-token"
STRANGER = {"x-forwarded-for": "192.0.2.7"}  # from a front on this machine, so from elsewhere
OPEN = {"/", "/login", "/logout", "/health", "/ready", "/docs", "/redoc", "/openapi.json", "/static", "/api/v1/statusline"}
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    async with running_proxy(simulator.base_url, data_dir=tmp_path) as running:
        yield running


@asynccontextmanager
async def stranger(proxy: RunningProxy, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client from elsewhere, which keeps cookies."""
    async with httpx.AsyncClient(base_url=proxy.origin, headers=STRANGER | headers) as client:
        yield client


def code_of(app: App) -> str:
    code = app.state.viewers.logins.make_code()
    assert isinstance(code, str)
    return code


async def log_in(client: httpx.AsyncClient, secret: str) -> None:
    answer = await client.post("/login", data={"secret": secret})
    assert answer.status_code == 204, answer.text


# -- what is open


def paths(routes: list[BaseRoute]) -> set[tuple[str, str]]:
    """Method and path of every route; a parameter becomes a word."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        if isinstance(route, Mount):
            found.add(("GET", f"{route.path}/x"))
        elif isinstance(route, Route | APIRoute):
            path = "/".join("x" if part.startswith("{") else part for part in route.path.split("/"))
            found |= {(method, path) for method in route.methods or ()}
        else:
            inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
            assert inner, route
            found |= paths(list(inner))
    return found


@pytest.mark.parametrize("accept", ["*/*", BROWSER, "text/event-stream"], ids=["program", "browser", "events"])
@pytest.mark.parametrize("settings", [{}, {"admin_token": TOKEN}], ids=["no token", "token"])
async def test_every_route_but_the_open_ones_refuses_strangers(
    simulator: Simulator, tmp_path: Path, accept: str, settings: dict[str, Any]
) -> None:
    """New routes are found by themselves: one without a check fails here."""
    async with (
        running_proxy(simulator.base_url, data_dir=tmp_path, **settings) as proxy,
        stranger(proxy, accept=accept) as client,
    ):
        everything = paths(proxy.app.router.routes)
        assert len(everything) > 20
        for method, path in sorted(everything):
            if path in OPEN or path.startswith("/static/"):
                continue
            answer = await client.request(method, path)
            assert answer.status_code == 401, (method, path, answer.status_code)
            assert "location" not in answer.headers


async def test_what_is_open_is_open(proxy: RunningProxy) -> None:
    async with stranger(proxy) as client:
        for path in ("/", "/login", "/health", "/ready", "/docs", "/redoc", "/openapi.json", "/static/icon.svg"):
            assert (await client.get(path)).status_code == 200, path


@pytest.mark.parametrize(
    "path",
    [
        "/api/anthropic/../api/v1/settings",
        "/api/anthropic/..%2f..%2fapi/v1/settings",
        "/api/anthropic/%2e%2e/%2e%2e/api/v1/settings",
        "/api/anthropic%2f../v1/settings",
        "/static/../api/v1/settings",
        "/static/%2e%2e/api/v1/settings",
        "/login/../api/v1/settings",
        "/health/../api/v1/settings",
        "//api/v1/settings",
        "/api//v1/settings",
        "/api/v1/settings/",
        "/API/V1/settings",
        "/api%2fv1%2fsettings",
        "/%61pi/v1/settings",
        "/api/v1/settings;/health",
        "/api/v1/settings%00",
        "/api/v1/settings?/health",
        "/login/api/v1/settings",
    ],
)
@pytest.mark.parametrize("root_path", ["", "/claude"])
async def test_no_spelling_of_a_path_gets_past_the_check(simulator: Simulator, tmp_path: Path, path: str, root_path: str) -> None:
    """By bytes on the wire, since clients clean paths up."""
    async with running_proxy(simulator.base_url, data_dir=tmp_path, root_path=root_path) as proxy:
        raw = await ask(proxy.port, "GET", path, [(b"x-forwarded-for", b"192.0.2.7")])
        assert b'"items"' not in raw.body
        assert raw.status != 200, raw.body


async def test_the_proxied_path_needs_no_login_as_before(proxy: RunningProxy) -> None:
    answer = await ask(proxy.port, "POST", MESSAGES, [JSON, (b"x-forwarded-for", b"192.0.2.7")], body())
    assert answer.status == 200


# -- logging in


async def test_a_login_opens_the_api_and_metrics_until_it_is_revoked(proxy: RunningProxy) -> None:
    async with stranger(proxy) as client, stranger(proxy) as other:
        await log_in(client, code_of(proxy.app))
        await log_in(other, code_of(proxy.app))
        for path in ("/metrics", "/api/v1/live", "/api/v1/settings"):
            assert (await client.get(path)).status_code == 200
        items = (await client.get("/api/v1/logins")).json()["items"]
        assert [item["peer"] for item in items] == ["127.0.0.1", "127.0.0.1"]
        [foreign] = [item["id"] for item in items if not item["current"]]
        revoked = await client.delete(f"/api/v1/logins/{foreign}")
        assert (revoked.status_code, revoked.content) == (204, b"")
        assert (await other.get("/api/v1/live")).status_code == 401
        assert (await client.get("/api/v1/live")).status_code == 200
        again = await client.delete(f"/api/v1/logins/{foreign}")
        assert (again.status_code, again.json()["error"]["type"]) == (404, "not_found_error")


async def test_a_code_that_is_late_logs_nobody_in(simulator: Simulator, tmp_path: Path) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path) as proxy, stranger(proxy) as client:
        code = code_of(proxy.app)
        [path] = (tmp_path / "logins").glob("code-*")
        path.write_text(str(int(path.read_text()) - CODE_SECONDS))
        assert (await client.post("/login", data={"secret": code})).status_code == 401


async def test_of_two_that_use_a_code_at_once_one_gets_in(proxy: RunningProxy) -> None:
    async with stranger(proxy) as client:
        code = code_of(proxy.app)
        answers = await asyncio.gather(*(client.post("/login", data={"secret": code}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [401] * 7


async def test_the_token_of_a_bearer_is_throttled_and_a_login_is_not(simulator: Simulator, tmp_path: Path) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path, admin_token=TOKEN) as proxy, stranger(proxy) as client:
        await log_in(client, TOKEN)
        async with stranger(proxy) as guesser:
            guesses = [await guesser.get("/metrics", headers={"authorization": f"Bearer {n}"}) for n in range(12)]
        assert [answer.status_code for answer in guesses] == [401] * 10 + [429] * 2
        assert int(guesses[-1].headers["retry-after"]) in (29, 30)
        assert guesses[-1].json()["error"]["type"] == "rate_limit_error"
        assert (await client.get("/metrics")).status_code == 200


async def test_with_a_token_this_machine_logs_in_too(simulator: Simulator, tmp_path: Path) -> None:
    async with (
        running_proxy(simulator.base_url, data_dir=tmp_path, admin_token=TOKEN) as proxy,
        httpx.AsyncClient(base_url=proxy.origin) as client,
    ):
        assert (await client.get("/", headers={"accept": BROWSER})).status_code == 401
        assert (await client.get("/api/v1/live")).status_code == 401
        await log_in(client, TOKEN)
        assert (await client.get("/", headers={"accept": BROWSER})).status_code == 200


async def test_a_login_survives_a_restart(simulator: Simulator, tmp_path: Path) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path) as proxy, stranger(proxy) as client:
        await log_in(client, code_of(proxy.app))
        [cookie] = client.cookies.jar
    async with running_proxy(simulator.base_url, data_dir=tmp_path) as proxy:
        kept = f"claude_proxy_{proxy.port}={cookie.value}"  # on the other port that this test gets
        async with stranger(proxy, cookie=kept) as client:
            assert (await client.get("/api/v1/live")).status_code == 200


@pytest.mark.parametrize(("headers", "secure"), [({"x-forwarded-proto": "https"}, True), ({}, False)])
async def test_the_cookie_is_secure_behind_a_front_that_ends_tls(
    simulator: Simulator, tmp_path: Path, headers: dict[str, str], secure: bool
) -> None:
    async with (
        running_proxy(simulator.base_url, data_dir=tmp_path, trusted="127.0.0.1") as proxy,
        stranger(proxy, **headers) as client,
    ):
        answer = await client.post("/login", data={"secret": code_of(proxy.app)})
        assert ("Secure" in answer.headers["set-cookie"]) is secure
        [login] = proxy.app.state.viewers.logins.all()
        assert login.peer == "192.0.2.7"


# -- other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:1", "sec-fetch-site": "same-site"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"host": "rebound.example"},
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/login"),
        ("POST", "/logout"),
        ("POST", "/settings/logins"),
        ("DELETE", "/api/v1/logins/{id}"),
        ("DELETE", "/api/v1/logins"),
    ],
)
@pytest.mark.parametrize("allowed", ["", "*"])
async def test_another_site_changes_nothing(
    simulator: Simulator, tmp_path: Path, headers: dict[str, str], method: str, path: str, allowed: str
) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path, allowed_origins=allowed) as proxy, stranger(proxy) as client:
        await log_in(client, code_of(proxy.app))
        [login] = proxy.app.state.viewers.logins.all()
        code = code_of(proxy.app)
        data = {"/login": {"secret": code}, "/settings/logins": {"others": "1"}}.get(path)
        answer = await client.request(method, path.format(id=login.id), headers=headers, data=data)
        assert answer.status_code == 403
        assert proxy.app.state.viewers.logins.all() == [login]
        assert proxy.app.state.viewers.logins.take_code(code)


async def test_a_rebound_name_does_not_see_what_this_machine_sees(proxy: RunningProxy) -> None:
    async with httpx.AsyncClient(base_url=proxy.origin) as client:
        assert (await client.get("/api/v1/live")).status_code == 200
        assert (await client.get("/api/v1/live", headers={"host": f"rebound.example:{proxy.port}"})).status_code == 403


async def test_the_host_of_the_public_url_is_allowed(simulator: Simulator, tmp_path: Path) -> None:
    settings = {"data_dir": tmp_path, "public_url": "https://proxy.example/claude", "log_level": "error"}
    async with running_proxy(simulator.base_url, **settings) as proxy, httpx.AsyncClient() as client:
        assert (await client.get(f"{proxy.origin}/", headers={"host": "proxy.example"})).status_code == 200
        assert (await client.get(f"{proxy.origin}/", headers={"host": "another.example"})).status_code == 403


# -- what leaves


async def test_the_cookie_never_goes_upstream(proxy: RunningProxy, simulator: Simulator) -> None:
    cookie = b"claude_proxy_%d=0123456789abcdef.the-secret" % proxy.port
    await ask(proxy.port, "POST", MESSAGES, [JSON, (b"cookie", cookie)], body())
    [received] = simulator.requests
    assert b"the-secret" not in b"".join(value for _, value in received.headers)


# -- processes


@asynccontextmanager
async def process(folder: Path, **environ: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[dict[str, Any]]]]:
    """`claude-proxy serve` and its log up to the line that says where it listens; it ends with the block."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "claude_proxy", "serve", "--port", "0",
        cwd=folder,
        env={
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(SOURCE),
            "LOG_FORMAT": "json", "LEDGER": "off", "DATA_DIR": str(folder / "data"), **environ,
        },
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stderr is not None
    log: list[dict[str, Any]] = []
    count = int(environ.get("WEB_CONCURRENCY", "1"))
    try:
        async with asyncio.timeout(60):
            while sum(line["event"] in ("ready", "listening") for line in log) < count + 1:
                log.append(json.loads(await child.stderr.readline()))
        yield child, log
    finally:
        if child.returncode is None:
            child.terminate()
        async with asyncio.timeout(60):
            out, err = await child.communicate()
        log += [json.loads(line) for line in err.splitlines()]
    assert child.returncode == 0, (out, log)


def port_of(log: list[dict[str, Any]]) -> int:
    [listening] = [line for line in log if line["event"] == "listening"]
    return int(listening["on"][0].rpartition(":")[2])


def codes_in(log: list[dict[str, Any]]) -> list[str]:
    """The codes of the links in a log."""
    return [line["link"].partition("/login#code=")[2] for line in log if line["event"] == "login"]


async def requests(port: int, cookie: str, count: int) -> list[int]:
    """Statuses of requests on a new connection each, so that all workers get some."""
    found = []
    for _ in range(count):
        async with httpx.AsyncClient(headers=STRANGER | {"cookie": cookie}) as client:
            found.append((await client.get(f"http://127.0.0.1:{port}/api/v1/live")).status_code)
    return found


async def test_two_workers_log_one_link_and_both_know_the_login(tmp_path: Path) -> None:
    async with process(tmp_path, WEB_CONCURRENCY="2", HOST="0.0.0.0") as (_, log):
        port, [code] = port_of(log), codes_in(log)
        async with httpx.AsyncClient(headers=STRANGER) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/login", data={"secret": code})
            assert answer.status_code == 204
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert await requests(port, cookie, 12) == [200] * 12
        async with httpx.AsyncClient(headers=STRANGER | {"cookie": cookie}) as client:
            await client.post(f"http://127.0.0.1:{port}/logout")
        assert await requests(port, cookie, 12) == [401] * 12
    everything = json.dumps([line for line in log if line["event"] != "login"])
    assert code not in everything
    assert cookie.partition(".")[2] not in json.dumps(log)


@pytest.mark.parametrize(("host", "links"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
async def test_a_link_is_logged_if_somebody_from_elsewhere_can_come(tmp_path: Path, host: str, links: int) -> None:
    async with process(tmp_path, HOST=host) as (_, log):
        assert len(codes_in(log)) == links


async def test_two_workers_without_a_folder_say_that_only_the_token_works(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    async with process(tmp_path, WEB_CONCURRENCY="2", HOST="0.0.0.0", ADMIN_TOKEN=TOKEN) as (_, log):
        port = port_of(log)
        notes = [line["note"] for line in log if line["event"] == "logins_not_kept"]
        assert notes
        assert all("ADMIN_TOKEN alone" in note for note in notes)
        assert codes_in(log) == []
        async with httpx.AsyncClient(headers=STRANGER) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/login", data={"secret": TOKEN})
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert await requests(port, cookie, 12) == [200] * 12
    assert TOKEN not in json.dumps(log)


async def test_one_worker_without_a_folder_keeps_logins_in_memory_and_says_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    async with process(tmp_path, HOST="0.0.0.0") as (_, log):
        [note] = [line["note"] for line in log if line["event"] == "logins_not_kept"]
        assert "end with this process" in note
        [code] = codes_in(log)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_of(log)}", headers=STRANGER) as client:
            await log_in(client, code)
            assert (await client.get("/api/v1/live")).status_code == 200


async def test_the_command_makes_a_link_that_the_running_proxy_accepts(tmp_path: Path) -> None:
    async with process(tmp_path) as (_, log):
        command = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "claude_proxy", "login", "--data-dir", str(tmp_path / "data"),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(SOURCE)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await command.communicate()
        assert command.returncode == 0, err
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_of(log)}", headers=STRANGER) as client:
            await log_in(client, out.decode())


async def test_where_they_are_kept_is_found_at_the_start(proxy: RunningProxy) -> None:
    assert proxy.app.state.viewers.logins.kept is Kept.FILES
