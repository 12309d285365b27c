"""Runs a simulator until the process is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from .recorded import Recorded
from .script import load
from .server import Simulator

HISTORY = 100
"""Requests kept in memory by a long-running simulator."""


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    script: Path | None = None,
    *,
    keys: Collection[str] = (),
    on_start: Callable[[Simulator], None] | None = None,
    on_end: Callable[[Recorded], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    ``on_start`` is called once the port is known, ``on_end`` after each request.

    Raises:
        ScriptError: the script cannot be read.
        OSError: the address cannot be bound.
    """
    scenario = None if script is None else load(script)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop instead
            loop.add_signal_handler(number, stop.set)
    async with Simulator(scenario, host, port, keys=keys, history=HISTORY, keep_body=8 << 20, on_end=on_end) as simulator:
        if on_start is not None:
            on_start(simulator)
        await stop.wait()
