"""An exchange leaves nothing to the garbage collector: when it is over, nothing holds what it held."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from claude_proxy.proxy.call import WATCH_AFTER, Call
from tests.integration.leftovers import until
from tests.integration.listeners import Handler, listening, silent
from tests.integration.messages import FILES, MESSAGES, body, head, length, post
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.test_ends import CHUNKED, REASON, START, STOP, case, chunk, plays
from tests.integration.wire import ask, connect

SERVERS = ["claude_proxy.server.protocol:HardenedProtocol", "httptools"]
WHOLE = plays(CHUNKED + chunk(START + REASON + STOP) + b"0\r\n\r\n")
HEAD_ONLY = plays(CHUNKED + chunk(START), then="stay")
EARLY = plays(b"HTTP/1.1 413 Large\r\ncontent-length: 2\r\n\r\n{}", then="stay")
ENDS: dict[str, tuple[Handler, dict[str, Any]]] = {
    "completed": (WHOLE, {}),
    "unfinished": (plays(case("07")), {}),
    "cut": (plays(CHUNKED + chunk(START)), {}),
    "cut, with an error event": (plays(CHUNKED + chunk(START)), {"stream_cut": "error-event"}),
    "stalled": (HEAD_ONLY, {"stream_idle_timeout": 0.1}),
    "no answer": (plays(b""), {}),
    "no HTTP": (plays(b"hello\r\n\r\n"), {}),
    "no body": (plays(CHUNKED + b"zz\r\n"), {}),
    "too late": (silent, {"response_head_timeout": 0.1}),
    "a redirect": (plays(case("08")), {}),
}


def calls() -> list[Call]:
    """The calls that are still in memory."""
    return [thing for thing in gc.get_objects() if type(thing) is Call]


async def leaves_nothing(proxy: RunningProxy, count: int) -> None:
    """Once `count` exchanges have ended, none of them is in memory, without a collection."""
    await proxy.recorder.wait_for(count)
    await until(lambda: not calls())
    assert proxy.app.forward.running == proxy.app.forward._shelf.used == 0


@pytest.fixture
def uncollected() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("http", SERVERS)
@pytest.mark.parametrize("how", ENDS)
async def test_however_it_ends(how: str, http: str) -> None:
    handler, settings = ENDS[how]
    async with (
        listening(handler) as upstream,
        running_proxy(f"http://127.0.0.1:{upstream.port}", http=http, **settings) as proxy,
    ):
        await ask(proxy.port, "POST", MESSAGES, body=body())
        await leaves_nothing(proxy, 1)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("http", SERVERS)
async def test_also_if_nobody_listens_there(http: str) -> None:
    async with listening(silent) as upstream:
        port = upstream.port
    async with running_proxy(f"http://127.0.0.1:{port}", http=http) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=body())
        await leaves_nothing(proxy, 1)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("http", SERVERS)
@pytest.mark.parametrize("handler", [silent, HEAD_ONLY, EARLY], ids=["before the answer", "during the answer", "behind it"])
@pytest.mark.parametrize("upload", [False, True])
async def test_nor_if_the_client_leaves(handler: Handler, http: str, upload: bool) -> None:
    async with listening(handler) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}", http=http) as proxy:
        async with connect(proxy.port) as wire:
            wire.send(head("POST", FILES, length(3000)) + b"a" * 1000 if upload else post())
            await upstream.wait_for(lambda up: up.heads)
            if handler is not silent:
                await wire.head()
            await asyncio.sleep(2 * WATCH_AFTER)  # as long as it takes to be watched
        await leaves_nothing(proxy, 1)
