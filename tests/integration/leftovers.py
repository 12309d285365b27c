"""Waiting for what nobody tells of: tasks that end, a state that comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Leftovers:
    """Remembers the tasks that run now, and tells whether others are left later."""

    def __init__(self) -> None:
        self._before = asyncio.all_tasks()

    async def gone(self, within: float = 5.0) -> None:
        """Wait for every task that is new to end.

        Raises:
            AssertionError: one still runs after `within` seconds.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        while new := asyncio.all_tasks() - self._before - {asyncio.current_task()}:
            _, running = await asyncio.wait(new, timeout=max(0.0, until - loop.time()))
            assert not running, running


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Let the loop turn until the condition holds.

    Raises:
        TimeoutError: it did not hold within so many seconds.
    """
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - there is no event for what the code under test keeps to itself
            await asyncio.sleep(0)
