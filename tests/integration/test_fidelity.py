"""Byte fidelity as a differential test: the same request direct and proxied, compared where it arrives."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_proxy.fronts import added_by_front
from claude_proxy.simulator import Recorded, Scenario, Simulator, raw
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import Header, Reply, ask

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=20)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)
STAYS_HERE = {
    b"host", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"expect", b"cookie", b"content-length", b"http2-settings",
}  # fmt: skip
NAMES = TOKEN.filter(lambda n: n.lower().encode() not in STAYS_HERE and not added_by_front(n.lower().encode()))
HEADERS = st.lists(st.tuples(NAMES.map(str.encode), VALUE.map(str.encode)), max_size=12)
SEGMENT = st.text("abcXYZ019-_~!$&'()*+,;=:@", min_size=1, max_size=8) | st.sampled_from(["%2F", "%c3%A4", "a%20b", "v1.5"])
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
QUERY = st.text("abc019-_~!$&'()*+,;=:@/?%20".replace("%", ""), max_size=20)
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
BODY = st.binary(max_size=200)
MANY = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def upstream_view(recorded: Recorded) -> dict[str, Any]:
    """What an upstream could tell apart, less what belongs to the connection."""
    headers = Counter((n.lower(), v) for n, v in recorded.headers if n.lower() not in (b"host", b"connection"))
    return {"method": recorded.method, "target": recorded.target, "headers": headers, "body": recorded.body}


def client_view(reply: Reply) -> dict[str, Any]:
    """What a client could tell apart, less framing, `date` and `server`."""
    ours = (b"date", b"server", b"transfer-encoding", b"connection", b"keep-alive")
    headers = Counter((n.lower(), v) for n, v in reply.headers if n.lower() not in ours)
    return {"status": reply.status, "headers": headers, "body": reply.body, "whole": reply.whole}


class Pair:
    """A simulator and a proxy before it, kept over all examples of a test."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.sim = Simulator()
        self.runner.run(self.sim.start())
        self._proxy = running_proxy(self.sim.base_url)
        self.proxy = self.runner.run(self._proxy.__aenter__())

    def close(self) -> None:
        self.runner.run(self._proxy.__aexit__(None, None, None))
        self.runner.run(self.sim.stop())
        self.runner.close()

    def both(self, *args: Any, **kw: Any) -> tuple[Reply, Reply]:
        """The same request direct and through the proxy."""
        return self.runner.run(self._both(*args, **kw))

    async def _both(self, *args: Any, **kw: Any) -> tuple[Reply, Reply]:
        port = int(self.sim.url.rpartition(":")[2])
        direct = await ask(port, *args, **kw)
        return direct, await ask(self.proxy.port, *args, **kw)


@pytest.fixture(scope="module")
def pair() -> Any:
    pair = Pair()
    yield pair
    pair.close()


@MANY
@given(method=METHODS, path=PATH, query=QUERY, headers=HEADERS, body=BODY, chunked=st.booleans())
def test_any_request_arrives_upstream_as_it_was_sent(
    pair: Pair, method: str, path: str, query: str, headers: list[Header], body: bytes, chunked: bool
) -> None:
    has_body = method in ("POST", "PUT", "PATCH")
    target = "/api/anthropic" + path + (f"?{query}" if query else "")
    pair.sim.requests.clear()
    pair.sim.scenario = Scenario("raw", body=b"{}")
    pair.both(method, target, headers, body if has_body else b"", chunked=chunked and has_body)
    direct, proxied = pair.sim.requests
    assert upstream_view(proxied) == upstream_view(direct)


@MANY
@given(
    status=st.sampled_from([200, 201, 202, 203, 206, 301, 307, 400, 401, 404, 409, 413, 418, 422, 429, 451, 500, 503, 529, 599]),
    headers=HEADERS.map(
        lambda hs: [h for h in hs if h[0].lower() not in (b"date", b"server", b"retry-after", b"x-should-retry")]
    ),
    body=BODY,
    framing=st.sampled_from(["length", "chunked", "close"]),
)
def test_any_response_arrives_at_the_client_as_it_was_sent(
    pair: Pair, status: int, headers: list[Header], body: bytes, framing: str
) -> None:
    lines = [b"HTTP/1.1 %d Whatever" % status, *(n + b": " + v for n, v in headers)]
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:9], body[9:]) if p) + b"0\r\n\r\n"
    else:
        lines.append(b"Connection: close")
    pair.sim.scenario = raw(b"\r\n".join(lines) + b"\r\n\r\n" + body, then="keep" if framing != "close" else "close")
    direct, proxied = pair.both("GET", "/api/anthropic/v1/things")
    assert client_view(proxied) == client_view(direct)


STREAM = {"model": "glm-5.3", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}


@pytest.mark.parametrize("writes", ["whole", "event", "byte"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_stream_passes_byte_for_byte_however_it_is_cut(pair: Pair, writes: Any, newline: Any) -> None:
    import json

    pair.sim.scenario = Scenario("text", text="Grüße, 안녕하세요 \U0001f600", writes=writes, newline=newline)
    direct, proxied = pair.both("POST", "/api/anthropic/v1/messages?beta=true", body=json.dumps(STREAM).encode())
    assert proxied.body.replace(ids(proxied), b"") == direct.body.replace(ids(direct), b"")
    assert proxied.whole
    assert proxied.get("x-accel-buffering") == "no"


def ids(reply: Reply) -> bytes:
    """The message id, which differs from answer to answer."""
    return reply.body[reply.body.index(b"msg_sim_") :].split(b'"')[0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_compressed_answer_passes_raw_and_its_usage_is_still_read(
    simulator: Simulator, encoding: Any, stream: bool
) -> None:
    import json

    simulator.scenario = Scenario("text", text="hello", encoding=encoding)
    async with running_proxy(simulator.base_url) as proxy:
        body = json.dumps({**STREAM, "stream": stream}).encode()
        reply = await ask(proxy.port, "POST", "/api/anthropic/v1/messages", body=body)
        exchange = await proxy.last()
    assert reply.get("content-encoding") == encoding
    assert exchange.usage is not None
    assert exchange.usage.output == simulator.reported.output_tokens > 0


async def test_a_compressed_request_passes_raw(simulator: Simulator) -> None:
    import gzip

    body = gzip.compress(b'{"model":"m"}')
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "POST", "/api/anthropic/v1/messages", [(b"Content-Encoding", b"gzip")], body)
    assert simulator.requests[0].body == body
    assert simulator.requests[0].header("content-encoding") == "gzip"


async def test_fields_that_connection_names_and_proxy_credentials_stay_here(simulator: Simulator) -> None:
    fields = [
        (b"Connection", b"keep-alive, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Proxy-Authorization", b"Basic xyz"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"Cookie", b"a=b"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"Forwarded", b"for=10.0.0.1"),
        (b"anthropic-new-thing", b"yes"),
    ]
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "GET", "/api/anthropic/v1/models", fields)
    names = {name.lower() for name, _ in simulator.requests[0].headers}
    assert names == {b"host", b"anthropic-new-thing"}


async def test_one_date_and_one_server_and_no_hop_by_hop_field_in_a_response(simulator: Simulator) -> None:
    simulator.scenario = raw(
        b"HTTP/1.1 200 OK\r\nDate: yesterday\r\nServer: them\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n{}",
        then="keep",
    )
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "GET", "/api/anthropic/v1/models")
    assert len(reply.all("date")) == len(reply.all("server")) == 1
    assert reply.all("date") != ["yesterday"]
    assert reply.all("set-cookie") == ["a=1", "b=2"]
    assert reply.get("x-hop") is None
    assert reply.get("keep-alive") is None


@pytest.mark.parametrize(("status", "method"), [(204, "DELETE"), (304, "GET"), (200, "HEAD")])
async def test_a_response_without_body_passes_whatever_its_length_says(simulator: Simulator, status: int, method: str) -> None:
    simulator.scenario = raw(b"HTTP/1.1 %d X\r\nContent-Length: 12\r\nETag: q\r\n\r\n" % status, then="keep")
    async with running_proxy(simulator.base_url) as proxy:
        for _ in range(2):  # the connection is good for another
            reply = await ask(proxy.port, method, "/api/anthropic/v1/models")
            assert (reply.status, reply.body, reply.get("etag")) == (status, b"", "q")
    assert {r.connection for r in simulator.requests} == {1}


async def test_interim_answers_and_trailers_do_not_disturb_the_answer(simulator: Simulator) -> None:
    simulator.scenario = Scenario(
        "raw", body=b'{"a":1}', interim=((103, (("link", "</x>"),)), (100, ())), trailers=(("x-checksum", "1"),)
    )
    async with running_proxy(simulator.base_url) as proxy:
        for _ in range(2):
            reply = await ask(proxy.port, "GET", "/api/anthropic/v1/models")
            assert (reply.status, reply.body) == (200, b'{"a":1}')
            assert reply.get("x-checksum") is None
    assert {r.connection for r in simulator.requests} == {1}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_page_of_an_allowed_origin_may_read_an_answer(simulator: Simulator, stream: bool) -> None:
    async with running_proxy(simulator.base_url, allowed_origins=("https://app.example",)) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON, (b"origin", b"https://app.example")], body(stream=stream))
    assert (reply.status, reply.whole, reply.all("access-control-allow-origin")) == (200, True, ["https://app.example"])
