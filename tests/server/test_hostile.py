"""Bytes that a proxy must not act on: each is refused in the envelope, with the connection closed behind it."""

import asyncio

import pytest
from structlog.typing import EventDict

from tests.server.conftest import Serve, Serving, loud
from tests.server.wire import HOST, connect, get, post, wait_until

CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def head(*lines: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: a", *lines, b"", b""])


REFUSED = {
    # docs/facts.md, "ASGI servers"
    "te gzip, chunked": (head(b"Transfer-Encoding: gzip, chunked"), 501, "transfer_encoding"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
    # Framing: RFC 9112 sections 6.1 to 6.3
    "te and cl": (head(b"Transfer-Encoding: chunked", b"Content-Length: 3") + b"0\r\n\r\n", 400, "bad_request"),
    "cl and te": (head(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "bad_request"),
    "cl twice": (head(b"Content-Length: 3", b"Content-Length: 3") + b"abc", 400, "bad_request"),
    "cl list": (head(b"Content-Length: 3, 3") + b"abc", 400, "bad_request"),
    "cl plus": (head(b"Content-Length: +3") + b"abc", 400, "bad_request"),
    "cl minus": (head(b"Content-Length: -3") + b"abc", 400, "bad_request"),
    "cl hex": (head(b"Content-Length: 0x3") + b"abc", 400, "bad_request"),
    "cl empty": (head(b"Content-Length: ") + b"abc", 400, "bad_request"),
    "cl too large": (head(b"Content-Length: 99999999999999999999"), 400, "bad_request"),
    "te not last": (head(b"Transfer-Encoding: chunked, gzip"), 400, "bad_request"),
    "te twice": (head(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"), 400, "doubled_header"),
    "te chunked twice": (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400, "bad_request"),
    "te unknown": (head(b"Transfer-Encoding: xchunked"), 501, "transfer_encoding"),
    "te identity": (head(b"Transfer-Encoding: identity"), 501, "transfer_encoding"),
    "te vertical tab": (head(b"Transfer-Encoding: \x0bchunked"), 400, "bad_request"),
    "te in http/1.0": (head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"), 400, "bad_framing"),
    # Line ends, folds and control bytes: RFC 9112 sections 2.2 and 5.2
    "bare lf everywhere": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    "bare lf after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bad_request"),
    "bare lf after a header": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "bad_request"),
    "bare lf at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bad_request"),
    "bare cr": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "bad_request"),
    "obs-fold": (head(b"X: a", b" b"), 400, "bad_request"),
    "obs-fold with tab": (head(b"X: a", b"\tb"), 400, "bad_request"),
    "obs-fold of nothing": (head(b"X:", b" b"), 400, "bad_request"),
    "fold before the first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "bad_request"),
    "nul in a value": (head(b"X: a\0b"), 400, "bad_request"),
    "nul in a name": (head(b"X\0Y: a"), 400, "bad_request"),
    "control byte in a value": (head(b"X: a\x01"), 400, "bad_request"),
    "nul in the target": (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    "space before the colon": (head(b"X : a"), 400, "bad_request"),
    "space in a name": (head(b"X Y: a"), 400, "bad_request"),
    "no name": (head(b": a"), 400, "bad_request"),
    "no colon": (head(b"X"), 400, "bad_request"),
    # Host: RFC 9112 section 3.2
    "two hosts": (head(b"Host: b"), 400, "doubled_header"),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad_host"),
    "host with a user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "bad_host"),
    "host with a space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_host"),
    "host with a list": (b"GET / HTTP/1.1\r\nHost: a, b c\r\n\r\n", 400, "bad_host"),
    "host empty": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad_host"),
    # Target: RFC 9112 section 3.2
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03", 400, "connect"),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
    "another scheme": (b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
    "absolute with a user": (b"GET http://u@a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
    "absolute without a host": (b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
    "absolute without a Host": (b"GET http://a/b HTTP/1.1\r\n\r\n", 400, "bad_host"),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    "eight bits in the target": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    "relative target": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    # Other protocols
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"),
    "http/2.0 by name": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "http_version"),
    "http/0.9 by name": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "http_version"),
    "http/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400, "bad_request"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "tls_on_plain_port"),
    "unknown method": (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unknown_method"),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unknown_method"),
    "websocket": (head(b"Connection: upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.1"), 400, "websocket"),
}


@pytest.mark.parametrize(("raw", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_is_refused_in_the_envelope_before_the_app_sees_it(
    serving: Serving, log_lines: list[EventDict], raw: bytes, status: int, code: str
) -> None:
    async with connect(serving.port) as wire:
        await wire.send(raw)
        response = await wire.response()
        kind, message, said = response.error()
        assert (response.status, kind, said) == (status, "invalid_request_error", code)
        assert message.endswith(".")
        assert response.all("content-type") == ["application/json"]
        assert response.all("connection") == ["close"]
        assert response.all("x-should-retry") == ["false"]
        assert len(response.all("date")) == 1
        assert response.all("server") == ["claude-proxy"]
        assert await wire.rest() == b""
    assert serving.app.seen == []
    assert loud(log_lines) == []
    assert [line["code"] for line in log_lines if line["event"] == "refused"] == [code]


BROKEN_BODIES = {
    "bare lf after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare lf after the data": b"3\r\nabc\n0\r\n\r\n",
    "bare lf in an extension": b"3;a\nabc\r\n0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "data too long": b"3\r\nabcd\r\n0\r\n\r\n",
    "size too large": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n",
    "content-length among the trailers": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "transfer-encoding among the trailers": b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_that_breaks_is_refused_and_ends_the_apps_request(
    serving: Serving, log_lines: list[EventDict], body: bytes
) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST /silent HTTP/1.1\r\n", HOST, b"Transfer-Encoding: chunked\r\n\r\n")
        seen = await serving.app.request()
        await wire.send(body, get("/second"))
        response = await wire.response()
        assert (response.status, response.error()[2]) == (400, "bad_request")
        assert await wire.rest() == b""
    await seen.client_left()
    assert len(serving.app.seen) == 1
    assert loud(log_lines) == []


async def test_a_body_that_breaks_after_the_answer_began_cuts_the_answer(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"POST /endless HTTP/1.1\r\n", HOST, b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await wire.head()
        assert await wire.chunk() == b"first"
        await wire.send(b"nonsense\r\n")
        assert await wire.rest() == b""  # no final chunk, and no refusal in the middle of the answer
    await (await serving.app.request()).client_left()


ACCEPTED = {
    "cl with leading zeros": (head(b"Content-Length: 003") + b"abc", b"POST / abc"),
    "cl with a space behind": (head(b"Content-Length: 3 \t") + b"abc", b"POST / abc"),
    "chunked in capitals": (head(b"Transfer-Encoding: Chunked") + b"3\r\nabc\r\n0\r\n\r\n", b"POST / abc"),
    "chunk extension": (CHUNKED + b'3;a="b"\r\nabc\r\n0\r\n\r\n', b"POST / abc"),
    "get with a body": (head(b"Content-Length: 3", start=b"GET / HTTP/1.1") + b"abc", b"GET / abc"),
    "empty lines first": (b"\r\n\r\n" + get(), b"GET / "),
    "two slashes": (get("//a/b"), b"GET //a/b "),
    "dots": (get("/a/../b/%2e%2e/c"), b"GET /a/../b/%2e%2e/c "),
    "absolute": (b"GET http://b:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /p "),
    "absolute without a path": (b"GET HTTPS://b?q HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / "),
    "host v6": (b"GET / HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n", b"GET / "),
    "upgrade without connection": (head(b"Upgrade: h2c", b"Content-Length: 3") + b"abc", b"POST / abc"),
}


@pytest.mark.parametrize(("raw", "body"), ACCEPTED.values(), ids=ACCEPTED)
async def test_is_odd_but_harmless_and_accepted(serving: Serving, raw: bytes, body: bytes) -> None:
    async with connect(serving.port) as wire:
        await wire.send(raw)
        response = await wire.response()
        assert (response.status, response.body) == (200, body)
        await wire.send(get("/next"))
        assert (await wire.response()).body == b"GET /next "
    assert len(serving.app.seen) == 2


@pytest.mark.parametrize(("raw", "host"), [(b"http://b:1/p?q", "b:1"), (b"https://[::1]/", "[::1]")])
async def test_the_authority_of_an_absolute_target_replaces_host(serving: Serving, raw: bytes, host: str) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"GET ", raw, b" HTTP/1.1\r\nX-First: 1\r\nHost: a\r\n\r\n")
        await wire.response()
    (seen,) = serving.app.seen
    assert [value for name, value in seen.scope["headers"] if name == b"host"] == [host.encode()]


async def test_white_space_around_a_value_is_no_part_of_it(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/", b"X-Key: \t a b \t"))
        await wire.response()
    assert serving.app.seen[0].headers["x-key"] == "a b"


async def test_trailers_are_not_taken_for_headers(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(CHUNKED, b"3\r\nabc\r\n0\r\nAuthorization: Bearer stolen\r\nX-Late: 1\r\n\r\n")
        assert (await wire.response()).body == b"POST / abc"
        await wire.send(get("/next", b"X-Own: 1"))
        assert (await wire.response()).body == b"GET /next "
    first, second = serving.app.seen
    assert set(first.headers) == {"host", "transfer-encoding"}
    assert set(second.headers) == {"host", "x-own"}


UPGRADES = {
    "h2c": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"],
    "keep-alive too": [b"Connection: keep-alive, upgrade", b"Upgrade: foo/2"],
    "alone": [b"Connection: upgrade", b"Upgrade: h2c"],
}


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upgrade_that_nobody_speaks_is_ignored_and_the_body_arrives(
    serving: Serving, lines: list[bytes], chunked: bool
) -> None:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 3"
    body = b"3\r\nabc\r\n0\r\n\r\n" if chunked else b"abc"
    async with connect(serving.port) as wire:
        await wire.send(head(*lines, framing), body, get("/next"))
        assert (await wire.response()).body == b"POST / abc"
        assert (await wire.response()).body == b"GET /next "
    assert not {"upgrade", "http2-settings"} & set(serving.app.seen[0].headers)
    assert "upgrade" not in serving.app.seen[0].headers.get("connection", "").lower()


async def test_the_body_after_an_upgrade_may_come_later(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(head(*UPGRADES["h2c"], b"Content-Length: 3"))
        await serving.app.request()
        await wire.send(b"abc")
        assert (await wire.response()).body == b"POST / abc"


async def test_an_upgrade_on_a_last_request_is_ignored_too(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(head(b"Connection: close, upgrade", b"Upgrade: h2c", b"Content-Length: 3"), b"abc")
        response = await wire.response()
        assert (response.body, response.all("connection")) == (b"POST / abc", ["close"])


async def test_head_is_refused_without_a_body(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"HEAD /a#b HTTP/1.1\r\nHost: a\r\n\r\n")
        response = await wire.response(bodiless=True)
        assert (response.status, await wire.rest()) == (400, b"")


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_request_may_come_in_pieces(serving: Serving, size: int) -> None:
    raw = post("/", b"hello", b"X-Key: value")
    async with connect(serving.port) as wire:
        for start in range(0, len(raw), size):
            await wire.send(raw[start : start + size])
        assert (await wire.response()).body == b"POST / hello"


# Sizes and deadlines


async def test_headers_larger_than_the_limit_are_refused(serve: Serve) -> None:
    async with serve(head_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(get("/", b"X: " + b"a" * 1000))
        response = await wire.response()
        assert (response.status, response.error()[2]) == (431, "headers_too_large")
    assert serving.app.seen == []


async def test_headers_larger_than_the_limit_are_refused_in_pieces_too(serve: Serve) -> None:
    async with serve(head_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 500)
        await wait_until(lambda: serving.worker.server_state.connections)
        (connection,) = serving.worker.server_state.connections
        await wait_until(lambda: connection._head_timer is not None)
        await wire.send(b"a" * 500, b"\r\n\r\n")
        assert (await wire.response()).error()[2] == "headers_too_large"


async def test_headers_just_under_the_limit_are_not(serve: Serve) -> None:
    async with serve(head_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(get("/", b"X: " + b"a" * 900))
        assert (await wire.response()).status == 200
        await wire.send(get("/", b"X: " + b"a" * 900))
        assert (await wire.response()).status == 200


async def test_a_header_that_never_ends_is_refused_before_it_does(serve: Serve) -> None:
    async with serve(head_bytes=100_000) as serving, connect(serving.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 1_000_000)
        assert (await wire.response()).error()[2] == "headers_too_large"


async def test_too_many_headers_are_refused(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/", *[b"X: a"] * 10_000))
        response = await wire.response()
        assert (response.status, response.error()[2]) == (431, "too_many_headers")


async def test_trailers_count_as_headers(serve: Serve) -> None:
    async with serve(head_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(b"POST /silent HTTP/1.1\r\n", HOST, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
        seen = await serving.app.request()
        for _ in range(20):
            await wire.send(b"X: ", b"a" * 97, b"\r\n")
            if seen.ended.is_set():
                break
        assert (await wire.response()).error()[2] == "headers_too_large"


async def test_a_slow_body_in_small_pieces_is_no_flood(serve: Serve) -> None:
    async with serve(head_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(CHUNKED)
        for _ in range(100):
            await wire.send(b"1;note=", b"n" * 40, b"\r\na\r\n")
        await wire.send(b"0\r\n\r\n")
        assert (await wire.response()).body == b"POST / " + b"a" * 100


async def test_a_target_longer_than_the_limit_is_414(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(get("/" + "a" * 20_000))
        response = await wire.response()
        assert (response.status, response.error()[2]) == (414, "target_too_long")


async def test_a_target_that_never_ends_is_414(serve: Serve) -> None:
    async with serve(target_bytes=1000) as serving, connect(serving.port) as wire:
        await wire.send(b"GET /", b"a" * 2000)
        assert (await wire.response()).status == 414


async def test_headers_that_do_not_arrive_in_time_are_408(serve: Serve, log_lines: list[EventDict]) -> None:
    async with serve(head_seconds=0.05) as serving, connect(serving.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        response = await wire.response()
        assert (response.status, response.error()[2]) == (408, "slow_headers")
        assert response.all("x-should-retry") == []
        assert await wire.rest() == b""
    assert loud(log_lines) == []


async def test_the_deadline_for_headers_goes_before_that_of_an_idle_connection(serve: Serve) -> None:
    async with serve(head_seconds=0.1, keep_alive=0.02) as serving, connect(serving.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert (await wire.response()).status == 408


async def test_headers_that_came_in_time_leave_no_deadline_behind(serving: Serving) -> None:
    async with connect(serving.port) as wire:
        await wire.send(b"GET /wait HTTP/1.1\r\n")
        await wait_until(lambda: serving.worker.server_state.connections)
        (connection,) = serving.worker.server_state.connections
        await wait_until(lambda: connection._head_timer is not None)
        await wire.send(b"Host: a\r\n\r\n")
        await serving.app.request()
        assert connection._head_timer is None


async def test_dripping_bytes_do_not_extend_the_deadline(serve: Serve) -> None:
    async with serve(head_seconds=0.1, head_bytes=10**9) as serving, connect(serving.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        answered = wire.until(b"\r\n\r\n")

        async def drip() -> None:
            while not wire.reader.at_eof():
                await wire.send(b"a")
                await asyncio.sleep(0)  # the server runs in this loop too

        dripping = asyncio.create_task(drip())
        assert b" 408 " in await answered
        dripping.cancel()


async def test_the_deadline_is_for_headers_not_for_the_body(serve: Serve) -> None:
    async with serve(head_seconds=0.05, keep_alive=0.05) as serving, connect(serving.port) as wire:
        await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\n")
        await wire.send(b"Content-Length: 3\r\n\r\n")
        await serving.app.request()
        await asyncio.sleep(0.15)  # what must not happen has no event to wait for
        await wire.send(b"abc")
        assert (await wire.response()).body == b"POST / abc"


async def test_a_connection_that_says_nothing_is_closed(serve: Serve) -> None:
    async with serve(keep_alive=0.05, head_seconds=0.05) as serving, connect(serving.port) as wire:
        assert await wire.rest() == b""


async def test_empty_lines_do_not_keep_a_connection_open(serve: Serve) -> None:
    async with serve(keep_alive=0.05, head_seconds=0.05) as serving, connect(serving.port) as wire:
        await wire.send(b"\r\n" * 100)
        assert await wire.rest() == b""


async def test_an_idle_connection_is_closed_after_keep_alive(serve: Serve) -> None:
    async with serve(keep_alive=0.1) as serving, connect(serving.port) as wire:
        for _ in range(3):
            await wire.send(get())
            assert (await wire.response()).status == 200
        assert await wire.rest() == b""
