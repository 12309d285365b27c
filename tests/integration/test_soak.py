"""Two thousand mixed exchanges with faults: one record each, the books right, nothing left."""

from __future__ import annotations

from collections import Counter

import pytest

from claude_proxy.simulator import Simulator
from tests.integration.leftovers import Leftovers, until
from tests.integration.proxy import running_proxy
from tests.integration.traffic import books_of, mixed_traffic

EXCHANGES = 2000
CLIENTS = 24
pytestmark = pytest.mark.timeout(180)


async def test_each_is_recorded_once_and_the_books_are_right(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        left = Leftovers()
        seen = await mixed_traffic(simulator, proxy.port, EXCHANGES, clients=CLIENTS)
        exchanges = await proxy.recorder.wait_for(EXCHANGES, 60)
        await left.gone()
        await until(lambda: proxy.app.forward.running == 0 and not proxy.server.server_state.connections)
        assert proxy.upstream_connections <= CLIENTS
        assert proxy.upstream_connections == proxy.app.forward.config.upstreams[0].pool.idle
        await simulator.wait_for(lambda sim: all(asked.outcome for asked in sim.requests))
    assert len(exchanges) == len({exchange.id for exchange in exchanges}) == EXCHANGES
    assert Counter(exchange.outcome for exchange in exchanges) == seen
    assert books_of(exchanges) == simulator.reported
