"""Reloads under traffic, before real servers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import logs, reload
from claude_proxy.ledger.capture.reading import Conversations
from claude_proxy.notify import Notifier
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.integration.machine import Log, ended, started
from tests.integration.messages import JSON, MESSAGES, body, head, length
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.test_accounts import KEYS, bearers, models, post, proxy_with, table
from tests.integration.wire import PATIENCE, ask, connect


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files here are written at once."""
    monkeypatch.setattr(reload, "SETTLED", 0.001)


@pytest.fixture
async def other() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
def said() -> Iterator[io.TextIOWrapper]:
    return io.TextIOWrapper(io.BytesIO(), write_through=True)


def lines(said: Any, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in said.buffer.getvalue().splitlines()]
    return [line for line in found if line["event"] == event]


def write(folder: Path, *tables: str) -> None:
    (folder / "claude-proxy.toml").write_text("".join(tables))


async def test_new_requests_go_by_the_new_file(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE")) as proxy:
        await post(proxy, model="claude-opus-5")
        write(tmp_path, table("zai", other.base_url, "TWO", map='{ "claude-*" = "glm-5.3" }'))
        await proxy.reload()
        await post(proxy, model="claude-opus-5")
    assert (bearers(simulator), models(simulator)) == (["Bearer sk-one-000"], ["claude-opus-5"])
    assert (bearers(other), models(other)) == (["Bearer sk-two-000"], ["glm-5.3"])


async def test_a_key_that_a_reload_brought_or_replaced_is_in_no_transcript_and_no_notice(
    simulator: Simulator, tmp_path: Path
) -> None:
    """None of these keys looks like one, so they are found only because the proxy holds them."""
    keys = {"FIRST": "the-old-password", "SECOND": "the-new-password", "THIRD": "the-third-password"}
    file, data = tmp_path / "claude-proxy.toml", tmp_path / "data"
    file.write_text(table("zai", simulator.base_url, "FIRST"))
    more = {"capture": "all", "ntfy_topic": "nowhere", "ntfy_server": "http://127.0.0.1:9"}
    async with running_proxy(config=file, environ=keys, data_dir=data, **more) as proxy:
        await post(proxy)
        file.write_text(table("zai", simulator.base_url, "SECOND") + table("b", simulator.base_url, "THIRD", priority=1))
        await proxy.reload()
        await post(proxy, system=" ".join(keys.values()))
        exchange = (await proxy.recorder.wait_for(2))[1]
        clean = next(one for one in proxy.app.state.listeners._all if isinstance(one, Notifier))._clean
        assert clean(f"wrong key {keys['FIRST']}, {keys['SECOND']} or {keys['THIRD']}").count("password") == 0
    with Conversations.open(data) as conversations:
        found = conversations.transcript(exchange.number)
    assert found is not None
    stored = b"".join(block.data for block in found.blocks)
    assert b"[redacted] [redacted] [redacted]" in stored
    assert b"password" not in stored


WRONG = [
    ("[[upstream]]\nname = ", "not valid TOML"),
    ("zzz = 1\n", "unknown setting 'zzz'"),
    ('[[upstream]]\nname = "zai"\nbase_url = "https://h"\nprovider = "zia"\n', "provider=zia: unknown; did you mean 'zai'?"),
    (table("zai", "https://h", "MISSING"), "key_env=MISSING: the variable is not set"),
    (table("zai", "https://api.z.ai/x", "ONE") + table("b", "https://api.moonshot.ai/x", "TWO"), '"b": it would never be asked'),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
async def test_a_wrong_file_is_refused_whole_and_the_old_settings_stay(
    simulator: Simulator, tmp_path: Path, said: Any, text: str, sentence: str
) -> None:
    async with proxy_with(
        tmp_path, table("zai", simulator.base_url, "ONE"), prepare=lambda _: logs.configure("info", "json", said)
    ) as proxy:
        before = proxy.app.forward.config
        write(tmp_path, text)
        await proxy.reload()
        assert proxy.app.forward.config is before
        assert (await post(proxy)).status == 200
    (refused,) = lines(said, "settings_refused")
    assert sentence in refused["problem"]
    assert refused["level"] == "warning"
    assert not any(key in said.buffer.getvalue().decode() for key in KEYS.values())


async def test_a_file_that_is_gone_is_refused_and_one_that_is_back_is_read(
    simulator: Simulator, other: Simulator, tmp_path: Path
) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE")) as proxy:
        (tmp_path / "claude-proxy.toml").unlink()
        await proxy.reload()
        await post(proxy)
        write(tmp_path, table("zai", other.base_url, "ONE"))
        await proxy.reload()
        await post(proxy)
    assert (len(simulator.requests), len(other.requests)) == (1, 1)


async def test_a_removed_account_finishes_its_stream(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 3, until="release"))
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE")) as proxy, connect(proxy.port) as wire:
        (account,) = proxy.app.forward.config.accounts
        wire.send(head("POST", MESSAGES, JSON, length(len(body()))) + body())
        status, _ = await wire.head()
        write(tmp_path, table("side", other.base_url, "TWO"))
        await proxy.reload()
        assert account.removed
        assert len(account.upstream.pool) == 1
        await post(proxy)
        simulator.release()
        rest = b""
        while chunk := await wire.chunk():
            rest += chunk
        ended_ = await proxy.recorder.wait_for(2)
        await simulator.wait_for(lambda sim: sim.open_connections == 0)
    assert (status, chunk) == (200, b"")
    assert b"message_stop" in rest
    assert {(one.account, one.outcome) for one in ended_} == {("one", "completed"), ("two", "completed")}
    assert len(account.upstream.pool) == 0


async def test_an_unchanged_upstream_keeps_its_connections_and_what_is_known_of_its_accounts(
    simulator: Simulator, other: Simulator, tmp_path: Path
) -> None:
    same = table("zai", simulator.base_url, "ONE", models=["glm-*"])
    side = table("side", other.base_url, "OTHER", models=["claude-*"])
    async with proxy_with(tmp_path, same) as proxy:
        await post(proxy)
        before = proxy.app.forward.config
        write(tmp_path, same, side)
        await proxy.reload()
        await post(proxy)
        assert proxy.app.forward.config.upstreams[0] is before.upstreams[0]
    assert simulator.connections == 1


async def test_an_account_is_known_by_its_name_and_its_key(simulator: Simulator, tmp_path: Path) -> None:
    """A changed map or priority leaves the pool and what is carried; another key or another name does not."""
    key = tmp_path / "key"
    key.write_text("sk-file-one")
    text = table("zai", simulator.base_url, "ONE") + '[[upstream.account]]\nname = "file"\nkey_file = "key"\n'
    async with proxy_with(tmp_path, text) as proxy:
        before = proxy.app.forward.config
        for account in before.accounts:
            account.carried["limit"] = account.name
        write(tmp_path, text.replace('name = "zai"', 'name = "zai"\npriority = 3'))
        await proxy.reload()
        changed = proxy.app.forward.config
        assert changed.upstreams[0] is not before.upstreams[0]
        assert changed.upstreams[0].pool is before.upstreams[0].pool
        assert [account.carried for account in changed.accounts] == [{"limit": "one"}, {"limit": "file"}]
        assert [account.removed for account in before.accounts] == [False, False]
        key.write_text("sk-file-two")
        await proxy.reload()
        new_key = proxy.app.forward.config
        assert [account.carried for account in new_key.accounts] == [{"limit": "one"}, {}]
        assert [account.removed for account in changed.accounts] == [False, True]


async def test_clients_keep_their_accounts(simulator: Simulator, tmp_path: Path) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url)) as proxy:
        await post(proxy)
        (account,) = proxy.app.forward.config.upstreams[0].clients
        account.carried["limit"] = 2
        write(tmp_path, table("zai", simulator.base_url, priority=7))
        await proxy.reload()
        (same,) = proxy.app.forward.config.upstreams[0].clients
        assert (same.id, same.carried) == (account.id, {"limit": 2})
        write(tmp_path, table("zai", simulator.base_url, "ONE"))
        await proxy.reload()
        assert same.removed


async def test_path_settings_change_at_once_and_the_others_are_named(simulator: Simulator, tmp_path: Path, said: Any) -> None:
    upstream = table("zai", simulator.base_url, "ONE")
    async with proxy_with(tmp_path, upstream, prepare=lambda _: logs.configure("info", "json", said)) as proxy:
        write(tmp_path, "max_body = 100\nkeep_alive = 7\nproxy_api_key = 'sk-door'\n", upstream)
        await proxy.reload()
        reply = await post(proxy, text="x" * 200)
        assert reply.status == 413
        assert proxy.app.forward.config.settings.keep_alive == 100
    (line,) = lines(said, "settings_reloaded")
    assert line["at_next_start"] == ["PROXY_API_KEY", "KEEP_ALIVE"]
    assert "sk-door" not in said.buffer.getvalue().decode()


async def test_a_key_that_is_held_from_now_on_closes_the_door_to_others(simulator: Simulator, tmp_path: Path) -> None:
    """The gate follows: a stranger was welcome with a key of their own, but may not spend the proxy's."""
    stranger = (b"X-Forwarded-For", b"203.0.113.9")
    async with proxy_with(tmp_path, table("zai", simulator.base_url)) as proxy:
        assert (await post(proxy, stranger)).status == 200
        write(tmp_path, table("zai", simulator.base_url, "ONE"))
        await proxy.reload()
        assert (await post(proxy, stranger)).get("x-claude-proxy-error") == "key_needed"


async def test_reloads_under_traffic_cost_no_request(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    places = [simulator.base_url, other.base_url]
    async with proxy_with(tmp_path, table("zai", places[0], "ONE")) as proxy:
        await under_traffic(proxy, tmp_path, [table("zai", places[turn % 2], "ONE", priority=turn % 3) for turn in range(1, 13)])
        ends = await proxy.recorder.wait_for(1)
    assert {one.outcome for one in ends} == {"completed"}
    assert min(len(simulator.requests), len(other.requests)) > 0
    assert len(simulator.requests) + len(other.requests) == len(ends)


async def under_traffic(proxy: RunningProxy, folder: Path, files: list[str]) -> None:
    """Reload once with each file, while eight clients ask without a pause, each in between at least once."""
    over = asyncio.Event()
    answered = asyncio.Condition()
    count = 0

    async def client() -> None:
        nonlocal count
        while not over.is_set():
            reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
            assert (reply.status, reply.whole) == (200, True)
            async with answered:
                count += 1
                answered.notify_all()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(client())
        for file in files:
            write(folder, file)
            await proxy.reload()
            async with answered:
                wanted = count + 16  # the first eight may have begun before the reload
                await answered.wait_for(lambda wanted=wanted: count >= wanted)
        over.set()


# -- the process as a user starts it


@pytest.mark.parametrize("how", ["file", "signal"])
async def test_serve_reloads_when_the_file_changes_and_at_sighup(
    simulator: Simulator, other: Simulator, tmp_path: Path, how: str
) -> None:
    write(tmp_path, table("zai", simulator.base_url, "ONE"))
    config = str(tmp_path / "claude-proxy.toml")
    read_end, write_end = os.pipe()
    log = Log(read_end)
    try:
        async with started("", tmp_path, stderr=write_end, CLAUDE_PROXY_CONFIG=config, LEDGER="off", **KEYS) as process:
            port = await log.port()
            assert (await ask(port, "POST", MESSAGES, [JSON], body())).status == 200
            if how == "file":
                write(tmp_path, table("zai", other.base_url, "ONE"))
            else:
                process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE):
                line = await log.event("settings_reloaded")
            assert (await ask(port, "POST", MESSAGES, [JSON], body())).status == 200
            process.terminate()
            assert await ended(process) == 0
    finally:
        log.close()
    assert line["upstreams"] == ["zai"]
    assert (len(simulator.requests), len(other.requests)) == ((1, 1) if how == "file" else (2, 0))
