"""Each server behind each front: what a client must be able to count on, whatever stands between.

`pytest -m system` runs every server direct and every front before `serve`; `make matrix` (MATRIX=all) runs all pairs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import httpx
import pytest

from claude_proxy.simulator import Simulator
from tests.deploy.calls import CLIENT, MESSAGES, Call, Way, stream
from tests.deploy.fronts import FRONTS, SILENCE, Certificate, front
from tests.deploy.servers import KINDS, PREFIX, Server, server

pytestmark = pytest.mark.system
MIB = 1024**2
PING = 0.5
ALL = os.environ.get("MATRIX") == "all"
PAIRS = [(kind, between) for kind in KINDS for between in ("direct", *FRONTS) if ALL or between == "direct" or kind == "serve"]


@dataclass(frozen=True)
class Pair:
    """A server, the way to it, and the upstream behind it."""

    server: Server
    way: Way
    simulator: Simulator
    fronted: bool

    @property
    def versions(self) -> tuple[bool, ...]:
        """With HTTP/2 or without: both where there is TLS."""
        return (False, True) if self.way.tls else (False,)


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[Simulator]:
    """One simulator for all pairs."""
    async with Simulator(keep_body=MIB) as running:
        yield running


@pytest.fixture(scope="module", params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def pair(
    request: pytest.FixtureRequest, upstream: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """The server, and the front before it, running."""
    kind, between = request.param
    folder = tmp_path_factory.mktemp(f"{kind}-{between}")
    certificate = Certificate.make(folder)
    direct = between == "direct"
    settings = {"PING_INTERVAL": str(PING)}
    async with server(kind, folder, upstream.base_url, certificate=certificate if direct else None, **settings) as started:
        if direct:
            yield Pair(started, Way(started.port, started.tls, certificate), upstream, fronted=False)
            return
        (folder / "front").mkdir()
        async with front(between, folder / "front", certificate, started.port) as before:
            yield Pair(started, Way(before.https, True, certificate), upstream, fronted=True)


async def test_the_first_event_arrives_before_the_last_is_sent(pair: Pair) -> None:
    for http2 in pair.versions:
        pair.simulator.hold()
        call = Call("stall;n=3;until=release")
        async with pair.way.client(http2=http2) as client, stream(client, pair.way, call) as events:
            seen = [await anext(events), await anext(events)]
            assert call.at(pair.simulator).outcome is None
            pair.simulator.release()
            seen += [event async for event in events]
        assert seen[0] == "message_start"
        assert seen[-1] == "message_stop"


async def test_a_client_that_leaves_a_stream_ends_it_at_the_upstream(pair: Pair) -> None:
    for http2 in pair.versions:
        call = Call("stall;n=3")
        async with pair.way.client(http2=http2) as client, stream(client, pair.way, call) as events:
            await anext(events)
        await call.left(pair.simulator)


async def test_a_client_that_leaves_before_the_answer_ends_it_at_the_upstream(pair: Pair) -> None:
    for http2 in pair.versions:
        call = Call("stall-head")
        async with pair.way.client(http2=http2) as client, anyio.create_task_group() as group:
            group.start_soon(no_answer, client, pair.way, call)
            await call.received(pair.simulator)
            group.cancel_scope.cancel()
        await call.left(pair.simulator)


async def no_answer(client: httpx.AsyncClient, way: Way, call: Call) -> None:
    """Send a message that is never answered; ends by being cancelled."""
    async with stream(client, way, call):
        raise AssertionError("an answer came")


async def test_the_log_has_the_clients_address_and_spoofing_changes_nothing(pair: Pair) -> None:
    call = Call(**{"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9", "x-real-ip": "203.0.113.9"})
    async with pair.way.client() as client, stream(client, pair.way, call) as events:
        assert [event async for event in events][-1] == "message_stop"
    line = await logged(pair.server, call)
    if pair.fronted and not pair.server.kind.told_client:
        assert '"client":"127.0.0.1"' in line  # the front's: this server cannot be told whom to believe
    else:
        assert f'"client":"{CLIENT}"' in line
    sent = {name.decode().lower() for name, _ in call.at(pair.simulator).headers}
    assert not sent & {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via"}


async def test_behind_a_front_the_upstream_learns_nothing_of_it(pair: Pair) -> None:
    call = Call(**{"x-of-my-own": "kept", "under_score": "kept"})
    async with pair.way.client() as client, stream(client, pair.way, call) as events:
        assert [event async for event in events][-1] == "message_stop"
    sent = {name.decode().lower(): value.decode() for name, value in call.at(pair.simulator).headers}
    assert sent["x-of-my-own"] == "kept"
    assert ("under_score" in sent) == pair.server.kind.keeps_underscores
    assert sent["authorization"] == "Bearer client-key"
    assert not [name for name in sent if name.startswith(("x-forwarded", "x-real", "cf-", "true-client"))]


async def test_the_path_arrives_as_it_was_sent_under_a_prefix_or_not(pair: Pair) -> None:
    async with pair.way.client() as client:
        for prefix in ("", PREFIX):
            call = Call()
            path = f"{prefix}/api/anthropic/v1/files/a%2Fb%20c/content?x=%2F&y=a%20b"
            response = await client.get(path, headers=call.headers, extensions=pair.way.extensions)
            assert call.at(pair.simulator).target == b"/api/anthropic/v1/files/a%2Fb%20c/content?x=%2F&y=a%20b", response.text


async def test_the_pages_know_the_prefix(pair: Pair) -> None:
    async with pair.way.client() as client:
        facts = (await client.get(f"{PREFIX}/", headers={"accept": "application/json"}, extensions=pair.way.extensions)).json()
        docs = await client.get(f"{PREFIX}/docs", extensions=pair.way.extensions)
    scheme = "https" if pair.way.tls and (pair.server.kind.told_scheme or not pair.fronted) else "http"
    assert facts["base_url"] == f"{scheme}://{pair.way.host}{PREFIX}/api/anthropic"
    assert docs.status_code == 200
    assert f"{PREFIX}/openapi.json" in docs.text


async def test_no_redirect_on_the_api(pair: Pair) -> None:
    async with pair.way.client() as client:
        for method, path in (
            ("HEAD", "/api/anthropic/api/hello"),
            ("HEAD", "/api/anthropic"),
            ("GET", "/api/anthropic/v1/models?limit=1000"),
        ):
            response = await client.request(method, path, extensions=pair.way.extensions)
            assert response.status_code in (200, 204), f"{method} {path}: {response.status_code}"


async def test_an_upload_of_100_mb_passes(pair: Pair) -> None:
    call = Call()
    part = os.urandom(MIB)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield part

    async with pair.way.client() as client:
        response = await client.post(
            "/api/anthropic/v1/files", content=body(), headers=call.headers, extensions=pair.way.extensions, timeout=60
        )
    received = call.at(pair.simulator)
    assert (received.complete, received.body_size) == (True, 100 * MIB), response.text


async def test_pings_keep_a_silent_stream_alive_longer_than_the_front_bears_silence(pair: Pair) -> None:
    for http2 in pair.versions:
        pair.simulator.hold()
        call = Call("stall;n=2;until=release")
        wanted = int(SILENCE / PING) + 2
        async with pair.way.client(http2=http2) as client, stream(client, pair.way, call) as events:
            pings = 0
            seen = []
            async for event in events:
                pings += event == "ping"
                seen.append(event)
                if pings == wanted:
                    pair.simulator.release()
        assert seen[-1] == "message_stop"


async def test_an_error_of_the_upstream_arrives_as_it_is(pair: Pair) -> None:
    for http2 in pair.versions:
        call = Call("zai-1308")
        call.headers["authorization"] = f"Bearer {call.session}"  # a used-up account is not asked again
        body = {"model": "glm-4.7", "messages": []}
        async with pair.way.client(http2=http2) as client:
            response = await client.post(MESSAGES, json=body, headers=call.headers, extensions=pair.way.extensions)
        assert response.status_code == 429
        assert "1308" in response.text
        assert response.headers.get_list("content-type") == ["application/json"]
        assert len(response.headers.get_list("date")) == 1
        assert len(response.headers.get_list("server")) <= 1


async def logged(started: Server, call: Call) -> str:
    """The proxy's log line of a call."""
    lines: list[str] = []

    async def there() -> bool:
        lines[:] = [line for line in started.program.output.splitlines() if call.session in line]
        return bool(lines)

    await started.program.until(there)
    return lines[0]
