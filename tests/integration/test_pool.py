"""Upstream connections as exchanges use them: reuse, closing at the worst moment, limits, no coupling between exchanges."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
import trustme

from claude_proxy.exchange import Outcome
from claude_proxy.proxy.call import WATCH_AFTER
from claude_proxy.simulator import Recorded, Scenario, Simulator, faults
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.pool import Pool
from tests.integration.leftovers import until
from tests.integration.listeners import Listener, listening, saying
from tests.integration.messages import FILES, JSON, MESSAGES, MODELS, PREFIX, body, head, length, post
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, ask, connect, request
from tests.upstream.test_dial import serving, tunnel_to


async def message(port: int, **fields: Any) -> Reply:
    """One Messages request."""
    return await ask(port, "POST", MESSAGES, [JSON], body(**fields))


@pytest.mark.parametrize("stream", [True, False])
async def test_one_connection_serves_exchange_after_exchange(simulator: Simulator, stream: bool) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        for _ in range(5):
            assert (await message(proxy.port, stream=stream)).whole
        exchanges = await proxy.recorder.wait_for(5)
        assert proxy.upstream_connections == 1
    assert simulator.connections == 1
    assert [exchange.attempts[0].reused for exchange in exchanges] == [False, True, True, True, True]


async def test_exchanges_at_once_have_connections_of_their_own(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head", until="release"))
    async with running_proxy(simulator.base_url) as proxy, asyncio.TaskGroup() as group:
        tasks = [group.create_task(message(proxy.port)) for _ in range(8)]
        await simulator.wait_for(lambda sim: len(sim.requests) == 8)
        simulator.release()
        assert all(reply.whole for reply in await asyncio.gather(*tasks))
    assert {asked.connection for asked in simulator.requests} == set(range(1, 9))


@pytest.mark.parametrize("place", [faults.stall("head"), faults.stall("events", 3), faults.stop_reading()])
async def test_exchanges_that_hang_do_not_hold_up_others(simulator: Simulator, place: faults.Fault) -> None:
    hang = Scenario(fault=place)
    simulator.scenario = lambda asked: hang if asked.header("x-hang") else Scenario()
    async with running_proxy(simulator.base_url) as proxy, asyncio.TaskGroup() as group:
        hanging = [group.create_task(ask(proxy.port, "POST", MESSAGES, [JSON, (b"x-hang", b"1")], body())) for _ in range(20)]
        await simulator.wait_for(lambda sim: sim.requests and len(sim.requests) >= 20)
        for _ in range(3):
            assert (await message(proxy.port)).whole
        for task in hanging:
            task.cancel()


async def test_one_client_that_does_not_read_does_not_hold_up_others(simulator: Simulator) -> None:
    large = Scenario("raw", content_type="application/x-jsonl", body=b"x" * 65536, repeat=1000)
    simulator.scenario = lambda asked: large if asked.path.endswith("models") else Scenario()
    async with running_proxy(simulator.base_url) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1024)
        writer.write(request("GET", MODELS))
        await simulator.wait_for(lambda sim: sim.requests)
        for _ in range(3):
            assert (await message(proxy.port)).whole
        writer.transport.abort()


# -- closed at the worst moment


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_closed_while_idle_costs_nothing(simulator: Simulator, how: faults.Ending) -> None:
    simulator.scenario = Scenario(fault=faults.close_after(how))
    async with running_proxy(simulator.base_url) as proxy:
        for number in (1, 2, 3):
            assert (await message(proxy.port)).whole
            await until(lambda: proxy.upstream_connections == 0)
            assert len(simulator.requests) == number
        exchanges = await proxy.recorder.wait_for(3)
    assert {len(exchange.attempts) for exchange in exchanges} == {1}


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_closed_when_the_request_comes_is_a_clear_502_and_never_a_second_post(
    simulator: Simulator, how: faults.Ending
) -> None:
    simulator.scenario = Scenario(fault=faults.close_on_next(how))
    async with running_proxy(simulator.base_url) as proxy:
        assert (await message(proxy.port)).whole
        reply = await message(proxy.port)
        exchange = (await proxy.recorder.wait_for(2))[1]
    assert (reply.status, reply.get("x-claude-proxy-error")) == (502, "connection_lost")
    assert "try again" in json.loads(reply.body)["error"]["message"]
    assert (exchange.outcome, len(exchange.attempts), exchange.attempts[0].reused) == (Outcome.FAILED, 1, True)
    assert (simulator.connections, len(simulator.requests)) == (1, 1)


async def test_a_close_in_the_same_moment_ends_in_one_post_or_a_clear_502(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.close_after())
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        statuses = []
        for number in range(30):
            wire.send(post(stream=False, headers=[(b"x-number", b"%d" % number)]))
            reply = await wire.reply()
            assert reply.whole
            statuses.append(reply.status)
    numbers = [asked.header("x-number") for asked in simulator.requests]
    assert len(numbers) == len(set(numbers)) == statuses.count(200)
    assert set(statuses) <= {200, 502}


async def test_a_close_seen_before_a_byte_was_written_is_tried_again(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        await message(proxy.port)
        pool = proxy.app.forward.config.upstreams[0].pool
        take = pool.take

        def closing(now: float) -> Connection | None:
            connection = take(now)
            if connection is not None:
                connection._transport.close()  # the close is seen between `take` and `send`
            return connection

        monkeypatch.setattr(pool, "take", closing)
        reply = await message(proxy.port)
        exchange = (await proxy.recorder.wait_for(2))[1]
    assert reply.whole
    assert [asked.connection for asked in simulator.requests] == [1, 2]
    assert [attempt.failure and attempt.failure.kind for attempt in exchange.attempts] == ["stale_connection", None]
    assert [attempt.reused for attempt in exchange.attempts] == [True, False]
    assert (exchange.outcome, exchange.failure) == (Outcome.COMPLETED, None)


async def test_a_cut_answers_connection_is_not_used_again(simulator: Simulator) -> None:
    scenarios = iter([Scenario(fault=faults.cut("events", 3)), Scenario()])
    simulator.scenario = lambda _: next(scenarios)
    async with running_proxy(simulator.base_url) as proxy:
        assert not (await message(proxy.port)).whole
        assert (await message(proxy.port)).whole
    assert [asked.connection for asked in simulator.requests] == [1, 2]


async def test_a_connection_that_a_client_left_is_not_used_again(simulator: Simulator) -> None:
    scenarios = iter([Scenario(fault=faults.stall("events", 3)), Scenario()])
    simulator.scenario = lambda _: next(scenarios)
    async with running_proxy(simulator.base_url) as proxy:
        async with connect(proxy.port) as wire:
            wire.send(post())
            await wire.head()
        await proxy.recorder.wait_for(1)
        assert (await message(proxy.port)).whole
    assert [asked.connection for asked in simulator.requests] == [1, 2]


async def test_connection_close_and_keep_alive_of_the_upstreams_are_heeded(simulator: Simulator) -> None:
    turns = iter([Scenario(then="close"), Scenario(headers=(("keep-alive", "timeout=1"),)), Scenario(), Scenario()])
    simulator.scenario = lambda _: next(turns)
    async with running_proxy(simulator.base_url) as proxy:
        for _ in range(4):
            assert (await message(proxy.port)).whole
    assert [asked.connection for asked in simulator.requests] == [1, 2, 3, 3]


async def test_an_idle_connection_is_closed_when_its_time_is_over(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url, keepalive_expiry=0.1) as proxy:
        await message(proxy.port)
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert (await message(proxy.port)).whole


# -- limits


async def test_exchanges_over_the_limit_wait_their_turn(simulator: Simulator) -> None:
    most = 0

    def count(_: Recorded) -> Scenario:
        nonlocal most
        most = max(most, simulator.open_connections)
        return Scenario("text", text="x", pace=0.001)

    simulator.scenario = count
    async with running_proxy(simulator.base_url, max_connections=4) as proxy:
        replies = await asyncio.gather(*(message(proxy.port) for _ in range(40)))
    assert {(reply.status, reply.whole) for reply in replies} == {(200, True)}
    assert most == simulator.connections == 4


async def test_one_that_waits_too_long_is_told_so(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with running_proxy(simulator.base_url, max_connections=1, connect_timeout=0.2) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await simulator.hold.wait()
        reply = await message(proxy.port)
    envelope = json.loads(reply.body)["error"]
    assert (reply.status, reply.get("retry-after"), envelope["type"]) == (503, "1", "overloaded_error")
    assert "MAX_CONNECTIONS" in envelope["message"]
    assert len(simulator.requests) == 1


# -- TLS and outbound proxies


async def test_an_https_upstream_streams_and_keeps_its_connection(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        Simulator(tls=serving(authority.issue_cert("localhost"))) as sim,
        running_proxy(f"https://localhost:{sim.port}{PREFIX}", upstream_ca_file=tmp_path / "ca.pem") as proxy,
    ):
        for _ in range(3):
            reply = await message(proxy.port)
            assert reply.whole
            assert reply.body.endswith(b'data: {"type":"message_stop"}\n\n')
        large = await message(proxy.port, text="x" * 900_000, stream=False)
        assert large.status == 200
    assert {asked.connection for asked in sim.requests} == {1}
    assert sim.requests[0].header("host") == f"localhost:{sim.port}"


@pytest.mark.parametrize("issued", ["other.example", None])
async def test_a_certificate_that_is_not_good_is_a_503_that_names_the_remedy(tmp_path: Path, issued: str | None) -> None:
    authority = trustme.CA()
    (authority if issued else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        Simulator(tls=serving(authority.issue_cert(issued or "localhost"))) as sim,
        running_proxy(f"https://localhost:{sim.port}", upstream_ca_file=tmp_path / "ca.pem") as proxy,
    ):
        reply = await message(proxy.port)
    assert (reply.status, reply.get("x-claude-proxy-error")) == (503, "tls_failed")
    assert "UPSTREAM_CA_FILE" in json.loads(reply.body)["error"]["message"]
    assert sim.requests == []


async def test_through_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Simulator(tls=serving(authority.issue_cert("api.example"))) as sim, listening(tunnel_to(sim.port)) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pw@127.0.0.1:{tunnel.port}")
        async with running_proxy(f"https://api.example{PREFIX}", upstream_ca_file=tmp_path / "ca.pem") as proxy:
            for _ in range(2):
                assert (await message(proxy.port)).whole
    assert tunnel.connections == 1
    assert [asked.header("host") for asked in sim.requests] == ["api.example", "api.example"]
    assert sim.requests[0].header("proxy-authorization") is None


async def test_plain_http_through_an_outbound_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            upstream.heads.append(await reader.readuntil(b"\r\n\r\n"))

    upstream: Listener
    async with listening(handler) as upstream:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pw@127.0.0.1:{upstream.port}")
        async with running_proxy("http://api.example:8080/base") as proxy:
            for _ in range(2):
                headers = [(b"Proxy-Authorization", b"Basic theirs")]
                assert (await ask(proxy.port, "GET", MODELS + "?limit=1", headers)).status == 200
    pair = base64.b64encode(b"me:pw")
    for sent in upstream.heads:
        assert sent.startswith(b"GET http://api.example:8080/base/v1/models?limit=1 HTTP/1.1\r\nhost: api.example:8080\r\n")
        assert sent.lower().count(b"proxy-authorization: basic ") == 1
        assert b"Basic " + pair in sent
    assert len(upstream.heads) == 2


@pytest.mark.parametrize("scenario", [Scenario(), Scenario(pace=0.01), Scenario("raw", body=b"{}")])
async def test_an_idle_connection_holds_nothing_of_the_exchange_before(simulator: Simulator, scenario: Scenario) -> None:
    simulator.scenario = scenario
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        await proxy.recorder.wait_for(1)
        (connection,) = proxy.app.forward.config.upstreams[0].pool._idle
        assert connection.passing is None


class ClosesBehindTheHead:
    """A pooled connection that closes when a request is in its outbox and not a byte of it has been written."""

    def __init__(self, pool: Pool) -> None:
        self._take = pool.take
        self.times = 0

    def take(self, now: float) -> Connection | None:
        connection = self._take(now)
        if connection is not None:
            send = connection.send

            def sending(head: bytes, body: bytes, *, is_head: bool = False) -> None:
                send(head, body, is_head=is_head)
                connection._transport.close()
                self.times += 1

            connection.send = sending  # type: ignore[method-assign]
        return connection


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("when", ["at once", "after the retry"])
async def test_a_stale_connection_is_replaced_also_while_the_body_is_still_coming(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, chunked: bool, when: str
) -> None:
    """There is one upload at a time, and what the first one read is not lost."""
    parts = [b"a" * 1000, b"b" * 1000, b"c" * 1000]
    framing = (b"Transfer-Encoding", b"chunked") if chunked else length(3000)

    def framed(part: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(part), part) if chunked else part

    end = b"0\r\n\r\n" if chunked else b""
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        await message(proxy.port)
        pool = proxy.app.forward.config.upstreams[0].pool
        closing = ClosesBehindTheHead(pool)
        monkeypatch.setattr(pool, "take", closing.take)
        wire.send(head("POST", FILES, framing) + framed(parts[0]))
        if when == "after the retry":
            await simulator.wait_for(lambda sim: len(sim.requests) == 2)
        wire.send(framed(parts[1]))
        await asyncio.sleep(0)
        wire.send(framed(parts[2]) + end)
        reply = await wire.reply()
        exchange = (await proxy.recorder.wait_for(2))[1]
    assert reply.status < 500
    assert closing.times == 1
    assert [attempt.failure and attempt.failure.kind for attempt in exchange.attempts] == ["stale_connection", None]
    assert [asked.body for asked in simulator.requests[1:]] == [b"".join(parts)]
    assert exchange.bytes_in == 3000


@pytest.mark.parametrize("http", ["claude_proxy.server.protocol:HardenedProtocol", "httptools", "h11"])
@pytest.mark.parametrize("when", ["at once", "after the retry"])
async def test_nor_does_who_watches_for_the_clients_leaving_read_any_of_that_body(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, http: str, when: str
) -> None:
    """A server without our extension tells of the leaving only to who reads on, and a watcher throws away what it reads."""
    async with running_proxy(simulator.base_url, http=http) as proxy, connect(proxy.port) as wire:
        await message(proxy.port)
        closing = ClosesBehindTheHead(proxy.app.forward.config.upstreams[0].pool)
        monkeypatch.setattr(proxy.app.forward.config.upstreams[0].pool, "take", closing.take)
        wire.send(head("POST", FILES, length(3000)))
        await asyncio.sleep(2 * WATCH_AFTER)  # the exchange has lasted long enough to be worth a watcher
        wire.send(b"a" * 1000)
        if when == "after the retry":
            await simulator.wait_for(lambda sim: len(sim.requests) == 2)
        wire.send(b"b" * 1000)
        await asyncio.sleep(0)
        wire.send(b"c" * 1000)
        reply = await wire.reply()
    assert reply.status < 500
    assert closing.times == 1
    assert [asked.body for asked in simulator.requests[1:]] == [b"a" * 1000 + b"b" * 1000 + b"c" * 1000]


@pytest.mark.parametrize("seconds", [b"9" * 5000, b"9" * 400, b"0" * 5000, b"", b"-1", b"5, timeout=" + b"7" * 5000])
async def test_a_keep_alive_time_that_is_none_costs_nothing(seconds: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=" + seconds + b"\r\ncontent-length: 2\r\n\r\n{}"
    async with listening(saying(answer)) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        reply = await ask(proxy.port, "GET", MODELS)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, reply.body, exchange.outcome) == (200, b"{}", Outcome.COMPLETED)
