"""An upstream that is ourselves is told apart at once, and a longer circle still comes to an end."""

from __future__ import annotations

import json
import socket

import pytest

from tests.integration.leftovers import Leftovers, until
from tests.integration.messages import JSON, MESSAGES, PREFIX, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import ask

NAMES = ("127.0.0.1", "localhost", "0.0.0.0")


@pytest.mark.parametrize(
    ("listen", "host"), [*(("127.0.0.1", name) for name in NAMES), *(("0.0.0.0", name) for name in (*NAMES, "127.0.0.2"))]
)
async def test_base_url_points_at_ourselves(listen: str, host: str) -> None:
    sock = socket.create_server((listen, 0))
    async with running_proxy(f"http://{host}:{sock.getsockname()[1]}{PREFIX}", sock=sock) as proxy:
        left = Leftovers()
        for _ in range(3):
            reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
            envelope = json.loads(reply.body)
            assert (reply.status, reply.get("x-claude-proxy-error")) == (508, "upstream_is_self")
            assert "BASE_URL points back at this proxy" in envelope["error"]["message"]
            assert reply.get("x-should-retry") == "false"
        await left.gone()
        await until(lambda: not proxy.upstream_connections)
        # Under the address by which the client came it is known before anything is sent; under another, after one round.
        rounds = 1 if host in ("127.0.0.1", "localhost") else 2
        assert len(proxy.recorder.ended) == len(proxy.recorder.started) <= 3 * rounds


async def test_two_proxies_that_point_at_each_other_end_when_their_connections_do() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    bounds = {"max_connections": 8, "connect_timeout": 0.3}
    async with (
        running_proxy(f"http://127.0.0.1:{sock.getsockname()[1]}{PREFIX}", **bounds) as first,
        running_proxy(first.base_url, sock=sock, **bounds) as second,
    ):
        reply = await ask(second.port, "POST", MESSAGES, [JSON], body())
        assert reply.status == 503
        assert "MAX_CONNECTIONS" in json.loads(reply.body)["error"]["message"]
        await until(lambda: first.app.forward.running == second.app.forward.running == 0)
