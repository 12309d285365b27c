"""The load generator against the mock upstream, and against servers that answer badly."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks import exchanges, load, payload
from benchmarks.rows import BrokenAnswersError, Probe
from benchmarks.upstream import Upstream


@asynccontextmanager
async def serving(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    async with serving(lambda: Upstream(loop)) as number:
        yield number


class Canned(asyncio.Protocol):
    """Answers whatever comes with the given bytes, and hangs up if told so."""

    def __init__(self, answer: bytes, hang_up: bool = False) -> None:
        self.answer, self.hang_up = answer, hang_up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)
        if self.hang_up:
            self.transport.close()


async def whole_answer(port: int, request: bytes) -> bytes:
    """Everything that comes until the answer's end, which the mock marks by a length or a last chunk."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    size = load.announced(head)
    body = await reader.readexactly(size) if size is not None else b"\r\n" + await reader.readuntil(load.LAST_CHUNK)
    writer.close()
    return body


def unchunked(body: bytes) -> bytes:
    pieces = body.removeprefix(b"\r\n").removesuffix(b"\r\n0\r\n\r\n").split(b"\r\n")
    return b"".join(pieces[1::2])


@pytest.mark.parametrize("size", [2048, 400 * 1024])
@pytest.mark.parametrize("kind", payload.KINDS)
def test_a_request_body_is_valid_json_of_the_asked_size_that_ends_with_its_kind(kind: str, size: int) -> None:
    body = payload.request_body(kind, size)
    assert len(body) == size
    assert json.loads(body)["stream"] is (kind != "json")
    assert body.endswith(kind.encode() + payload.MARK)


async def test_the_mock_answers_json_with_two_kilobytes_of_message(port: int) -> None:
    body = await whole_answer(port, payload.request("json", port))
    assert len(body) == payload.JSON_ANSWER_SIZE
    assert json.loads(body)["type"] == "message"


async def test_the_mock_streams_every_event_of_a_fast_answer(port: int) -> None:
    events = unchunked(await whole_answer(port, payload.request("fast", port)))
    assert events == b"".join(payload.sse_events(payload.FAST_EVENTS))
    assert events.count(b"\n\n") == 53


async def test_the_mock_reads_a_request_that_comes_in_pieces(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = payload.request("json", port)
    cuts = [0, 10, request.index(b"\r\n\r\n") + 2, len(request) - 3, len(request)]
    for start, end in itertools.pairwise(cuts):
        writer.write(request[start:end])
        await asyncio.sleep(0)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    writer.close()


async def test_an_unknown_kind_is_not_answered_as_if_it_were_known(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404")
    writer.close()


@pytest.mark.parametrize("kind", ["json", "fast"])
async def test_every_exchange_is_counted_once(port: int, kind: str) -> None:
    tally = await load.drive(port, payload.request(kind, port), 7, 100)
    assert (tally.done, tally.failed) == (100, 0)
    assert tally.seconds > 0


async def test_after_the_deadline_nothing_more_is_sent(port: int) -> None:
    tally = await load.drive(port, payload.request("json", port), 2, 1000, seconds=-1)
    assert (tally.done, tally.failed) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "example"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", b"the connection was closed before the answer's end"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"the connection was closed before the answer's end",
        ),
    ],
    ids=["an error", "a cut body", "a cut stream"],
)
async def test_a_broken_answer_counts_as_failed_and_the_first_is_shown(answer: bytes, example: bytes) -> None:
    async with serving(lambda: Canned(answer, hang_up=True)) as port:
        tally = await load.drive(port, payload.request("json", port), 3, 30)
    assert (tally.done, tally.failed, tally.example) == (0, 3, example)


async def test_bytes_that_nobody_asked_for_count_as_failed() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"
    async with serving(lambda: Canned(answer + b"HTTP/1.1")) as port:
        tally = await load.drive(port, payload.request("json", port), 2, 2)
    assert (tally.done, tally.failed) == (0, 2)


async def test_a_last_chunk_that_comes_apart_is_still_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    class Apart(Canned):
        def data_received(self, data: bytes) -> None:
            self.send(list(head + b"1\r\na\r\n0\r\n\r\n"))

        def send(self, rest: list[int]) -> None:
            self.transport.write(bytes(rest[:1]))
            if rest[1:]:
                asyncio.get_running_loop().call_soon(self.send, rest[1:])

    async with serving(lambda: Apart(b"")) as port:
        tally = await load.drive(port, payload.request("fast", port), 2, 6)
    assert (tally.done, tally.failed) == (6, 0)


async def test_held_streams_stay_open_and_have_begun(port: int) -> None:
    async with load.held_streams(port, payload.request("hold", port), 5):
        pass


async def test_a_held_stream_that_closes_is_an_error() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"
    async with serving(lambda: Canned(answer, hang_up=True)) as port:
        with pytest.raises(RuntimeError, match="a stream was closed"):
            async with load.held_streams(port, b"x", 2):
                pass


async def test_the_probe_times_every_exchange(port: int) -> None:
    def ask() -> Probe:
        probe = Probe(port, 2048)
        for _ in range(5):
            probe.ask()
        probe.connection.close()
        return probe

    probe = await asyncio.to_thread(ask)
    assert len(probe.times) == 5
    probe.times = [0.001 * number for number in range(1, 101)]
    assert (probe.percentile(0.5), probe.percentile(0.99)) == (pytest.approx(51), pytest.approx(100))


async def test_the_probe_refuses_an_error() -> None:
    def ask(port: int) -> None:
        probe = Probe(port, 2048)
        try:
            probe.ask()
        finally:
            probe.connection.close()

    async with serving(lambda: Canned(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")) as port:
        with pytest.raises(BrokenAnswersError, match="500 Oops"):
            await asyncio.to_thread(ask, port)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ("200", True)),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 429 Slow\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", ("429", False)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ("200", True)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", ("cut", False)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", ("cut", False)),
        (b"", ("cut", False)),
    ],
)
async def test_the_soak_client_tells_a_whole_answer_from_a_cut(answer: bytes, outcome: tuple[str, bool]) -> None:
    async with serving(lambda: Canned(answer, hang_up=True)) as port:
        stream = await exchanges.connect(port)
        assert await exchanges.ask(stream, b"x") == outcome
        stream[1].close()


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (exchanges.Kind("auto", 1), ["200"], ["cut", "502"]),
        (exchanges.Kind("cut", 1, exchanges.BROKEN), ["cut", "502"], ["200", "500"]),
        (exchanges.Kind("error-event", 1, exchanges.EITHER), ["200", "cut"], ["502"]),
        (exchanges.Kind("slow", 1, leaves=True), ["left"], ["200", "cut"]),
        (exchanges.Kind("overloaded", 1, "529"), ["529"], ["200", "500"]),
    ],
)
def test_what_an_exchange_may_come_to(kind: exchanges.Kind, right: list[str], wrong: list[str]) -> None:
    assert all(kind.allows(outcome) for outcome in right)
    assert not any(kind.allows(outcome) for outcome in wrong)
