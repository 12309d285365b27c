"""A login that is over takes its open event streams and exports with it, however it ends and at whichever worker."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from claude_proxy.access.login_store import FOLDER, FileStore
from claude_proxy.simulator import Simulator
from tests.architecture.source import ROOT
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.test_logins import STRANGER, TOKEN, code_of, log_in, stranger
from tests.web.pages.site import call
from tests.web.serving import BROWSER

PATIENCE = 10.0
WEB = ROOT / "src/claude_proxy/web"
STREAMS = ("/live", "/api/v1/events")
Ending = Callable[[RunningProxy, str, str, Path], Awaitable[object]]


@asynccontextmanager
async def opened(proxy: RunningProxy, path: str, cookie: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The parts of an event stream after the first."""
    headers = STRANGER | {"cookie": f"claude_proxy_{proxy.port}={cookie}"}
    async with (
        httpx.AsyncClient(base_url=proxy.origin, headers=headers, timeout=PATIENCE) as client,
        client.stream("GET", path) as answer,
    ):
        assert answer.status_code == 200
        parts = answer.aiter_bytes()
        assert await anext(parts)
        yield parts


async def to_end(parts: AsyncIterator[bytes]) -> None:
    async with asyncio.timeout(PATIENCE):
        async for _ in parts:
            pass


async def logged_in(proxy: RunningProxy) -> tuple[str, str]:
    """The id of a new login, and its cookie."""
    async with stranger(proxy) as client:
        await log_in(client, code_of(proxy.app))
        [cookie] = client.cookies.jar
    assert cookie.value is not None
    return cookie.value.partition(".")[0], cookie.value


# -- the ways in which a login ends


async def by_form(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    async with httpx.AsyncClient(base_url=proxy.origin, headers={"accept": BROWSER}) as owner:
        assert (await owner.post("/settings/logins", data={"id": id})).status_code == 303


async def with_others_by_form(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    async with httpx.AsyncClient(base_url=proxy.origin, headers={"accept": BROWSER}) as owner:
        assert (await owner.post("/settings/logins", data={"others": "1"})).status_code == 303


async def by_api(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    async with httpx.AsyncClient(base_url=proxy.origin) as owner:
        assert (await owner.delete(f"/api/v1/logins/{id}")).status_code == 204


async def with_others_by_api(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    async with httpx.AsyncClient(base_url=proxy.origin) as owner:
        assert (await owner.delete("/api/v1/logins")).json() == {"revoked": 1}


async def by_logout(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    async with stranger(proxy, cookie=f"claude_proxy_{proxy.port}={cookie}") as client:
        assert (await client.post("/logout")).status_code == 204


async def by_a_new_login(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    async with stranger(proxy, cookie=f"claude_proxy_{proxy.port}={cookie}") as client:
        await log_in(client, code_of(proxy.app))


async def by_expiry(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    store = FileStore(folder)
    login = store.get(id, int(time.time()))
    assert login is not None
    store.put(msgspec.structs.replace(login, expires_at=int(time.time()) - 1))


async def by_hand(proxy: RunningProxy, id: str, cookie: str, folder: Path) -> None:
    (folder / FOLDER / f"login-{id}").unlink()


ENDINGS = [by_form, with_others_by_form, by_api, with_others_by_api, by_logout, by_a_new_login, by_expiry, by_hand]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
@pytest.mark.parametrize("workers", [1, 2])
async def test_the_streams_of_a_login_end_with_it(simulator: Simulator, tmp_path: Path, workers: int, ending: Ending) -> None:
    """With two workers the login ends at one, and the streams are open at the other."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(running_proxy(simulator.base_url, data_dir=tmp_path)) for _ in range(workers)]
        id, cookie = await logged_in(proxies[0])
        streams = [await stack.enter_async_context(opened(proxies[-1], path, cookie)) for path in STREAMS]
        await ending(proxies[0], id, cookie, tmp_path)
        for parts in streams:
            await to_end(parts)
        async with stranger(proxies[-1], cookie=f"claude_proxy_{proxies[-1].port}={cookie}") as client:
            for path in STREAMS:
                assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize("path", STREAMS)
async def test_the_streams_of_other_logins_and_viewers_stay(simulator: Simulator, tmp_path: Path, path: str) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path) as proxy:
        gone, gone_cookie = await logged_in(proxy)
        _, stays_cookie = await logged_in(proxy)
        async with opened(proxy, path, gone_cookie) as revoked, opened(proxy, path, stays_cookie) as stays:
            await proxy.app.state.viewers.revoke(gone)
            await to_end(revoked)
            proxy.app.state.viewers.streams.check()
            await call(proxy, simulator)
            async with asyncio.timeout(PATIENCE):
                assert await anext(stays)


async def test_the_one_who_logs_out_all_others_stays(simulator: Simulator, tmp_path: Path) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path) as proxy:
        own, cookie = await logged_in(proxy)
        others = {(await logged_in(proxy))[0] for _ in range(3)}
        async with stranger(proxy, cookie=f"claude_proxy_{proxy.port}={cookie}", accept=BROWSER) as client:
            assert {one["id"] for one in (await client.get("/api/v1/logins")).json()["items"]} == others | {own}
            answer = await client.post("/settings/logins", data={"others": "1"})
            assert (answer.status_code, answer.headers["location"]) == (303, "../settings#logins")
            [left] = (await client.get("/api/v1/logins")).json()["items"]
        assert (left["id"], left["current"]) == (own, True)


async def test_a_token_logs_all_out(simulator: Simulator, tmp_path: Path) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path, admin_token=TOKEN) as proxy:
        for _ in range(2):
            await logged_in(proxy)
        async with httpx.AsyncClient(base_url=proxy.origin, headers={"authorization": f"Bearer {TOKEN}"}) as owner:
            assert (await owner.delete("/api/v1/logins")).json() == {"revoked": 2}
        assert proxy.app.state.viewers.logins.all() == []


# -- exports


@asynccontextmanager
async def exporting(
    proxy: RunningProxy, form: str, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.Response]:
    """An export without end, of which nothing is read yet but the head."""

    async def page(question: object) -> tuple[bytes, str]:
        await asyncio.sleep(0)  # as a question to the books does
        return b"x" * 100_000, "more"

    monkeypatch.setattr(proxy.app.state.reader, "ask", page)
    headers = STRANGER | ({"cookie": f"claude_proxy_{proxy.port}={cookie}"} if cookie else {"authorization": f"Bearer {TOKEN}"})
    async with (
        httpx.AsyncClient(base_url=proxy.origin, headers=headers, timeout=PATIENCE) as client,
        client.stream("GET", f"/api/v1/exchanges/export?format={form}") as answer,
    ):
        assert answer.status_code == 200
        yield answer


@pytest.mark.parametrize(
    ("workers", "form", "ending"),
    [*((1, "csv", ending) for ending in ENDINGS), (1, "json", by_api), (2, "csv", by_api)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_an_export_breaks_off_with_its_login(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, form: str, ending: Ending
) -> None:
    """It ends without a proper end, so that half a file is not taken for the whole."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(running_proxy(simulator.base_url, data_dir=tmp_path)) for _ in range(workers)]
        id, cookie = await logged_in(proxies[0])
        async with exporting(proxies[-1], form, cookie, monkeypatch) as answer:
            await ending(proxies[0], id, cookie, tmp_path)
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await to_end(answer.aiter_bytes())


async def test_the_exports_of_others_go_on(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_proxy(simulator.base_url, data_dir=tmp_path, admin_token=TOKEN) as proxy:
        gone, _ = await logged_in(proxy)
        _, stays = await logged_in(proxy)
        async with (
            exporting(proxy, "csv", stays, monkeypatch) as by_login,
            exporting(proxy, "json", "", monkeypatch) as by_token,
        ):
            await proxy.app.state.viewers.revoke(gone)
            for answer in (by_login, by_token):
                parts, read = answer.aiter_bytes(), 0
                while read < 20_000_000:  # more than any buffer on the way holds
                    read += len(await anext(parts))


def test_whatever_is_streamed_looks_whether_its_viewer_still_may() -> None:
    """A new kind of answer that goes on for long has to be watched too."""
    streaming = {
        path.name: text for path in WEB.rglob("*.py") if "StreamingResponse" in (text := path.read_text(encoding="utf-8"))
    }
    assert {"books.py", "running.py", "stream.py"} <= streaming.keys()
    for name, text in streaming.items():
        assert "with watched(" in text, name
        assert not re.search(r"(return|=) StreamingResponse\(", text), f"{name}: derive a class from it that is watched"
