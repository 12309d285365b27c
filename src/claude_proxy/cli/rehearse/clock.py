"""The rehearsal's clock: minutes of the script, which pass faster than real ones."""

from __future__ import annotations

import asyncio

MINUTE = 60.0


class Clock:
    """Stands at zero until `start`.

    Attributes:
        speed: script seconds in a real second.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began: float | None = None

    def start(self) -> None:
        """Let it run."""
        self._began = asyncio.get_running_loop().time()

    def real(self) -> float:
        """Real seconds since the start."""
        return 0.0 if self._began is None else asyncio.get_running_loop().time() - self._began

    @property
    def minute(self) -> float:
        """Minutes of the script since the start."""
        return self.real() * self.speed / MINUTE

    def at(self, time: float) -> float:
        """The minute of the script at a time of the event loop."""
        return 0.0 if self._began is None else (time - self._began) * self.speed / MINUTE

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of the script."""
        await asyncio.sleep(seconds / self.speed)

    async def until(self, minute: float) -> None:
        """Wait for a minute of the script."""
        await self.sleep(max(0.0, minute - self.minute) * MINUTE)


def shown(minute: float) -> str:
    """A minute of the script as minutes and seconds: 3:07."""
    seconds = int(minute * MINUTE)
    return f"{seconds // 60}:{seconds % 60:02}"
