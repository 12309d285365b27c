"""What is recorded of a request, and the connection's life."""

import asyncio
import gzip
import hashlib
import json
import ssl

import pytest
import trustme

from claude_proxy.simulator import Recorded, Scenario, Simulator, faults
from tests.simulator.talk import HELLO, Answer, get, post, say, talk


async def test_a_request_is_recorded_as_it_was_on_the_wire(simulator: Simulator) -> None:
    data = json.dumps(HELLO).encode()
    request = (
        b"POST /api/anthropic/v1/messages?beta=true&x=%%2F..%%00 HTTP/1.1\r\nhOsT: sim\r\nX-Two: b\r\nx-two: a\r\n"
        b"Content-Length: %d\r\nX-Empty:\r\n\r\n" % len(data)
    )
    answer = await say(simulator, request + data)
    (seen,) = simulator.requests
    assert answer.status == 200
    assert (seen.method, seen.target) == ("POST", b"/api/anthropic/v1/messages?beta=true&x=%2F..%00")
    assert seen.headers == [
        (b"hOsT", b"sim"),
        (b"X-Two", b"b"),
        (b"x-two", b"a"),
        (b"Content-Length", b"%d" % len(data)),
        (b"X-Empty", b""),
    ]
    assert (seen.body, seen.body_size, seen.complete, seen.connection) == (data, len(data), True, 1)
    assert seen.body_sha256 == hashlib.sha256(data).hexdigest()
    assert (seen.query, seen.path) == (b"beta=true&x=%2F..%00", "/api/anthropic/v1/messages")
    assert (seen.header("X-TWO"), seen.header_values("x-two"), seen.header("none")) == ("b", ["b", "a"], None)
    assert (seen.model, seen.stream, seen.status, seen.outcome) == ("glm-5.3", False, 200, "answered")


async def test_a_request_in_single_bytes_is_the_same_request(simulator: Simulator) -> None:
    request = post(None, "X-Split: yes")
    async with talk(simulator) as line:
        for at in range(len(request)):
            line.say(request[at : at + 1])
            await asyncio.sleep(0)
        await line.answer()
    assert simulator.requests[0].target == b"/api/anthropic/v1/messages"
    assert simulator.requests[0].header("x-split") == "yes"
    assert simulator.requests[0].body == request.partition(b"\r\n\r\n")[2]


async def test_credentials_are_not_in_the_repr(simulator: Simulator) -> None:
    await say(simulator, post({**HELLO, "metadata": {"user_id": "secret-b"}}, "x-api-key: secret-a"))
    assert "secret" not in repr(simulator.requests)


async def test_a_chunked_body_and_its_trailers_are_told_apart_from_headers(simulator: Simulator) -> None:
    data = json.dumps(HELLO).encode()
    await say(
        simulator,
        b"POST /v1/messages HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\nX-Late: 1\r\n\r\n" % (len(data), data),
    )
    (seen,) = simulator.requests
    assert (seen.body, seen.trailers) == (data, [(b"X-Late", b"1")])
    assert seen.header("x-late") is None


async def test_a_large_body_leaves_its_size_and_digest() -> None:
    async with Simulator(Scenario("raw"), keep_body=1000) as sim, talk(sim) as line:
        body = bytes(range(256)) * 1000
        line.say(b"PUT /v1/x HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await line.answer()
        (seen,) = sim.requests
        assert (seen.body, seen.body_size, seen.complete) == (b"", len(body), True)
        assert seen.body_sha256 == hashlib.sha256(body).hexdigest()


async def test_a_large_answer_waits_for_a_slow_reader(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", body=b"x" * 65536, repeat=512)
    async with talk(simulator) as line:
        line.transport.pause_reading()
        line.say(get("/v1/big"))
        await simulator.wait_for(lambda sim: sim.requests)
        for _ in range(20):
            await asyncio.sleep(0)
        assert simulator.requests[0].sent < 16 << 20
        assert simulator.requests[0].outcome is None
        line.transport.resume_reading()
        await simulator.wait_for(lambda sim: sim.requests[0].outcome == "answered")
        assert simulator.requests[0].sent > 32 << 20


async def test_a_plain_answer_that_is_not_taken_is_not_answered(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", body=b"x" * (32 << 20))
    async with talk(simulator) as line:
        line.transport.pause_reading()
        line.say(get("/v1/big"))
        await simulator.wait_for(lambda sim: sim.requests and sim.requests[0].sent)
        assert simulator.requests[0].outcome is None
    await simulator.wait_for(lambda sim: sim.requests[0].outcome == "client-left")


async def test_pipelined_requests_are_answered_in_order(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        slow = post({**HELLO, "model": "sim-text-text-first-delay-0.01"})
        line.say(slow + get("/v1/models") + get("/v1/nothing"))
        answers = [await line.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 404]
    assert answers[0].json["content"][0]["text"] == "first"


async def test_a_client_that_leaves_takes_its_waiting_requests_along(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with talk(simulator) as line:
        line.say(post() + post())
        await simulator.wait_for(lambda sim: len(sim.requests) == 2)
    await simulator.wait_for(lambda sim: all(one.outcome for one in sim.requests))
    assert [one.outcome for one in simulator.requests] == ["client-left"] * 2


async def test_a_client_that_leaves_in_its_body_leaves_an_incomplete_request(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        line.say(b"POST /v1/messages HTTP/1.1\r\nHost: s\r\nContent-Length: 10\r\n\r\nabc")
        await simulator.wait_for(lambda sim: sim.requests and sim.requests[0].body_size == 3)
    await simulator.wait_for(lambda sim: sim.requests[0].outcome)
    (seen,) = simulator.requests
    assert (seen.outcome, seen.complete, seen.body) == ("client-left", False, b"abc")


async def test_the_end_of_the_clients_side_is_its_leaving(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 1))
    async with talk(simulator) as line:
        line.say(post())
        await simulator.hold.wait()
        line.transport.write_eof()
        await simulator.wait_for(lambda sim: sim.requests[0].outcome == "client-left")


async def test_leaving_is_seen_while_the_answer_is_stuck_on_its_way(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", body=b"x" * (32 << 20))
    async with talk(simulator) as line:
        line.transport.pause_reading()
        line.say(get("/v1/big"))
        await simulator.wait_for(lambda sim: sim.requests and sim.requests[0].sent)
        line.transport.write_eof()
        await simulator.wait_for(lambda sim: sim.requests[0].outcome == "client-left")


async def test_expect_is_answered_with_continue(simulator: Simulator) -> None:
    data = json.dumps(HELLO).encode()
    async with talk(simulator) as line:
        line.say(b"POST /v1/messages HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(data))
        assert (await line.answer()).status == 100
        line.say(data)
        assert (await line.answer()).status == 200


@pytest.mark.parametrize("path", ["/", "/api/anthropic", "/api/anthropic/api/hello", "/v1/models"])
async def test_head_is_answered_without_a_body(simulator: Simulator, path: str) -> None:
    async with talk(simulator) as line:
        line.say(get(path, method="HEAD") + get("/v1/none"))
        data = await line.until(lambda data: data.count(b"\r\n\r\n") == 2)
    first, second = data.split(b"\r\n\r\n")[:2]
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert b"content-length: " in first
    assert second.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(simulator: Simulator, status: int) -> None:
    simulator.scenario = Scenario("raw", status=status, body=b"never")
    async with talk(simulator) as line:
        line.say(get("/v1/models"))
        data = await line.until(lambda data: b"\r\n\r\n" in data)
    assert data.endswith(b"\r\n\r\n")
    assert b"content-length" not in data


async def test_an_http_1_0_client_gets_no_chunks_and_a_close(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        line.say(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert await line.end() == "fin"
    head, _, body = line.data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"transfer-encoding" not in head
    assert body.endswith(b'data: {"type":"message_stop"}\n\n')


async def test_connection_close_is_honoured(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        line.say(post(HELLO, "Connection: close"))
        assert (await line.answer()).header("connection") == "close"
        assert await line.end() == "fin"


async def test_what_is_no_request_is_refused_and_told(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        line.say(b"what is this\r\n\r\n")
        assert (await line.answer()).status == 400
        assert await line.end() == "fin"
    assert len(simulator.refusals) == 1
    assert not simulator.requests


async def test_an_upgrade_is_answered_as_a_request(simulator: Simulator) -> None:
    assert (await say(simulator, get("/v1/models", "Connection: upgrade", "Upgrade: h2c"))).status == 200


async def test_a_compressed_request_body_is_understood(simulator: Simulator) -> None:
    data = gzip.compress(json.dumps(HELLO).encode())
    head = b"POST /v1/messages HTTP/1.1\r\nHost: s\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    assert (await say(simulator, head + data)).json["model"] == "glm-5.3"
    assert simulator.requests[0].body == data


async def test_headers_of_a_scenario_join_or_replace_the_usual_ones(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", headers=(("set-cookie", "a=1"), ("set-cookie", "b=2"), ("server", "me")))
    answer = await say(simulator, get("/v1/x"))
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert [value for name, value in answer.headers if name == "server"] == ["me"]
    assert answer.header("request-id")
    assert answer.header("date")


async def test_every_answer_has_ids_of_its_own(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="same")
    async with talk(simulator) as line:
        answers = []
        for _ in range(3):
            line.say(post(HELLO))
            answers.append(await line.answer())
    assert len({answer.json["id"] for answer in answers}) == 3
    assert len({answer.header("request-id") for answer in answers}) == 3


async def test_it_speaks_tls() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with Simulator(tls=server) as sim:
        assert sim.url == f"https://127.0.0.1:{sim.port}"
        async with talk(sim, client) as line:
            line.say(post())
            assert (await line.answer()).status == 200
            sim.scenario = Scenario(fault=faults.cut("events", 2, how="rst"))
            line.say(post())
            assert await line.end() == "rst"


async def test_history_bounds_what_is_remembered_but_not_what_is_counted() -> None:
    async with Simulator(Scenario("text", text="x" * 40), history=2) as sim:
        for _ in range(5):
            await say(sim, post(HELLO))
        assert len(sim.requests) == 2
        assert sim.reported.output_tokens == 5 * 10


async def test_on_end_is_called_once_for_each_request() -> None:
    over: list[Recorded] = []
    async with Simulator(on_end=over.append) as sim:
        await say(sim, post())
        async with talk(sim) as line:
            line.say(post(None, "x-simulate: stall-head"))
            await sim.hold.wait()
        await sim.wait_for(lambda sim: sim.requests[1].outcome)
    assert [one.outcome for one in over] == ["answered", "client-left"]


async def test_stopping_ends_open_connections_and_stalled_answers() -> None:
    sim = Simulator(Scenario(fault=faults.stall("head")))
    await sim.start()
    async with talk(sim) as line:
        line.say(post())
        await sim.hold.wait()
        await sim.stop()
        await line.end()
    assert sim.open_connections == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", sim.port)


async def test_waiting_in_vain_says_what_was_seen(simulator: Simulator) -> None:
    await say(simulator, get("/v1/models"))
    with pytest.raises(TimeoutError, match=r"1 requests, .* stalled; last: ..GET /v1/models answered"):
        await simulator.wait_for(lambda sim: len(sim.requests) == 2, timeout=0.01)


async def test_a_mistake_in_a_waiting_condition_reaches_the_waiter(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        waiting = asyncio.create_task(simulator.wait_for(lambda sim: sim.requests and sim.requests[5]))
        await asyncio.sleep(0)
        line.say(get("/v1/models"))
        with pytest.raises(IndexError):
            await waiting


async def assert_reset_and_reported(simulator: Simulator) -> None:
    """A request's connection is reset, and the event loop's exception handler learns why."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context.get("exception")))
    try:
        async with talk(simulator) as line:
            line.say(post())
            assert await line.end() == "rst"
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert reported


@pytest.mark.parametrize("writes", ["whole", "event"])
async def test_a_scenario_that_cannot_be_sent_resets_the_connection_and_is_reported(simulator: Simulator, writes: str) -> None:
    simulator.scenario = Scenario(headers=(("x-price", "5 €"),), writes=writes)
    await assert_reset_and_reported(simulator)


async def test_it_listens_on_ipv6() -> None:
    async with Simulator(host="::1") as sim:
        assert sim.base_url == f"http://[::1]:{sim.port}/api/anthropic"
        reader, writer = await asyncio.open_connection("::1", sim.port)
        writer.write(get("/v1/models"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await sim.refuse()


async def test_a_mistake_in_a_scenario_function_resets_the_connection_and_is_reported(simulator: Simulator) -> None:
    def broken(_: Recorded) -> Scenario:
        raise LookupError("no such scenario")

    simulator.scenario = broken
    await assert_reset_and_reported(simulator)


async def test_a_head_answer_is_not_parsed_as_a_body() -> None:
    assert Answer.parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "HEAD") is not None
    assert Answer.parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc") is None
