"""Each server by itself: what SIGTERM does to a running stream, and what follows a worker's death."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from claude_proxy.simulator import Simulator
from tests.deploy.calls import Call, Way, stream
from tests.deploy.fronts import Certificate
from tests.deploy.servers import KINDS, all_ready, server

pytestmark = pytest.mark.system


@pytest.mark.parametrize("name", KINDS)
async def test_a_stream_in_flight_is_finished_on_sigterm(name: str, simulator: Simulator, tmp_path: Path) -> None:
    call = Call("stall;n=3;until=release")
    async with server(name, tmp_path, simulator.base_url) as started:
        way = Way(started.port, False, Certificate.make(tmp_path))
        async with way.client() as client, stream(client, way, call) as events:
            await anext(events)
            started.program.process.send_signal(signal.SIGTERM)
            await started.stops_answering()
            simulator.release()
            seen = [event async for event in events]
        assert seen[-1] == "message_stop"
        assert await started.program.ended() == started.kind.exit_code


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.workers > 1])
async def test_a_worker_that_dies_is_replaced(name: str, simulator: Simulator, tmp_path: Path) -> None:
    async with server(name, tmp_path, simulator.base_url) as started:
        wanted = started.kind.workers
        await started.program.until(lambda: started.has_workers(wanted))
        victim = started.workers()[0]
        os.kill(victim, signal.SIGKILL)
        await started.program.until(lambda: started.has_workers(wanted, without=victim))
        await started.program.until(lambda: all_ready(started.program, wanted + 1))
        way = Way(started.port, False, Certificate.make(tmp_path))
        for _ in range(2 * wanted):
            async with way.client() as client, stream(client, way, Call()) as events:
                assert [event async for event in events][-1] == "message_stop"
