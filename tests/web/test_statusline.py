"""`POST /api/v1/statusline` on the whole application: what it says, who may ask, and that it is one line in any case."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.app import App
from claude_proxy.observe.sessions import Sessions
from claude_proxy.observe.sources import QuotaWindow
from claude_proxy.observe.status import StatusSource
from claude_proxy.protocol.status_line import Client
from claude_proxy.simulator import Scenario, error
from claude_proxy.simulator.scenario import Usage
from tests.observe.conversation import Conversation, conversation, eventually, first_turn
from tests.observe.running import finished
from tests.protocol.prompts import encode, request

SAID: dict[str, Any] = {
    "session_id": "session-1",
    "model": {"id": "glm-5.3", "display_name": "GLM-5.3"},
    "workspace": {"project_dir": "/home/me/shop"},
    "context_window": {"used_percentage": 42},
}
PLAIN = {"columns": "300", "color": "0"}


async def ask(session: Conversation, said: Any = SAID, *, headers: dict[str, str] | None = None, **params: str) -> httpx.Response:
    """The status command's question."""
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    async with httpx.AsyncClient(timeout=10) as client:
        url = f"{session.proxy.origin}/api/v1/statusline"
        return await client.post(url, content=content, headers=headers or {}, params={**PLAIN, **params})


async def line(session: Conversation, said: Any = SAID) -> str:
    answer = await ask(session, said)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text.count("\n") == 1
    return answer.text.rstrip("\n")


class Elsewhere:
    """The application as a peer on another machine reaches it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def ask(self, said: Any, headers: list[tuple[bytes, bytes]]) -> tuple[int, str]:
        """One question over ASGI, from 10.0.0.9."""
        sent: list[dict[str, Any]] = []
        parts = [{"type": "http.request", "body": json.dumps(said).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            return parts.pop(0) if parts else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/api/v1/statusline", "raw_path": b"/api/v1/statusline", "query_string": b"color=0", "root_path": "",
            "headers": [(b"host", b"10.0.0.1:3000"), *headers], "client": ("10.0.0.9", 5), "server": ("10.0.0.1", 3000),
        }  # fmt: skip
        await self.app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


@asynccontextmanager
async def kept(folder: Path, **settings: Any) -> AsyncIterator[Conversation]:
    """A proxy that keeps books, which can be read."""
    async with conversation(observing=False, ledger="on", data_dir=folder, **settings) as session:
        sums = session.proxy.app.state.status._sums
        async with asyncio.timeout(30):
            while await sums.of("nobody") is None:  # noqa: ASYNC110 - a thread makes the ledger and loads its modules
                await asyncio.sleep(0.005)
        yield session


async def test_before_the_first_prompt_it_says_what_the_client_says(tmp_path: Path) -> None:
    async with kept(tmp_path) as session:
        assert await line(session) == "GLM-5.3 · context 42%"


async def test_a_sessions_sums_are_there_at_once_and_stay(tmp_path: Path) -> None:
    async with kept(tmp_path) as session:
        await session.send(first_turn(), rest=1000, read=3000, write=0)
        first = await line(session)
        writer = session.proxy.app.state.ledger.writer
        await eventually(lambda: writer.written == 1)
        assert await line(session) == first == "GLM-5.3 · unpriced · 4.0k tokens · cache 75% · context 42%"
        session.headers["x-claude-code-agent-id"] = "an agent's are the session's too"
        await session.send(first_turn(), rest=0, read=4000, write=0)
        session.headers["x-claude-code-session-id"] = "session-2"
        await session.send(first_turn(), rest=9000)
        assert await line(session) == "GLM-5.3 · unpriced · 8.0k tokens · cache 87% · context 42%"
        assert "9.0k tokens" in await line(session, {**SAID, "session_id": "session-2"})


async def test_a_running_answer_counts_as_an_estimate(tmp_path: Path) -> None:
    async with kept(tmp_path) as session:
        usage = Usage(1000, 50, 0, 3000)
        session.simulator.scenario = Scenario("text", text="x " * 40, usage=usage, pace=0.4)
        sending = asyncio.create_task(session.raw(encode(first_turn())))
        await eventually(lambda: any(one.first_byte is not None for one in session.proxy.recorder.started))
        found = await line(session)
        assert "~4.0k tokens" in found
        sending.cancel()


async def test_what_is_wrong_with_the_upstream_is_told_until_it_is_well_again(tmp_path: Path) -> None:
    async with kept(tmp_path) as session:
        await session.send(first_turn(), scenario=error(529))
        await session.send(first_turn(), scenario=error(529))
        assert await line(session) == "GLM-5.3 · context 42% · 127.0.0.1: overloaded (529), 2 times"
        await session.send(first_turn())
        assert "overloaded" not in await line(session)


@pytest.mark.parametrize("ledger", ["on", "off"])
async def test_without_books_there_are_no_sums(tmp_path: Path, ledger: str) -> None:
    async with conversation(observing=False, ledger=ledger, data_dir=tmp_path) as session:
        await session.send(first_turn())
        if ledger == "on":
            await eventually(lambda: session.proxy.app.state.ledger.writer.written == 1)
            await asyncio.to_thread(session.proxy.app.state.status._sums._books, "session-1", [])  # loads its modules
        assert ("tokens" in await line(session)) is (ledger == "on")


NONSENSE = [b"", b"nonsense", b"[]", b'{"session_id": 5}', b"\xff" * 1000, b"{" * 50_000]


@pytest.mark.parametrize("said", NONSENSE)
async def test_nonsense_gets_a_line_too(said: bytes) -> None:
    async with conversation() as session:
        assert await line(session, said) == "claude-proxy"


async def test_a_body_that_is_no_status_lines_is_refused_in_one_line() -> None:
    async with conversation() as session:
        answer = await ask(session, b"x" * 300_000)
    assert (answer.status_code, answer.headers["x-claude-proxy-error"]) == (413, "body_too_large")
    assert answer.text == "claude-proxy: The status line's input has at most 256 KB.\n"


WIDTHS = [("60", 60), ("", 120), ("-5", 120), ("99999999999999", 1000), ("x", 120), ("٣", 120)]


@pytest.mark.parametrize(("columns", "width"), WIDTHS)
async def test_the_width_is_the_terminals(columns: str, width: int) -> None:
    said = {**SAID, "model": {"display_name": "M" * 55}}
    async with conversation() as session:
        await session.send(first_turn(), scenario=error(529))
        found = (await ask(session, said, columns=columns)).text.rstrip("\n")
    assert len(found) <= width - 4
    assert ("M" in found) is (width > 100)


async def test_colours_are_there_unless_they_are_not_wanted() -> None:
    async with conversation() as session:
        assert "\x1b[1mGLM-5.3\x1b[0m" in (await ask(session, color="")).text
        assert "\x1b" not in (await ask(session, color="0")).text


@pytest.mark.parametrize("names", ["on", "off"])
async def test_the_client_names_the_project_and_the_next_exchange_has_it(names: str) -> None:
    async with conversation(project_names=names) as session:
        await line(session)
        exchange = await session.send(first_turn())
    assert exchange.project == ("shop" if names == "on" else None)


async def test_the_project_is_learned_from_the_prompt(tmp_path: Path) -> None:
    async with kept(tmp_path) as session:
        exchange = await session.raw(encode(request()))
        assert exchange.project == "w"
        await eventually(lambda: session.proxy.app.state.ledger.writer.written == 1)
        from claude_proxy.ledger.options import Options
        from claude_proxy.ledger.queries import Books

        found = await asyncio.to_thread(Books.open(Options(tmp_path)).session, "session-1")
    assert found is not None
    assert found["project"] == "w"


# -- who may ask


KEYS: dict[str, dict[str, Any]] = {
    "open": {},
    "key": {"proxy_api_key": "the-key"},
    "held": {"upstream_api_key": "upstreams"},
    "both": {"upstream_api_key": "upstreams", "proxy_api_key": "the-key"},
    "admin": {"upstream_api_key": "upstreams", "admin_token": "the-key"},
}
MINE = [(b"authorization", b"Bearer mine")]
KEY = [(b"x-api-key", b"the-key")]


@pytest.mark.parametrize(
    ("kind", "shown", "status"),
    [
        ("open", [], 401),
        ("open", MINE, 200),
        ("open", [(b"x-api-key", b"mine")], 200),
        ("open", [(b"x-api-key", b"another")], 401),
        ("open", KEY, 401),
        ("key", [], 401),
        ("key", MINE, 200),
        ("key", KEY, 200),
        ("key", [(b"authorization", b"Bearer the-key")], 200),
        ("key", [(b"authorization", b"Bearer the-ke")], 401),
        ("held", MINE, 401),
        ("held", [], 401),
        ("both", KEY, 200),
        ("both", [], 401),
        ("admin", [], 401),
        ("admin", KEY, 200),
    ],
)
async def test_from_another_machine(kind: str, shown: list[tuple[bytes, bytes]], status: int) -> None:
    async with conversation(**KEYS[kind]) as session:
        session.headers = {"authorization": "Bearer mine", "x-api-key": "the-key", "x-claude-code-session-id": "session-1"}
        if kind == "open":
            del session.headers["x-api-key"]
        assert (await session.send(first_turn())).status == 200
        elsewhere = Elsewhere(session.proxy.app)
        found, text = await elsewhere.ask(SAID, shown)
        assert found == status, text
        assert text.count("\n") == 1
        assert ("From another machine" in text) is (status == 401)
        if shown == MINE and status == 200:
            assert (await elsewhere.ask({**SAID, "session_id": "session-2"}, shown))[0] == 401
            assert (await elsewhere.ask({}, shown))[0] == 401


async def test_this_machine_needs_no_credential_but_a_front_on_it_is_no_part_of_it() -> None:
    async with conversation(proxy_api_key="the-key") as session:
        assert (await ask(session)).status_code == 200
        assert (await ask(session, headers={"x-forwarded-for": "127.0.0.1"})).status_code == 401


async def test_a_web_page_may_not_ask_and_a_foreign_name_neither() -> None:
    async with conversation() as session:
        assert (await ask(session, headers={"origin": "https://evil.example"})).status_code == 403
        assert (await ask(session, headers={"host": "evil.example"})).status_code == 403


async def test_a_stranger_cannot_name_a_project() -> None:
    async with conversation(proxy_api_key="the-key") as session:
        session.headers["x-api-key"] = "the-key"
        await Elsewhere(session.proxy.app).ask(SAID, [])
        assert (await session.send(first_turn(messages=[{"role": "user", "content": "hi"}]))).project is None


async def test_it_is_described() -> None:
    async with conversation() as session, httpx.AsyncClient() as client:
        schema = (await client.get(f"{session.proxy.origin}/openapi.json")).json()
    operation = schema["paths"]["/api/v1/statusline"]["post"]
    assert operation["requestBody"]["content"].keys() == {"application/json"}
    assert operation["responses"]["200"]["content"].keys() == {"text/plain"}


# -- the source


async def test_quota_is_the_providers_and_says_when_it_resets() -> None:
    windows = (
        QuotaWindow("5h", 0.4, 600),
        QuotaWindow("day", None, 5),
        QuotaWindow("week", 1.2, None),
        QuotaWindow("month", 0.1, 9),
    )
    status = await StatusSource(Sessions(), quota=lambda: windows).status(Client())
    assert [(one.name, round(one.left, 3), one.resets_in) for one in status.quota] == [("5h", 0.6, 600), ("week", -0.2, None)]
    assert (await StatusSource(Sessions()).status(Client())).quota == ()


@pytest.mark.parametrize(
    ("used", "left"),
    [
        (("zai", "work"), [0.9]),
        (("zai", "home"), [0.2]),
        (("anthropic", "default"), []),  # no quota endpoint there
        (None, []),  # it cannot be known which plan the session will use
    ],
)
async def test_quota_is_that_of_the_account_that_the_session_uses(used: tuple[str, str] | None, left: list[float]) -> None:
    sessions = Sessions()
    if used is not None:
        one = finished(session="s", upstream=used[0], account=used[1])
        sessions.on_exchange_start(one)
        sessions.learn("s", frozenset((b"mark",)))
        sessions.on_exchange_end(one)
    windows = (QuotaWindow("5h", 0.1, 60, "zai", "work"), QuotaWindow("5h", 0.8, 60, "zai", "home"))
    status = await StatusSource(sessions, quota=lambda: windows).status(Client(session="s"))
    assert [round(one.left, 3) for one in status.quota] == left


async def test_a_ledger_that_hangs_costs_the_sums_and_not_the_line(tmp_path: Path) -> None:
    never = threading.Event()

    async with kept(tmp_path) as session:
        await session.send(first_turn())
        sums = session.proxy.app.state.status._sums
        sums._books = lambda *_: never.wait(20)
        sums._kept.clear()
        start = asyncio.get_running_loop().time()
        assert await line(session) == "GLM-5.3 · context 42%"
        took = asyncio.get_running_loop().time() - start
        never.set()
    assert took < 2, "0.12 s, and what a busy machine adds"
