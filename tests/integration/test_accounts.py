"""Several upstreams and accounts before real servers: whose credential goes where, and under which model's name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import Simulator
from tests.integration.messages import BATCHES, COUNT, FILES, JSON, MESSAGES, MODELS, body
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Header, Reply, ask

KEYS = {"ONE": "sk-one-000", "TWO": "sk-two-000", "OTHER": "sk-other-0"}
CLIENT: Header = (b"Authorization", b"Bearer sk-client")
EXPLORE: Header = (b"X-Claude-Code-Agent-Type", b"Explore")


@pytest.fixture
async def other() -> AsyncIterator[Simulator]:
    """A second upstream."""
    async with Simulator() as running:
        yield running


def table(name: str, base_url: str, *keys: str, **more: Any) -> str:
    """An `[[upstream]]` with an account for each key."""
    lines = ["[[upstream]]", f'name = "{name}"', f'base_url = "{base_url}"']
    for key, value in more.items():
        lines.append(f"{key} = {value if isinstance(value, str) and value.startswith('{') else json.dumps(value)}")
    for key in keys:
        lines += ["[[upstream.account]]", f'name = "{key.lower()}"', f'key_env = "{key}"']
    return "\n".join(lines) + "\n"


def route(*upstreams: str, match: str = "{}") -> str:
    return f"[[route]]\nmatch = {match}\nupstreams = {json.dumps(upstreams)}\n"


@asynccontextmanager
async def proxy_with(folder: Path, *tables: str, **settings: Any) -> AsyncIterator[RunningProxy]:
    file = folder / "claude-proxy.toml"
    file.write_text("".join(tables))
    async with running_proxy(config=file, environ=KEYS, data_dir=folder / "data", **settings) as proxy:
        yield proxy


async def post(proxy: RunningProxy, *headers: Header, path: str = MESSAGES, **fields: Any) -> Reply:
    return await ask(proxy.port, "POST", path, [JSON, CLIENT, *headers], body(**fields))


def bearers(simulator: Simulator) -> list[str]:
    """The credentials that an upstream has seen, in order."""
    return [value for one in simulator.requests for value in one.header_values("authorization")]


def models(simulator: Simulator) -> list[str]:
    return [json.loads(one.body)["model"] for one in simulator.requests]


async def test_a_model_goes_to_the_upstream_that_serves_it(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    first = table("zai", simulator.base_url, "ONE", models=["glm-*"])
    second = table("claude", other.base_url, "OTHER", models=["claude-*"])
    async with proxy_with(tmp_path, first, second) as proxy:
        for model in ("glm-5.3", "claude-opus-5", "glm-4.7"):
            assert (await post(proxy, model=model)).status == 200
        exchanges = await proxy.recorder.wait_for(3)
    assert (models(simulator), models(other)) == (["glm-5.3", "glm-4.7"], ["claude-opus-5"])
    assert (bearers(simulator), bearers(other)) == (["Bearer sk-one-000"] * 2, ["Bearer sk-other-0"])
    assert [(one.upstream, one.account) for one in exchanges] == [("zai", "one"), ("claude", "other"), ("zai", "one")]
    assert [one.attempts[0].account for one in exchanges] == ["one", "other", "one"]


async def test_a_model_that_nobody_serves_is_refused_with_what_is(simulator: Simulator, tmp_path: Path) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE", models=["glm-*"])) as proxy:
        reply = await post(proxy, model="gpt-9")
    said = json.loads(reply.body)["error"]
    assert (reply.status, reply.get("x-claude-proxy-error"), said["type"]) == (404, "model_not_served", "not_found_error")
    assert "gpt-9" in said["message"]
    assert "glm-*" in said["message"]
    assert simulator.connections == 0


async def test_a_route_sends_one_kind_of_requests_elsewhere(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    tables = [
        table("zai", simulator.base_url, "ONE"),
        table("side", other.base_url, "OTHER"),
        route("side", "zai", match='{ agent_type = "Explore" }'),
    ]
    async with proxy_with(tmp_path, *tables) as proxy:
        await post(proxy)
        await post(proxy, EXPLORE)
        await post(proxy, EXPLORE, path=COUNT)
    assert [one.path.rpartition("/")[2] for one in simulator.requests] == ["messages"]
    assert [one.path.rpartition("/")[2] for one in other.requests] == ["messages", "count_tokens"]


async def test_what_belongs_to_an_account_goes_to_the_first_of_the_file(
    simulator: Simulator, other: Simulator, tmp_path: Path
) -> None:
    """Although the other upstream goes before it for messages."""
    tables = [
        table("zai", simulator.base_url, "ONE", "TWO", priority=5),
        table("side", other.base_url, "OTHER", priority=1),
        route("side", "zai"),
    ]
    async with proxy_with(tmp_path, *tables) as proxy:
        await ask(proxy.port, "GET", MODELS, [CLIENT])
        await ask(proxy.port, "GET", FILES, [CLIENT])
        await ask(proxy.port, "POST", BATCHES, [JSON, CLIENT], b'{"requests":[]}')
        await post(proxy)
    assert bearers(simulator) == ["Bearer sk-one-000"] * 3
    assert [one.path.rpartition("/")[2] for one in other.requests] == ["messages"]


async def test_each_upstream_has_its_own_connections(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    tables = [
        table("zai", simulator.base_url, "ONE", models=["glm-*"]),
        table("claude", other.base_url, "OTHER", models=["claude-*"]),
    ]
    async with proxy_with(tmp_path, *tables) as proxy:
        for model in ("glm-5.3", "claude-opus-5") * 3:
            await post(proxy, model=model)
        assert [len(upstream.pool) for upstream in proxy.app.forward.config.upstreams] == [1, 1]
    assert (simulator.connections, other.connections) == (1, 1)


# -- the map

MAPPED = '{ "claude-haiku-*" = "glm-5.3-flash", "claude-*" = "glm-5.3" }'
ODD = (
    b'{ "model" : "claude-opus-5","stream":false , "metadata":{"model":"claude-opus-5"},"max_tokens":9,'
    b'\t"m\\u006fdel":"claude-sonnet-5","messages":[{"role":"user","content":"\\u00e9"}]}\n'
)


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
async def test_the_map_replaces_the_model_and_no_other_byte(simulator: Simulator, tmp_path: Path, path: str) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE", map=MAPPED)) as proxy:
        reply = await ask(proxy.port, "POST", path, [JSON], ODD)
        exchange = await proxy.last()
    (seen,) = simulator.requests
    assert reply.status == 200
    assert seen.body == ODD.replace(b' : "claude-opus-5"', b' : "glm-5.3"').replace(b'"claude-sonnet-5"', b'"glm-5.3"')
    assert seen.header_values("content-length") == [str(len(seen.body))]
    assert (exchange.model, exchange.model_sent) == ("claude-sonnet-5", "glm-5.3")


@pytest.mark.parametrize(
    ("model", "sent"), [("claude-haiku-5", "glm-5.3-flash"), ("claude-opus-5", "glm-5.3"), ("glm-4.7", "glm-4.7")]
)
async def test_the_first_pattern_that_matches_is_used(simulator: Simulator, tmp_path: Path, model: str, sent: str) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE", map=MAPPED)) as proxy:
        await post(proxy, model=model)
        exchange = await proxy.last()
    assert models(simulator) == [sent]
    assert exchange.model_sent == (None if model == sent else sent)


async def test_a_chunked_body_is_mapped_too(simulator: Simulator, tmp_path: Path) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE", map=MAPPED)) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(model="claude-opus-5"), chunked=True)
    assert (reply.status, models(simulator)) == (200, ["glm-5.3"])


async def test_a_body_that_is_not_kept_whole_is_refused_where_it_would_have_to_be_mapped(
    simulator: Simulator, tmp_path: Path
) -> None:
    large = body(model="claude-opus-5", text="x" * (9 << 20))
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE", map=MAPPED)) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], large)
        same = await ask(proxy.port, "POST", MESSAGES, [JSON], large.replace(b"claude-opus-5", b"glm-5.3"))
    assert (reply.status, reply.get("x-claude-proxy-error")) == (413, "map_too_large")
    assert "glm-5.3" in json.loads(reply.body)["error"]["message"]
    assert (same.get("x-claude-proxy-error"), len(simulator.requests)) == (None, 1)


async def test_without_memory_for_bodies_the_map_asks_to_try_again(simulator: Simulator, tmp_path: Path) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url, "ONE", map=MAPPED), max_kept=1000) as proxy:
        reply = await post(proxy, model="claude-opus-5", text="x" * (1 << 20))
    assert (reply.status, reply.get("retry-after")) == (503, "1")
    assert "MAX_KEPT" in json.loads(reply.body)["error"]["message"]


# -- clients' own credentials


async def test_each_clients_credential_is_an_account_of_its_own(simulator: Simulator, tmp_path: Path) -> None:
    async with proxy_with(tmp_path, table("zai", simulator.base_url)) as proxy:
        shown: list[list[Header]] = [
            [(b"Authorization", b"Bearer sk-client-one")],
            [(b"X-Api-Key", b"sk-client-two")],
            [(b"X-Api-Key", b"sk-client-one")],
            [],
        ]
        for headers in shown:
            assert (await ask(proxy.port, "POST", MESSAGES, [JSON, *headers], body())).status == 200
        names = [one.account for one in await proxy.recorder.wait_for(4)]
    assert names[0] == names[2]
    assert len(set(names)) == 3
    assert names[3] == "anonymous"
    assert "sk-client" not in repr(names)


async def test_a_client_is_the_same_account_after_a_restart(simulator: Simulator, tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        async with proxy_with(tmp_path, table("zai", simulator.base_url)) as proxy:
            await post(proxy)
            names.append((await proxy.last()).account)
    assert names[0] == names[1]
    assert (tmp_path / "data" / "client-accounts.key").stat().st_mode & 0o777 == 0o600
