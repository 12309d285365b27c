"""Hand-written stand-ins for what the relay moves between, on a clock that only moves when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from claude_proxy.errors import ProxyError
from claude_proxy.exchange import Attempt, Exchange, Listeners
from claude_proxy.settings import load

Step = bytes | float | ProxyError  # bytes arrive, seconds pass in silence, or the connection breaks


class Clock:
    """What the path uses of an event loop: its time."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


class FakeDeadline:
    """Remembers until when the path wants to wait."""

    def __init__(self, loop: Clock) -> None:
        self.loop = loop
        self.at: float | None = None
        self.name = ""

    def arm_at(self, at: float, name: str) -> None:
        self.at, self.name = at, name

    def arm(self, name: str, seconds: float) -> None:
        self.arm_at(self.loop.now + seconds, name)

    def disarm(self) -> None:
        self.at = None


class FakeResponse:
    """An upstream's response that plays a script. It ends cleanly behind the last step."""

    def __init__(self, clock: Clock, deadline: FakeDeadline, steps: Iterable[Step]) -> None:
        self.status = 200
        self.headers = [(b"content-type", b"text/event-stream")]
        self.fields = dict(self.headers)
        self.passing: Callable[[bytes], bool] | None = None
        self.broken: ProxyError | None = None
        self.released = False
        self._clock = clock
        self._deadline = deadline
        self._steps = list(steps)

    @property
    def finished(self) -> bool:
        return not self._steps

    def take(self) -> bytes:
        return b""

    async def read(self) -> bytes | None:
        """The next bytes that nobody took as they passed; None when the armed wait ends sooner than a silence."""
        while self._steps:
            step = self._steps[0]
            if isinstance(step, float):
                until = self._clock.now + step
                if self._deadline.at is not None and self._deadline.at < until:
                    self._steps[0] = until - max(self._clock.now, self._deadline.at)
                    self._clock.now = max(self._clock.now, self._deadline.at)
                    self._deadline.at = None
                    return None
                self._clock.now = until
                self._steps.pop(0)
                continue
            self._steps.pop(0)
            if isinstance(step, ProxyError):
                self.broken = step
                raise step
            if self._steps and self.passing is not None and self.passing(step):
                continue
            return step
        return b""

    def nudge(self) -> None:
        raise AssertionError("the fake's deadline wakes `read` by itself")

    def release_headers(self) -> None:
        self.headers, self.fields = [], {}

    def abort(self) -> None:
        self._steps.clear()


class FakeReply:
    """The client: takes everything at once, or is slow (then nothing passes without waiting)."""

    def __init__(self, exchange: Exchange, *, slow: bool) -> None:
        self.sent: list[bytes] = []
        self.ended = False
        self._exchange = exchange
        self._slow = slow

    async def send(self, data: bytes, *, more: bool) -> None:
        assert not self.ended
        self._exchange.bytes_out += len(data)
        self._exchange.first_byte = 0.0
        if data:
            self.sent.append(data)
        self.ended = not more

    def writer(self) -> Callable[[bytes], bool]:
        return self._write

    def _write(self, data: bytes) -> bool:
        if not self._slow:
            self.sent.append(data)
        return not self._slow


class FakeCall:
    """What the relay uses of a Call."""

    def __init__(self, *, slow: bool = False, **settings: Any) -> None:
        self.loop = Clock()
        self.exchange = Exchange("cp_1", "POST", "/v1/messages", "127.0.0.1", self.loop.now, 0.0)
        self.exchange.attempts.append(Attempt("default", self.loop.now, head_at=self.loop.now))
        self.deadline = FakeDeadline(self.loop)
        self.reply = FakeReply(self.exchange, slow=slow)
        self.settings = load({}, **settings).settings
        self.listeners = Listeners()
        self.given_back = 0

    def give_back(self) -> None:
        self.given_back += 1

    def interrupt(self, reason: Exception) -> None:
        raise reason
