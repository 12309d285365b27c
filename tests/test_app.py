"""The wiring: what goes to the path, what to the pages, and what of it the settings change."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from fastapi import FastAPI

from claude_proxy.app import (
    App,
    create_app,
    facts,
    lifespan,
    readiness,
    unrepeat_root_path,
)
from claude_proxy.errors import SettingsError
from claude_proxy.exchange import Exchange, Listener, Outcome
from claude_proxy.parts import make_notifier, make_quota_poll, make_upstream, watched_quotas
from claude_proxy.settings import Settings
from claude_proxy.simulator import Simulator

ZAI = "https://api.z.ai/api/anthropic"
ROOT = Path(__file__).resolve().parent.parent


class Answer:
    """What an application sent."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.status: int = messages[0]["status"]
        self.headers: list[tuple[bytes, bytes]] = list(messages[0]["headers"])
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    def __getitem__(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)


async def call(app: App, path: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b"", **more: Any) -> Answer:
    """One HTTP request by plain ASGI."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    if body:
        fields.append((b"content-length", b"%d" % len(body)))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": fields,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 3000),
    } | more
    messages: list[dict[str, Any]] = []
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return incoming.pop(0) if incoming else await _never()

    async def send(message: Any) -> None:
        messages.append(dict(message))

    await app(scope, receive, send)
    return Answer(messages)


async def _never() -> dict[str, Any]:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def made(**settings: Any) -> App:
    return create_app(Settings(**settings))


# -- made


def test_it_is_a_fastapi_application_as_fastapi_run_needs() -> None:
    app = made()
    assert isinstance(app, FastAPI)
    assert app.router.redirect_slashes is False


def test_the_environment_is_read_when_no_settings_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BASE_URL", raising=False)
    assert create_app().state.settings.base_url == "https://api.z.ai/api/anthropic"
    assert create_app(default_base_url="http://from.proxy.py").state.settings.base_url == "http://from.proxy.py"
    monkeypatch.setenv("BASE_URL", "http://env")
    assert create_app(default_base_url="http://from.proxy.py").state.settings.base_url == "http://env"
    monkeypatch.setenv("PORT", "no")
    with pytest.raises(SettingsError, match="PORT=no"):
        create_app()


def test_the_file_of_settings_beside_a_named_proxy_py_is_read_and_none_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app, here = tmp_path / "app", tmp_path / "here"
    for folder in (app, here):
        folder.mkdir()
        (folder / "claude-proxy.toml").write_text(f'base_url = "http://{folder.name}"\nlog_format = "json"\n')
    monkeypatch.chdir(here)
    assert create_app(beside=app / "proxy.py").state.settings.base_url == "http://app"
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["note"].startswith(f"{here / 'claude-proxy.toml'} is not read")
    monkeypatch.chdir(app)
    structlog.reset_defaults()
    assert create_app(beside="proxy.py").state.settings.base_url == "http://app"
    assert capsys.readouterr().err == ""


async def test_the_upstream_of_the_file_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "claude-proxy.toml").write_text('[[upstream]]\nname = "work"\nbase_url = "http://work.example"\n')
    page = await call(create_app(beside=tmp_path / "proxy.py"), "/", ("host", "localhost"), ("accept", "application/json"))
    assert json.loads(page.body)["upstreams"] == [{"name": "work", "base_url": "http://work.example"}]


def test_importing_and_making_it_opens_no_socket_and_writes_no_file() -> None:
    program = """
import sys
seen = []
def hook(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":
        seen.append(event)
    elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"{event} {args[0]}")
sys.addaudithook(hook)
import proxy
assert type(proxy.app).__name__ == "App"
print(seen)
"""
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environ |= {"PYTHONPATH": str(ROOT), "NTFY_TOPIC": "topic"}
    done = subprocess.run([sys.executable, "-Bc", program], capture_output=True, text=True, timeout=60, env=environ, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("settings", "credential"),
    [
        ({}, None),
        ({"upstream_api_key": "k"}, (b"authorization", b"Bearer k")),
        ({"upstream_api_key": "k", "upstream_auth": "x-api-key"}, (b"x-api-key", b"k")),
        ({"upstream_api_key": "k", "base_url": "https://api.anthropic.com"}, (b"x-api-key", b"k")),
    ],
)
def test_the_held_credential_goes_into_its_header(settings: dict[str, Any], credential: tuple[bytes, bytes] | None) -> None:
    upstream = make_upstream(Settings(**settings))
    assert (upstream.name, upstream.credential) == ("default", credential)
    assert [account.withheld for account in upstream.accounts] == (
        [] if credential is None else [{b"authorization", b"x-api-key"}]
    )


def test_notices_are_made_only_with_a_topic() -> None:
    assert make_notifier(Settings()) is None
    assert isinstance(make_notifier(Settings(ntfy_topic="t")), Listener)


def test_the_room_of_notices_is_not_imported_without_a_topic() -> None:
    program = "import sys, claude_proxy.app as a; a.create_app(a.Settings()); print('claude_proxy.notify' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert done.stdout == "False\n"


class Books:
    """Where samples would go."""

    class writer:  # noqa: N801
        put_sample = print


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, True),
        ({"base_url": "https://open.bigmodel.cn/api/anthropic"}, True),
        ({"base_url": "https://api.anthropic.com"}, False),
        ({"base_url": "https://gateway.example/api/anthropic"}, False),
        ({"quota_poll": False}, False),
    ],
)
def test_only_a_provider_that_tells_its_quota_is_asked(values: dict[str, Any], asked: bool) -> None:
    settings = Settings(**values)
    upstream = make_upstream(settings)
    assert (make_quota_poll(settings, (upstream,), Books()) is not None) is asked  # type: ignore[arg-type]
    assert make_quota_poll(settings, (upstream,), None) is None


def test_every_account_that_holds_a_key_is_watched() -> None:
    passing, holding, other = (
        make_upstream(Settings(base_url=url), name)
        for name, url in (("passing", ZAI), ("holding", ZAI), ("other", "https://api.anthropic.com"))
    )
    for account in ("work", "home"):
        holding.hold(account, (b"authorization", f"Bearer {account}".encode()))
    other.hold("default", (b"x-api-key", b"key"))
    watched = {one.key: one.secret for one in watched_quotas((passing, holding, other))}
    assert watched == {("passing", None): None, ("holding", "work"): b"work", ("holding", "home"): b"home"}


def test_the_proxys_own_key_is_known_and_never_asked_with() -> None:
    settings = Settings(proxy_api_key="sk-own")  # type: ignore[arg-type]
    poll = make_quota_poll(settings, (make_upstream(settings),), Books())  # type: ignore[arg-type]
    assert poll is not None
    assert poll._is_own_key(b"sk-own")
    assert not poll._is_own_key(b"sk-client")


def test_the_facts_say_what_the_settings_mean_and_no_secret() -> None:
    bare = facts(made().forward.config)
    full = facts(made(upstream_api_key="hush", proxy_api_key="hush", ntfy_topic="hush").forward.config)
    assert (bare.holds_credential, bare.needs_key, bare.notices) == (False, False, False)
    assert (full.holds_credential, full.needs_key, full.notices) == (True, True, True)
    assert "hush" not in repr(full)


# -- what goes where


async def test_below_the_prefix_is_the_upstreams(simulator: Simulator) -> None:
    app = made(base_url=simulator.base_url)
    answer = await call(app, "/api/anthropic/v1/models", ("x-api-key", "k"), ("anthropic-version", "2023-06-01"))
    assert answer.status == 200
    assert answer[b"x-claude-proxy-error"] is None
    assert "data" in json.loads(answer.body)
    app.forward.close()


@pytest.mark.parametrize("root", ["", "/gw"])
async def test_beside_the_prefix_is_ours_under_any_root_path(root: str) -> None:
    app = made()
    for repeated in (root, root * 2):
        answer = await call(app, f"{repeated}/health", root_path=root)
        assert answer.status == 200
    assert (await call(app, f"{root}/nowhere", root_path=root)).status == 404


@pytest.mark.parametrize("path", ["/health", "/gw/health", "/gw/api/anthropic", "/api/anthropic"])
async def test_root_path_counts_under_servers_that_cannot_be_told(path: str) -> None:
    app = made(root_path="/gw")
    assert (await call(app, path)).status == 200
    spec = json.loads((await call(app, "/openapi.json")).body)
    assert spec["servers"] == [{"url": "/gw"}]


async def test_claude_codes_probe_is_answered_here() -> None:
    answer = await call(made(), "/gw/gw/api/anthropic/api/hello", method="HEAD", root_path="/gw")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/gw/gw/x", "/gw/x"),
        ("/gw/gw/gw/x", "/gw/x"),
        ("/gw/x", "/gw/x"),
        ("/x", "/x"),
        ("/gw/gwx", "/gw/gwx"),
        ("/gw/gw", "/gw/gw"),
    ],
)
def test_a_repeated_root_path_is_taken_off_but_once_kept(path: str, expected: str) -> None:
    scope: dict[str, Any] = {"path": path, "root_path": "/gw/"}
    unrepeat_root_path(scope)
    assert scope["path"] == expected
    scope = {"path": path}
    unrepeat_root_path(scope)
    assert scope["path"] == path


@pytest.mark.parametrize("path", ["/api/anthropic/v1/messages", "/", "/docs"])
async def test_a_websocket_is_closed_wherever_it_knocks(path: str) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "headers": [(b"host", b"evil.example")],
        "root_path": "",
    }
    await made()(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


# -- hosts, origins, CORS


async def test_the_pages_are_for_this_machines_names_and_pages_only() -> None:
    app = made()
    for header in (("host", "evil.example"), ("origin", "https://evil.example")):
        answer = await call(app, "/health", header)
        assert answer.status == 403
        assert json.loads(answer.body)["error"]["type"] == "permission_error"
        assert answer[b"access-control-allow-origin"] is None
    allowed = made(allowed_hosts=["p.example"])
    assert (await call(allowed, "/health", ("host", "p.example"))).status == 200


async def test_a_preflight_of_a_named_origin_is_answered_on_the_path_and_beside_it() -> None:
    app = made(allowed_origins=["https://app.example"])
    for path in ("/api/anthropic/v1/messages", "/health"):
        answer = await call(app, path, ("origin", "https://app.example"), method="OPTIONS")
        assert (answer.status, answer.body) == (204, b"")
        assert answer[b"access-control-allow-origin"] == b"https://app.example"


async def test_a_named_origin_may_read_answers_and_the_upstreams_cors_fields_give_way() -> None:
    app = made(allowed_origins=["https://app.example"])

    async def upstreams(scope: Any, receive: Any, send: Any, _: bytes) -> None:
        headers = [(b"access-control-allow-origin", b"*"), (b"access-control-allow-credentials", b"true"), (b"x-a", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    app.forward = SimpleNamespace(serve=upstreams)  # type: ignore[assignment] # a hand-written path
    answer = await call(app, "/api/anthropic/v1/models", ("origin", "https://app.example"))
    assert [value for name, value in answer.headers if name == b"access-control-allow-origin"] == [b"https://app.example"]
    assert answer[b"access-control-allow-credentials"] is None
    assert answer[b"x-a"] == b"1"
    plain = await call(app, "/api/anthropic/v1/models", ("origin", "https://other.example"))
    assert plain[b"access-control-allow-credentials"] == b"true"


# -- life


class Ended(Listener):
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def on_exchange_end(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


async def test_extra_listeners_are_told() -> None:
    told = Ended()
    app = create_app(Settings(proxy_api_key="k"), listeners=[told])
    assert (await call(app, "/api/anthropic/v1/models")).status == 401
    await asyncio.sleep(0)  # they are told at the end of the event loop iteration
    assert [exchange.outcome for exchange in told.exchanges] == [Outcome.REFUSED]


async def test_draining_turns_readiness_and_the_path_away() -> None:
    app = made()
    assert readiness(app) == (True, "")
    app.state.draining = True
    assert readiness(app) == (False, "draining")
    answer = await call(app, "/api/anthropic/v1/models")
    assert (answer.status, answer[b"x-claude-proxy-error"]) == (503, b"draining")
    assert (await call(app, "/health")).status == 200


async def test_a_stop_signal_starts_the_draining_and_the_handlers_are_put_back() -> None:
    app = made()
    before = signal.getsignal(signal.SIGTERM)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        ours = signal.getsignal(signal.SIGTERM)
        async with lifespan(app):
            assert not app.state.draining
            signal.raise_signal(signal.SIGTERM)
            assert app.state.draining
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_the_lifespan_reaches_the_application_through_asgi() -> None:
    app = made(ntfy_topic="t", ntfy_server="http://127.0.0.1:9")
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class Failing(Listener):
    def on_exchange_end(self, exchange: Exchange) -> None:
        raise RuntimeError("listener")


async def test_a_failing_listener_is_logged_and_the_exchange_answered(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_proxy.app.log", structlog.get_logger("app"))  # not the one bound to an earlier test's stream
    app = create_app(Settings(proxy_api_key="k", log_format="json"), listeners=[Failing()])
    assert (await call(app, "/api/anthropic/v1/models")).status == 401
    await asyncio.sleep(0)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["exchange", "listener failed"]
    assert lines[1]["hook"] == "on_exchange_end"
    assert "RuntimeError: listener" in lines[1]["exception"]
