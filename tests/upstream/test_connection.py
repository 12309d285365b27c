"""One connection: what it makes of answers, whole, broken and hostile; what makes it fit for another request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError
from claude_proxy.upstream.connection import HIGH_WATER, READ_AHEAD, SMALL, Connection
from claude_proxy.upstream.dial import Dialer, parse_origin
from tests.integration.leftovers import until
from tests.integration.listeners import Handler, Listener, listening, saying, silent

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def connected(handler: Handler) -> AsyncIterator[tuple[Connection, Listener]]:
    """A connection to an upstream of this behaviour."""
    async with listening(handler) as upstream:
        loop = asyncio.get_running_loop()
        closes: list[Connection] = []
        connection = Connection(loop, closes.append)
        await Dialer(parse_origin(f"http://127.0.0.1:{upstream.port}")).connect(loop, connection)
        yield connection, upstream
        connection.abort()
        await until(lambda: closes)
        assert closes == [connection]


async def whole(connection: Connection) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    async with asyncio.timeout(10):
        status = await connection.head()
        body = b""
        while not connection.finished:
            body += await connection.read() or b""
    return status, body


def in_turn(*answers: bytes) -> Handler:
    """A handler with an answer for each request of a connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, answer in enumerate(answers):
            if number:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        await silent(reader, writer)

    return handler


async def test_it_serves_one_request_after_another() -> None:
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with connected(in_turn(OK, chunked, OK)) as (connection, _):
        for expected in ((200, b"ok"), (201, b"abcde"), (200, b"ok")):
            connection.send(ASK, b"")
            assert not connection.reusable
            assert await whole(connection) == expected
            assert connection.reusable
        assert connection.used == 3


async def test_an_answer_may_come_byte_by_byte() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in OK:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        await silent(reader, writer)

    async with connected(handler) as (connection, _):
        connection.send(ASK, b"")
        assert await whole(connection) == (200, b"ok")


async def test_trailers_are_no_headers_of_this_answer_or_the_next() -> None:
    trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Late: 1\r\nX-Later: 2\r\n\r\n"
    async with connected(in_turn(trailers, OK)) as (connection, _):
        connection.send(ASK, b"")
        assert await whole(connection) == (200, b"ab")
        assert [name for name, _ in connection.headers] == [b"transfer-encoding"]
        connection.send(ASK, b"")
        assert await whole(connection) == (200, b"ok")
        assert [name for name, _ in connection.headers] == [b"content-length"]


async def test_names_are_lower_case_and_order_and_repeats_are_kept() -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: b\r\nX-A:  1\r\nSet-Cookie: a\r\nContent-Length: 0\r\nX-Empty:\r\n\r\n"
    async with connected(saying(answer)) as (connection, _):
        connection.send(ASK, b"")
        await whole(connection)
    assert connection.headers == [
        (b"set-cookie", b"b"), (b"x-a", b"1"), (b"set-cookie", b"a"), (b"content-length", b"0"), (b"x-empty", b""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "expected", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b""), True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", (204, b""), True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", (304, b""), True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, (200, b"ok"), True),
        (b"HTTP/1.1 102 Processing\r\nContent-Length: 7\r\n\r\n" + OK, (200, b"ok"), True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n", (200, b"ok"), True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), True),
        (b"HTTP/1.1 599 \xe4\xf6\r\nContent-Length: 0\r\n\r\n", (599, b""), True),
    ],
)
async def test_what_an_answer_says_of_its_end(answer: bytes, expected: tuple[int, bytes], reusable: bool) -> None:
    async with connected(saying(answer)) as (connection, _):
        connection.send(ASK, b"")
        assert await whole(connection) == expected
        assert connection.reusable is reusable
        assert (b"link", b"x") not in connection.headers


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with connected(handler) as (connection, _):
        connection.send(ASK, b"")
        assert await whole(connection) == (200, b"all of it")
        assert not connection.reusable


async def closed_after(answer: bytes) -> ProxyError:
    """What is raised when the upstream says this much and closes."""

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with connected(handler) as (connection, _):
        connection.send(ASK, b"")
        with pytest.raises(ProxyError) as caught:
            await whole(connection)
        assert not connection.reusable
    return caught.value


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_close_before_the_head_is_a_lost_connection(answer: bytes) -> None:
    error = await closed_after(answer)
    assert isinstance(error, ConnectionLost)
    assert "before it answered" in error.message


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 9\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"Content-Length: 1\r\n\r\n"]
)
async def test_a_close_inside_the_body_is_a_cut(rest: bytes) -> None:
    error = await closed_after(b"HTTP/1.1 200 OK\r\n" + rest)
    assert isinstance(error, ConnectionLost)
    assert "broke off" in error.message


async def test_what_came_before_a_broken_chunk_is_given_first() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nZZ\r\n"
    async with connected(saying(answer)) as (connection, _):
        connection.send(ASK, b"")
        assert await connection.head() == 200
        assert await connection.read() == b"half"
        with pytest.raises(BadResponse):
            await connection.read()


# -- answers that nobody asked for

OTHER = b"HTTP/1.1 500 Not Yours\r\nX-Other: 1\r\nContent-Length: 5\r\n\r\nother"


@pytest.mark.parametrize("rest", [OTHER, b"garbage", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_what_follows_an_answer_does_not_touch_it_and_ends_the_connection(rest: bytes) -> None:
    async with connected(saying(OK + rest)) as (connection, _):
        connection.send(ASK, b"")
        assert await whole(connection) == (200, b"ok")
        assert connection.headers == [(b"content-length", b"2")]
        assert not connection.reusable


async def test_an_answer_that_comes_later_to_nobody_ends_the_connection() -> None:
    go = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await go.wait()
        writer.write(OTHER)
        await silent(reader, writer)

    async with connected(handler) as (connection, _):
        connection.send(ASK, b"")
        assert await whole(connection) == (200, b"ok")
        assert connection.reusable
        go.set()
        await until(lambda: connection.closed)
        with pytest.raises(ConnectionLost) as caught:
            connection.send(ASK, b"")
    assert caught.value.code == "stale_connection"


@pytest.mark.parametrize("body", [b"ok", OTHER, b"a" * 12 + OTHER])
async def test_a_body_where_none_may_be_ends_the_connection(body: bytes) -> None:
    async with connected(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + body)) as (connection, _):
        connection.send(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n", b"", is_head=True)
        assert await whole(connection) == (200, b"")
        assert not connection.reusable


# -- flow control


async def test_a_slow_reader_pauses_the_upstream() -> None:
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(1024):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
        await silent(reader, writer)

    async with connected(handler) as (connection, _):
        connection.send(ASK, b"")
        await connection.head()
        await until(lambda: connection.reading_paused)
        assert connection.buffered < HIGH_WATER + 512 * 1024  # one read of the loop's above the mark
        got = 0
        while not connection.finished:
            got += len(await connection.read() or b"")
        assert got == 64 << 20


async def test_a_slow_upstream_pauses_the_writer() -> None:
    async with connected(lambda reader, writer: asyncio.get_running_loop().create_future()) as (connection, upstream):
        connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n", b"")
        await upstream.wait_for(lambda u: u.heads)
        while connection.unsent <= READ_AHEAD:
            connection.write(b"x" * 65536)
            await asyncio.sleep(0)
        waiting = asyncio.ensure_future(connection.drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert not connection.reusable
        connection.abort()
        await waiting  # a connection that is gone lets go of its writer
        with pytest.raises(ConnectionLost):
            connection.write(b"x")
        assert connection.unsent == 0


# -- what the relay uses


async def test_a_nudge_wakes_a_read_that_waits() -> None:
    async with connected(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")) as (connection, _):
        connection.send(ASK, b"")
        await connection.head()
        asyncio.get_running_loop().call_soon(connection.nudge)
        assert await connection.read() is None


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"identity, chunked"])
async def test_a_transfer_coding_besides_chunked_is_not_passed_on(coding: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with connected(saying(answer)) as (connection, _):
        connection.send(ASK, b"")
        with pytest.raises(BadResponse, match=r"Transfer-Encoding|not valid HTTP"):
            await connection.head()


async def test_a_small_request_goes_out_at_the_end_of_the_turn_and_a_large_one_at_once() -> None:
    async with connected(silent) as (connection, upstream):
        connection.send(ASK, b"x" * SMALL)
        await upstream.wait_for(lambda it: it.heads)
    async with connected(in_turn(OK)) as (connection, upstream):
        connection.send(ASK, b"")
        connection.write(b"more")  # goes out behind it
        assert await whole(connection) == (200, b"ok")
        assert upstream.heads == [ASK]


async def test_a_close_that_is_seen_before_a_request_goes_out_leaves_it_to_be_sent_again() -> None:
    async with connected(silent) as (connection, upstream):
        connection.send(ASK, b"")
        connection._transport.close()  # as the transport does itself when the peer's end is read in this turn
        with pytest.raises(ConnectionLost) as caught:
            await connection.head()
        assert caught.value.code == "stale_connection"
        assert upstream.heads == []


async def test_an_answer_that_was_not_read_to_its_end_leaves_no_connection_for_others() -> None:
    """Its reading may be paused, and the next answer would never be seen."""
    piece = b"7530\r\n" + b"x" * 30_000 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connected(saying(head + piece * 3 + b"0\r\n\r\n")) as (connection, _):
        connection.send(ASK, b"")
        await connection.head()
        await until(lambda: connection.complete or connection.reading_paused)
        assert not connection.reusable
        while not connection.finished:
            await connection.read()
        assert connection.reusable


# -- bytes that pass in the turn that brought them


class Passing:
    """What a relay sets: takes what it is given, or not."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.got: list[bytes] = []

    def __call__(self, chunk: bytes) -> bool:
        if self.takes:
            self.got.append(chunk)
        return self.takes


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def reading(passing: Passing) -> AsyncIterator[tuple[Connection, asyncio.Task[bytes | None]]]:
    """A connection whose chunked body somebody waits for, with `passing` set; packets come from the test."""
    async with connected(silent) as (connection, _):
        connection.send(ASK, b"")
        connection.data_received(CHUNKED_HEAD)
        connection.passing = passing
        waiting = asyncio.create_task(connection.read())
        await asyncio.sleep(0)
        yield connection, waiting
        waiting.cancel()


async def test_bytes_in_the_middle_pass_at_once_and_wake_nobody() -> None:
    passing = Passing()
    async with reading(passing) as (connection, waiting):
        connection.data_received(b"3\r\nabc\r\n2\r\nde\r\n")
        connection.data_received(b"1")
        connection.data_received(b"\r\nf\r\n")
        await asyncio.sleep(0)
        assert (passing.got, waiting.done()) == ([b"abcde", b"f"], False)


@pytest.mark.parametrize("end", [b"3\r\nend\r\n0\r\n\r\n", b"3\r\nend\r\nBROKEN\r\n"])
async def test_the_last_bytes_are_for_the_reader(end: bytes) -> None:
    passing = Passing()
    async with reading(passing) as (connection, waiting):
        connection.data_received(b"3\r\nabc\r\n")
        connection.data_received(end)
        assert await waiting == b"end"
        assert passing.got == [b"abc"]
        if b"BROKEN" in end:
            with pytest.raises(BadResponse):
                await connection.read()
        else:
            assert connection.finished


async def test_what_cannot_pass_is_read_in_order_and_counts_as_buffered_once() -> None:
    passing = Passing(takes=False)
    async with reading(passing) as (connection, waiting):
        for number in range(2):
            connection.data_received(b"3\r\n%03d\r\n" % number)
        assert await waiting == b"000001"
        passing.takes = True
        for _ in range(10):  # refused, and taken with the next before the reader has come to it
            waiting = asyncio.create_task(connection.read())
            await asyncio.sleep(0)
            passing.takes = False
            connection.data_received(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
            passing.takes = True
            connection.data_received(b"1\r\ny\r\n")
            waiting.cancel()
        assert passing.got == [b"x" * 0x2000 + b"y"] * 10
        assert not connection.reading_paused


async def test_a_reader_that_takes_nothing_pauses_the_upstream() -> None:
    passing = Passing(takes=False)
    async with reading(passing) as (connection, _):
        for _ in range(1 + HIGH_WATER // 0x2000):
            connection.data_received(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        assert connection.reading_paused
        connection.passing = None
        assert len(await connection.read() or b"") == HIGH_WATER + 0x2000
        assert not connection.reading_paused
