"""How an answer ends: as the upstream ended it (docs/design.md). The cases are answers from the field, as bytes on a socket."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import Exchange, Outcome
from tests.integration.listeners import Handler, Listener, listening
from tests.integration.messages import MESSAGES, MODELS, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, ask

CASES = Path(__file__).parent / "cases"
PINGS = (b'event: ping\ndata: {"type":"ping"}\n\n', b": keep-alive\n\n", b"\n\n", b"data: \n\n")
START = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"model":"glm-5.3","usage":{"input_tokens":31,"output_tokens":1}}}\n\n'
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"All is"}}\n\n'
)
REASON = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = HEAD + b"connection: close\r\n\r\n"


def case(name: str) -> bytes:
    """The bytes of a case, by the beginning of its name."""
    (path,) = CASES.glob(f"{name}*.http")
    return path.read_bytes()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def plays(data: bytes, *, then: str = "close", again: bytes = b"") -> Handler:
    """An upstream that answers with `data` and then closes, resets, stays, or says `again` every 30 ms."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        while then == "stay" and again:
            writer.write(again)
            await writer.drain()
            if await _left(reader, 0.03):
                return
        if then == "stay":
            await _left(reader, 60)
        elif then == "reset":
            await asyncio.sleep(0)
            writer.transport.abort()
        else:
            writer.close()

    return handler


async def _left(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether the peer leaves within this time; the request's body is read on the way."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(65536):
                pass
    except TimeoutError:
        return False
    return True


async def relayed(handler: Handler, **settings: Any) -> tuple[Reply, Exchange, Listener]:
    """One streamed Messages call to an upstream that is `handler`: reply, record, and the upstream."""
    async with listening(handler) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}", **settings) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body())
        (exchange,) = await proxy.recorder.wait_for(1)
    return reply, exchange, upstream


def payload(answer: bytes) -> bytes:
    """The body of a chunked case."""
    framed = answer.partition(b"\r\n\r\n")[2].removesuffix(b"0\r\n\r\n")
    return framed.partition(b"\r\n")[2].removesuffix(b"\r\n")


# -- the cases


@pytest.mark.parametrize(
    ("name", "outcome", "tokens"),
    [
        ("01", Outcome.COMPLETED, (31, 12)),
        ("02", Outcome.COMPLETED, (31, 12)),
        ("03", Outcome.UNFINISHED, None),
        ("04", Outcome.COMPLETED, (31, 12)),
        ("07", Outcome.UNFINISHED, (31, 1)),
    ],
)
async def test_a_stream_that_ends_cleanly_does_so_through_the_proxy(
    name: str, outcome: Outcome, tokens: tuple[int, int] | None
) -> None:
    reply, exchange, _ = await relayed(plays(case(name)))
    assert (reply.status, reply.body, reply.whole) == (200, payload(case(name)), True)
    assert exchange.outcome is outcome
    assert (exchange.usage and (exchange.usage.input, exchange.usage.output)) == tokens
    if outcome is Outcome.COMPLETED:
        assert exchange.failure is None
    else:
        assert exchange.failure is not None
        assert (exchange.failure.side, exchange.failure.kind) == ("upstream", "stream_unfinished")


async def test_the_last_event_without_its_blank_line_ends_an_answer_also_on_an_open_connection() -> None:
    data = case("01").removesuffix(b"0\r\n\r\n")
    reply, exchange, _ = await relayed(plays(data, then="stay"), ping_interval=0.02)
    assert (reply.body, reply.whole) == (payload(case("01")), True)
    assert (exchange.outcome, exchange.failure, exchange.pings) == (Outcome.COMPLETED, None, 0)


@pytest.mark.parametrize(("name", "code", "hint"), [("05", "1302", None), ("06", "1308", "false")])
async def test_an_error_is_known_whatever_its_label(name: str, code: str, hint: str | None) -> None:
    reply, exchange, _ = await relayed(plays(case(name), then="stay" if name == "06" else "close"))
    assert reply.status == 429
    assert reply.body.startswith(b'{"type":"error"')
    assert reply.body.endswith(b'[20261101]"}}')
    assert reply.get("x-should-retry") == hint
    assert exchange.failure is not None
    assert exchange.failure.provider_code == code


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "text/html; charset=utf-8", "text/event-stream", "application/problem+json"]
)
@pytest.mark.parametrize("text", ["%s", " \r\n%s", "\ufeff%s", "%s\n\n"])
@pytest.mark.parametrize("status", [400, 429, 529])
async def test_labels_and_blanks_do_not_hide_an_error(kind: str | None, text: str, status: int) -> None:
    error = text % '{"error":{"code":"1308","message":"Usage limit reached for 5 hour"}}'
    lines = [
        f"HTTP/1.1 {status} Whatever",
        f"content-length: {len(error.encode())}",
        *([f"content-type: {kind}"] if kind else []),
    ]
    reply, exchange, _ = await relayed(plays("\r\n".join(lines).encode() + b"\r\n\r\n" + error.encode()))
    assert (reply.status, reply.body, reply.get("x-should-retry")) == (status, error.encode(), "false")
    assert exchange.failure is not None
    assert exchange.failure.provider_code == "1308"


@pytest.mark.parametrize("framing", [CHUNKED, UNTIL_CLOSE], ids=["chunked", "until-close"])
@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json"])
async def test_a_bare_error_in_place_of_a_stream_is_recorded_as_one(framing: bytes, kind: bytes) -> None:
    error = b'{"code":1302,"msg":"High concurrency usage of this API"}'
    head = framing.replace(b"text/event-stream", kind)
    data = chunk(error) + b"0\r\n\r\n" if framing is CHUNKED else error
    reply, exchange, _ = await relayed(plays(head + data))
    assert (reply.status, reply.body, reply.whole) == (200, error, True)
    assert exchange.failure is not None
    assert (exchange.outcome, exchange.failure.provider_code) == (Outcome.COMPLETED, "1302")


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "where", ["http://user:secret@127.0.0.1:9/elsewhere?token=secret", "/elsewhere", "//127.0.0.1:9/x", "http://["]
)
async def test_a_redirect_is_answered_with_a_sentence_that_says_where_it_leads(status: int, where: str) -> None:
    answer = f"HTTP/1.1 {status} Moved\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n".encode()
    async with listening(plays(answer)) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, reply.get("x-should-retry"), reply.get("location")) == (502, "false", None)
    message = json.loads(reply.body)["error"]["message"]
    assert f"BASE_URL (http://127.0.0.1:{upstream.port})" in message
    assert ("127.0.0.1:9" if "127" in where else where) in message
    assert "secret" not in message
    assert exchange.failure is not None
    assert (exchange.failure.side, exchange.failure.kind) == ("proxy", "upstream_redirect")


async def test_the_redirect_of_the_field_names_both_addresses() -> None:
    reply, _, _ = await relayed(plays(case("08")))
    assert reply.status == 502
    assert b"http://127.0.0.1:9/elsewhere" in reply.body
    assert reply.get("x-claude-proxy-error") == "upstream_redirect"


async def test_a_redirect_can_be_passed_on() -> None:
    reply, _, _ = await relayed(plays(case("08")), upstream_redirects="pass")
    assert (reply.status, reply.get("location")) == (307, "http://127.0.0.1:9/elsewhere")


@pytest.mark.parametrize(
    "head", [b"304 Not Modified\r\nlocation: /x", b"300 Choices\r\nlocation: /x", b"307 Moved", b"201 Created\r\nlocation: /x"]
)
async def test_what_leads_nowhere_is_no_redirect(head: bytes) -> None:
    reply, _, _ = await relayed(plays(b"HTTP/1.1 " + head + b"\r\ncontent-length: 0\r\n\r\n"))
    assert reply.status == int(head[:3])


# -- behind the last event, and behind the stop reason


@pytest.mark.parametrize("again", [b"", *PINGS])
@pytest.mark.parametrize("framing", [CHUNKED, UNTIL_CLOSE], ids=["chunked", "until-close"])
async def test_behind_the_last_event_an_answer_ends_though_the_upstream_stays(framing: bytes, again: bytes) -> None:
    """The time-outs are minutes: that this ends at all is the proof."""
    whole = START + REASON + STOP
    data = framing + (chunk(whole) if framing is CHUNKED else whole)
    more = chunk(again) if framing is CHUNKED and again else again
    reply, exchange, upstream = await relayed(plays(data, then="stay", again=more), ping_interval=0.02)
    assert reply.whole
    assert reply.body.startswith(whole)
    assert reply.body.removeprefix(whole).replace(again, b"") == b""
    assert (exchange.outcome, exchange.failure, exchange.pings) == (Outcome.COMPLETED, None, 0)
    assert upstream.left  # its connection is not kept


@pytest.mark.parametrize("size", [1, 3, 20, 40])
async def test_a_last_event_in_pieces_is_seen_as_soon_as_it_is_whole(size: int) -> None:
    """Also if a cut goes through its name, so that no piece shows it. Neither a ping nor the idle deadline ends this."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(START + REASON))
        for at in range(0, len(STOP), size):
            assert not await _left(reader, 0.005)  # each piece passes on its own
            writer.write(chunk(STOP[at : at + size]))
        await _left(reader, 60)

    reply, exchange, _ = await relayed(handler, ping_interval=0)
    assert (reply.body, reply.whole) == (START + REASON + STOP, True)
    assert (exchange.outcome, exchange.failure) == (Outcome.COMPLETED, None)


@pytest.mark.parametrize("again", PINGS[:2])
async def test_behind_a_stop_reason_pings_alone_do_not_keep_a_stream_alive(again: bytes) -> None:
    whole = START + REASON
    handler = plays(CHUNKED + chunk(whole), then="stay", again=chunk(again))
    reply, exchange, upstream = await relayed(handler, stream_idle_timeout=0.3)
    assert reply.body.startswith(whole)
    assert (exchange.outcome, exchange.failure) == (Outcome.COMPLETED, None)
    assert reply.whole
    assert upstream.left


async def test_before_a_stop_reason_an_upstreams_pings_do() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(START))
        for _ in range(20):
            writer.write(chunk(PINGS[0]))
            assert not await _left(reader, 0.03)
        writer.write(chunk(REASON + STOP) + b"0\r\n\r\n")
        await _left(reader, 60)

    reply, exchange, _ = await relayed(handler, stream_idle_timeout=0.3)
    assert (reply.whole, exchange.outcome, exchange.failure) == (True, Outcome.COMPLETED, None)


@pytest.mark.parametrize("then", ["close", "reset", "stay"])
@pytest.mark.parametrize("whole", [START + REASON, START + REASON + STOP], ids=["reason", "stop"])
async def test_no_failure_is_recorded_of_an_answer_that_said_everything(whole: bytes, then: str) -> None:
    reply, exchange, _ = await relayed(plays(CHUNKED + chunk(whole), then=then), stream_idle_timeout=0.3)
    assert reply.body == whole
    assert (exchange.outcome, exchange.failure) == (Outcome.COMPLETED, None)
    assert reply.whole is (then == "stay")  # a cut stays a cut


@pytest.mark.parametrize("then", ["close", "reset", "stay"])
@pytest.mark.parametrize("whole", [START + REASON, START + REASON + STOP], ids=["reason", "stop"])
async def test_nor_if_it_was_compressed(whole: bytes, then: str) -> None:
    data = gzip.compress(whole)
    answer = HEAD + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(data)
    reply, exchange, _ = await relayed(plays(answer, then=then), stream_idle_timeout=0.3)
    assert reply.body == data
    assert (exchange.outcome, exchange.failure) == (Outcome.COMPLETED, None)
    assert reply.whole is (then == "stay")


async def test_an_answer_of_fixed_length_is_not_ended_before_it() -> None:
    whole = START + REASON + STOP
    head = HEAD + b"content-length: %d\r\n\r\n" % (len(whole) + 2)
    reply, exchange, _ = await relayed(plays(head + whole, then="stay"), stream_idle_timeout=0.3)
    assert (reply.body, reply.whole, exchange.failure) == (whole, False, None)


# -- an unfinished stream, by setting


@pytest.mark.parametrize("name", ["03", "07"])
async def test_a_clean_end_in_the_middle_can_be_passed_on_as_a_cut(name: str) -> None:
    reply, exchange, _ = await relayed(plays(case(name)), stream_unfinished="cut")
    assert (reply.body, reply.whole) == (payload(case(name)), False)
    assert exchange.outcome is Outcome.UNFINISHED


async def test_or_with_an_error_event_before_it() -> None:
    reply, exchange, _ = await relayed(plays(case("07")), stream_unfinished="cut", stream_cut="error-event")
    assert reply.body.startswith(payload(case("07")) + b"event: error\ndata: ")
    assert (reply.whole, exchange.outcome) == (True, Outcome.UNFINISHED)


@pytest.mark.parametrize("name", ["01", "02", "04"])
async def test_what_is_finished_stays_whole_with_any_setting(name: str) -> None:
    reply, exchange, _ = await relayed(plays(case(name)), stream_unfinished="cut", stream_cut="error-event")
    assert (reply.body, reply.whole, exchange.outcome) == (payload(case(name)), True, Outcome.COMPLETED)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_compressed_stream_is_judged_as_well(whole: bool) -> None:
    data = gzip.compress(START + REASON + STOP if whole else START)
    answer = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(data) + data
    reply, exchange, _ = await relayed(plays(answer))
    assert (reply.body, reply.whole) == (data, True)
    assert exchange.outcome is (Outcome.COMPLETED if whole else Outcome.UNFINISHED)


async def test_of_a_stream_that_nobody_here_can_decode_nothing_is_said() -> None:
    answer = HEAD + b"content-encoding: lzma\r\ncontent-length: 5\r\n\r\nabcde"
    _, exchange, _ = await relayed(plays(answer))
    assert (exchange.outcome, exchange.failure) == (Outcome.COMPLETED, None)


# -- answers that cannot be parsed


GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"zz\r\n",
        GOOD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        GOOD + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        GOOD + b"content-length: abc\r\n\r\n{}",
        GOOD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        GOOD + b"content-length: " + b"0" * 5000 + b"2\r\n\r\n{}",
        b"HTTP/1.1 429 Slow\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01 hello",
    ],
)
@pytest.mark.parametrize("pause", [False, True])
async def test_what_cannot_be_parsed_before_the_first_byte_went_out_is_a_502(answer: bytes, pause: bool) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, end, rest = answer.partition(b"\r\n\r\n")
        if not pause or not end:
            writer.write(answer)
        else:  # the head goes on its own
            writer.write(head + end)
            await writer.drain()
            if not await _left(reader, 0.05):
                writer.write(rest)
        await _left(reader, 60)

    reply, exchange, _ = await relayed(handler)
    assert (reply.status, reply.get("x-claude-proxy-error"), reply.whole) == (502, "bad_response", True)
    assert exchange.outcome is Outcome.FAILED


async def test_behind_the_first_byte_it_is_a_cut() -> None:
    reply, exchange, _ = await relayed(plays(CHUNKED + chunk(START) + b"zz\r\n"))
    assert (reply.status, reply.body, reply.whole, exchange.outcome) == (200, START, False, Outcome.CUT)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2  \r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-folded: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx-odd: a\x01b\xff\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx-nul: a\0b\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_what_nodes_or_pythons_clients_read_is_read(answer: bytes, bytewise: bool) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(len(answer)) if bytewise else ():
            writer.write(answer[at : at + 1])
            await writer.drain()
        if not bytewise:
            writer.write(answer)
        writer.write_eof()
        await _left(reader, 60)

    async with listening(handler) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        reply = await ask(proxy.port, "GET", MODELS)
    assert (reply.status, reply.body, reply.whole) == (200, b"{}", True)


async def test_a_connection_with_two_framings_is_not_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    async with listening(plays(answer, then="stay")) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        await ask(proxy.port, "GET", MODELS)
        await upstream.wait_for(lambda up: up.left)
        assert proxy.upstream_connections == 0
