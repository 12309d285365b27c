"""Requests in turn, leaving clients, early answers, cuts, and what the response looks like on the wire."""

import asyncio
import socket
import struct
from typing import Any

import pytest
import uvicorn
from structlog.typing import EventDict

from tests.server.apps import Recorder
from tests.server.conftest import Serve, Serving, loud
from tests.server.wire import HOST, Response, Wire, connect, get, post, wait_until

# Pipelining


async def test_pipelined_requests_are_answered_in_turn(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(post("/wait", b"one"), post("/two", b"2"), get("/three"))
        await serving.app.request()
        assert len(serving.app.seen) == 1
        serving.app.go.set()
        assert (await wire.response()).body == b"waited"
        assert (await wire.response()).body == b"POST /two 2"
        assert (await wire.response()).body == b"GET /three "


async def test_a_running_request_sees_the_client_leave_although_another_waits(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/silent"), get("/second"))
        seen = await serving.app.request()
        wire.leave()
        await seen.client_left()
    assert len(serving.app.seen) == 1


async def test_a_large_request_behind_a_running_one_does_not_hide_the_clients_leaving(serve: Serve) -> None:
    async with serve(pipeline_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(get("/silent"), post("/second", b"x" * 300_000))
        seen = await serving.app.request()
        wire.leave()
        await seen.client_left()
    assert len(serving.app.seen) == 1


async def test_too_much_behind_a_running_request_is_left_to_the_client(serve: Serve) -> None:
    async with serve(pipeline_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(get("/wait"))
        await serving.app.request()
        await wire.send(post("/second", b"x" * 100_000))
        serving.app.go.set()
        assert (await wire.response()).body == b"waited"
        assert await wire.rest() == b""
    assert len(serving.app.seen) == 1


async def test_too_many_behind_a_running_request_are_left_to_the_client(serve: Serve) -> None:
    async with serve(pipeline_depth=2) as serving, connect(serving.port) as wire:
        await wire.send(get("/wait"))
        await serving.app.request()
        await wire.send(get() * 10)
        serving.app.go.set()
        assert (await wire.response()).body == b"waited"
        assert await wire.rest() == b""
    assert len(serving.app.seen) == 1


async def test_nonsense_behind_a_running_request_is_refused_after_its_answer(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/wait"), get("/second"), b"nonsense\r\n\r\n")
        await serving.app.request()
        serving.app.go.set()
        assert (await wire.response()).body == b"waited"
        assert (await wire.response()).body == b"GET /second "
        assert (await wire.response()).error()[2] == "unknown_method"
        assert await wire.rest() == b""


async def test_a_waiting_request_whose_body_breaks_never_runs(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/wait"), b"POST /second HTTP/1.1\r\n", HOST, b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
        await serving.app.request()
        serving.app.go.set()
        assert (await wire.response()).body == b"waited"
        assert (await wire.response()).error()[2] == "bad_request"
        assert await wire.rest() == b""
    assert len(serving.app.seen) == 1


async def test_what_follows_connection_close_is_ignored(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/one", b"Connection: close"), get("/two"))
        response = await wire.response()
        assert (response.body, response.all("connection")) == (b"GET /one ", ["close"])
        assert await wire.rest() == b""
    assert len(serving.app.seen) == 1


# Clients that leave


@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_a_client_that_leaves_is_reported_to_a_silent_app(serving: Serving, how: str) -> None:
    async with connect(serving.port) as wire:
        await wire.send(post("/silent", b"abc"))
        seen = await serving.app.request()
        getattr(wire, how)()
        await seen.client_left()


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_reported(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST / HTTP/1.1\r\n", HOST, b"Content-Length: 10\r\n\r\nabc")
        seen = await serving.app.request()
        wire.leave()
        await seen.client_left()


async def test_an_app_that_waits_for_a_slow_reader_is_let_go_when_it_leaves(serving: Serving) -> None:
    async with connect(serving.port, small_window=True) as wire:
        await wire.send(get("/flood"))
        await wire.head()
        seen = await serving.app.request()
        wire.reset()
        serving.app.go.set()
        await seen.is_over()


# Bodies


async def test_a_large_body_arrives_whole(serving: Serving) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB: over every buffer on the way
    async with connect(serving.port) as wire:
        await wire.send(post("/", body))
        assert (await wire.response()).body == b"POST / " + body


async def test_a_body_is_read_no_further_ahead_than_the_app_asks(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        wire.writer.write(b"POST /endless HTTP/1.1\r\n" + HOST + b"Content-Length: 50000000\r\n\r\n")
        await wire.head()
        sending = asyncio.create_task(wire.send(b"x" * 50_000_000))
        (connection,) = serving.worker.server_state.connections
        await wait_until(lambda: connection.flow.read_paused)
        assert not sending.done()
        sending.cancel()


async def test_continue_is_said_only_when_the_app_reads(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST / HTTP/1.1\r\n", HOST, b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await wire.line() == b"HTTP/1.1 100 Continue\r\n"
        assert await wire.line() == b"\r\n"
        await wire.send(b"abc")
        assert (await wire.response()).body == b"POST / abc"


async def test_continue_is_not_said_to_http_1_0(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        await serving.app.request()
        await wire.send(b"abc")
        assert (await wire.response()).body == b"POST / abc"


async def test_an_early_answer_instead_of_continue_ends_the_connection(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST /early HTTP/1.1\r\n", HOST, b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        response = await wire.response()
        assert (response.status, response.all("connection")) == (401, ["close"])
        assert await wire.rest() == b""


async def test_an_early_answer_leaves_the_connection_usable(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST /early HTTP/1.1\r\n", HOST, b"Content-Length: 200000\r\n\r\n")
        assert (await wire.response()).status == 401
        await wire.send(b"x" * 200_000, get("/next"))
        assert (await wire.response()).body == b"GET /next "


async def fill(serving: Serving, wire: Wire) -> asyncio.Task[None]:
    """Send more than the server reads ahead, and wait until it has stopped reading."""
    sending = asyncio.create_task(wire.send(b"x" * 20_000_000))  # more than the sockets hold
    (connection,) = serving.worker.server_state.connections
    await wait_until(lambda: connection.flow.read_paused)
    serving.app.go.set()
    return sending


async def test_a_body_that_nobody_read_does_not_block_the_next_request(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST /unread HTTP/1.1\r\n", HOST, b"Content-Length: 20000000\r\n\r\n")
        await serving.app.request()
        sending = await fill(serving, wire)
        assert (await wire.response()).body == b"unread"
        await sending
        (connection,) = serving.worker.server_state.connections
        assert connection.running is None
        assert connection._receiving._chunks == []  # what came after the answer was not kept
        await wire.send(get("/next"))
        assert (await wire.response()).body == b"GET /next "


async def test_a_failure_is_said_although_the_body_is_still_coming(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST /crash_unread HTTP/1.1\r\n", HOST, b"Content-Length: 20000000\r\n\r\n")
        await serving.app.request()
        sending = await fill(serving, wire)
        assert (await wire.response()).status == 500
        await sending
        assert await wire.rest() == b""


async def test_a_refusal_survives_what_is_still_coming(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"nonsense\r\n\r\n")
        await wire.send(b"x" * 3_000_000)
        assert (await wire.response()).status == 501
        assert await wire.rest() == b""


async def test_a_body_that_does_not_end_after_an_early_answer_is_not_waited_for(serve: Serve) -> None:
    async with serve(linger_seconds=0.05) as serving, connect(serving.port) as wire:
        await wire.send(b"POST /early HTTP/1.1\r\n", HOST, b"Content-Length: 200000\r\n\r\nabc")
        assert (await wire.response()).status == 401
        assert await wire.rest() == b""


async def test_a_final_early_answer_survives_the_body_that_is_still_coming(serving: Serving) -> None:
    """Closing with unread bytes would reset the connection and destroy the answer."""
    async with connect(serving.port) as wire:
        await wire.send(b"POST /early_close HTTP/1.1\r\n", HOST, b"Content-Length: 3000000\r\n\r\n")
        await serving.app.request()
        await wire.send(b"x" * 3_000_000)
        response = await wire.response()
        assert (response.status, response.body) == (413, b"early")
        assert await wire.rest() == b""


async def test_a_lingering_connection_ends_when_the_client_does_not(serve: Serve) -> None:
    async with serve(linger_seconds=0.05) as serving, connect(serving.port) as wire:
        await wire.send(b"nonsense\r\n\r\n")
        assert (await wire.response()).status == 501
        assert await wire.rest() == b""
        await wait_until(lambda: not serving.worker.server_state.connections)


async def test_a_closed_connection_whose_client_does_not_read_is_dropped(serve: Serve) -> None:
    async with (
        serve(keep_alive=0.05, head_seconds=0.05) as serving,
        connect(serving.port, small_window=True) as wire,
    ):
        await wire.send(get("/flood", b"Connection: close"))
        await wire.head()
        (connection,) = serving.worker.server_state.connections
        await wait_until(lambda: connection.flow.write_paused)
        before = connection._idle_timer
        connection.cut(hard=False)
        assert connection._idle_timer is not before  # it has the whole time again to read what was written
        await wait_until(lambda: not serving.worker.server_state.connections)
        serving.app.go.set()


# Cuts and failures


async def test_an_app_that_returns_early_cuts_the_response_quietly(serving: Serving, log_lines: list[EventDict]) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/cut"))
        await wire.head()
        assert await wire.chunk() == b"part"
        assert await wire.rest() == b""
    assert loud(log_lines) == []


async def test_a_cancelled_app_cuts_the_response_quietly(serving: Serving, log_lines: list[EventDict]) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/cancelled"))
        await wire.head()
        assert await wire.rest() == b""
    assert loud(log_lines) == []


async def test_a_cut_is_a_reset_where_only_the_close_ends_the_body(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"GET /cut HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await wire.rest()


@pytest.mark.parametrize(("path", "event"), [("/crash", "app_failed"), ("/nothing", "app_gave_no_response")])
async def test_an_app_that_fails_before_it_answers_gives_a_500_in_the_envelope(
    serving: Serving, log_lines: list[EventDict], path: str, event: str
) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get(path))
        response = await wire.response()
        kind, message, code = response.error()
        assert (response.status, kind, code) == (500, "api_error", "internal")
        assert "broken" not in message
        assert await wire.rest() == b""
    assert loud(log_lines) == [event]


@pytest.mark.parametrize("path", ["/crash_late", "/short"])
async def test_an_app_that_fails_while_it_answers_cuts_the_response(
    serving: Serving, log_lines: list[EventDict], path: str
) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get(path))
        await wire.head()
        assert await wire.rest() in (b"4\r\npart\r\n", b"")
    assert loud(log_lines) == ["app_failed"]


async def test_a_header_with_a_line_break_never_reaches_the_wire(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/inject"))
        response = await wire.response()
        assert response.status == 500
        assert response.all("x-more") == []


# The response's head


async def test_date_and_server_are_written_once_and_framing_is_the_servers(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/named"))
        response = await wire.response()
        assert response.all("server") == ["claude-proxy"]
        assert len(response.all("date")) == 1
        assert response.all("date") != ["x"]
        assert response.all("transfer-encoding") == response.all("keep-alive") == []
        assert response.body == b"named"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_keeps_its_content_length(serving: Serving, status: int) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get(f"/status/{status}/12"), get("/next"))
        response = await wire.response(bodiless=True)
        assert (response.status, response.all("content-length")) == (status, ["12"])
        assert (await wire.response()).body == b"GET /next "


async def test_head_gets_the_headers_alone(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"HEAD /abc HTTP/1.1\r\n", HOST, b"\r\n", get("/next"))
        response = await wire.response(bodiless=True)
        assert response.all("content-length") == ["10"]
        assert (await wire.response()).body == b"GET /next "


async def test_http_1_0_gets_no_chunks_but_a_body_that_the_close_ends(serving: Serving) -> None:
    serving.app.go.set()
    async with connect(serving.port) as wire:
        await wire.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = await wire.response()
        assert response.all("transfer-encoding") == []
        assert response.all("connection") == ["close"]
        assert response.body == b"firstlast"


async def test_http_1_0_may_keep_the_connection_when_the_length_is_known(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        for _ in range(2):
            await wire.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = await wire.response()
            assert (response.body, response.all("connection")) == (b"GET /a ", ["keep-alive"])
        await wire.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await wire.response()).all("connection") == ["close"]
        assert await wire.rest() == b""


async def test_a_stream_arrives_as_it_is_sent(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/stream"))
        status, headers = await wire.head()
        assert (status, dict(headers)["transfer-encoding"]) == (200, "chunked")
        assert await wire.chunk() == b"first"
        serving.app.go.set()
        assert await wire.chunk() == b"last"
        assert await wire.chunk() == b""


# The scope


async def ask(serve: Serve, raw: bytes, **options: Any) -> tuple[Response, dict[str, Any]]:
    async with serve(**options) as serving, connect(serving.port) as wire:
        await wire.send(raw)
        response = await wire.response()
        return response, serving.app.seen[0].scope


async def test_the_scope_keeps_the_bytes_of_path_and_query(serve: Serve) -> None:
    _, scope = await ask(serve, get("/v1/x%2Fy%20z?a=%20&b"))
    assert scope["raw_path"] == b"/v1/x%2Fy%20z"
    assert scope["path"] == "/v1/x/y z"
    assert scope["query_string"] == b"a=%20&b"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("GET", "1.1", "http")
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/gw/v1/x", "/v1/x"])
async def test_the_root_path_is_in_the_path_once_whether_the_front_strips_it_or_not(serve: Serve, path: str) -> None:
    _, scope = await ask(serve, get(path), root_path="/gw")
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == ("/gw/v1/x", b"/gw/v1/x", "/gw")


@pytest.mark.parametrize(("trusted", "client"), [("", "127.0.0.1"), ("127.0.0.1", "203.0.113.9")])
async def test_forwarded_headers_count_only_from_trusted_peers(serve: Serve, trusted: str, client: str) -> None:
    _, scope = await ask(serve, get("/", b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https"), trusted=trusted)
    assert scope["client"][0] == client
    assert scope["scheme"] == ("https" if trusted else "http")


async def test_a_reset_before_the_first_byte_harms_nothing(serving: Serving, log_lines: list[EventDict]) -> None:
    raw = socket.create_connection(("127.0.0.1", serving.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    async with connect(serving.port) as wire:
        await wire.send(get())
        assert (await wire.response()).status == 200
    assert loud(log_lines) == []


async def test_the_protocol_also_runs_under_stock_uvicorn() -> None:
    """`uvicorn --http claude_proxy.server.protocol:HardenedProtocol proxy:app`."""
    listener = socket.create_server(("127.0.0.1", 0))
    http = "claude_proxy.server.protocol:HardenedProtocol"
    app = Recorder()
    server = uvicorn.Server(uvicorn.Config(app, http=http, log_config=None, lifespan="on"))
    ended = asyncio.create_task(server._serve([listener]))
    await wait_until(lambda: server.started)
    async with connect(listener.getsockname()[1]) as wire:
        await wire.send(get())
        response = await wire.response()
        assert (response.body, response.all("server")) == (b"GET / ", ["uvicorn"])
        await wire.send(b"nonsense\r\n\r\n")
        assert (await wire.response()).error()[2] == "unknown_method"
    server.should_exit = True
    await ended
