"""Moving the chosen attempt's response to the client: chunk by chunk, the client first, then whoever looks at it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NoReturn

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError, render
from claude_proxy.exchange import Failure, Outcome
from claude_proxy.protocol.sse import PING, encode
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.call import Call
from claude_proxy.upstream.connection import Connection

READ_EVERY = 12  # chunks that pass before they are looked at
READ_AT_ONCE = 512  # bytes of a chunk that is looked at as it passes, with those before


class StreamBroken(Exception):
    """The answer cannot be brought to an honest end: it is passed on as a cut, by not completing the response."""


class Relay:
    """Relays one response.

    Args:
        call: the running exchange.
        connection: where the response comes from; its head has been read.
        answer: what is known of the response, and who looks at its bytes.
        complete: called when the upstream has said all, before the client has got the last of it.
    """

    def __init__(self, call: Call, connection: Connection, answer: Answer, complete: Callable[[Call], None]) -> None:
        self._call = call
        self._connection = connection
        self._answer = answer
        self._exchange = call.exchange
        self._feed = answer.way()
        self._write = call.way() or _nowhere
        self._unread: list[bytes] = []  # passed on, not looked at yet
        self._read_every = READ_EVERY if answer.unseen else 1
        self._now = call.loop.time
        self._complete = complete
        # When the upstream spoke last; when a ping was due last.
        self._heard = self._pinged = call.exchange.attempts[-1].head_at or call.loop.time()
        self._done = False
        settings = call.settings
        self._idle = settings.stream_idle_timeout if answer.watched else math.inf
        self._ping = settings.ping_interval if answer.pingable else 0.0

    async def run(self, first: bytes) -> None:
        """Relay everything, beginning with `first`, which has been read already.

        Raises:
            StreamBroken: the response broke off, stalled, or ended without its end.
        """
        if first:
            await self._pass(first)
        while not (self._done or self._connection.finished):
            await self._next()
        if not self._done:
            await self._end(b"")

    async def _next(self) -> None:
        """Wait for the next chunk, or for the time to look at the silence."""
        due = self._due()
        if due < math.inf:
            self._call.deadline.arm_at(due, "silence")
        else:
            self._call.deadline.disarm()
        try:
            chunk = await self._read()
        except (ConnectionLost, BadResponse) as error:
            await self._broken(Outcome.CUT, "stream_cut", error.message)
        except asyncio.CancelledError:  # the client may have left because of it
            self._hear(self._call.loop.time())
            raise
        if chunk is None:
            await self._silent()
        elif chunk:
            await self._pass(chunk)

    async def _read(self) -> bytes | None:
        """The next bytes that cannot pass at once."""
        connection = self._connection
        if self._write is not _nowhere and self._exchange.first_byte is not None:
            connection.passing = self._pass_at_once
        try:
            return await connection.read()
        finally:
            connection.passing = None
            self._catch_up()

    def _due(self) -> float:
        """When to look at the silence, should it last."""
        idle = self._heard + self._idle
        return min(idle, max(self._heard, self._pinged) + self._ping) if self._ping else idle

    async def _pass(self, chunk: bytes) -> None:
        """One chunk: to the client, then to the reader; the last one the other way round, for the end depends on it."""
        call = self._call
        self._hear(call.loop.time())
        if self._connection.finished:
            self._feed(chunk)
            await self._end(chunk)
            return
        await call.send_body(chunk, more=True)
        self._feed(chunk)
        # From here on it is the upstream that is silent: a slow client's time is not held against it.
        self._heard = call.loop.time()

    def _pass_at_once(self, chunk: bytes) -> bool:
        """The same for a chunk in the middle, in the turn of the loop that brought it: no task wakes for it.

        The silence deadline stays as it was armed; when it comes, it is seen when something was heard last. Returns False if
        the client reads slowly, or has left. This runs for each event of each stream, mostly after the processor has slept and
        forgotten all: what counts is how few steps it has.
        """
        exchange = self._exchange
        try:
            if not self._write(chunk):
                return False
            self._unread.append(chunk)
            if len(self._unread) >= self._read_every or len(chunk) >= READ_AT_ONCE:
                self._catch_up()
        except Exception as error:  # what the loop calls must not raise
            self._call.interrupt(error)
        now = self._now()
        silence = now - self._heard
        if silence > exchange.longest_silence:
            exchange.longest_silence = silence
        self._heard = now
        return True

    def _catch_up(self) -> None:
        """Look at what has passed: small pieces together, which costs hardly more than each."""
        if self._unread:
            passed = b"".join(self._unread)
            self._unread.clear()
            self._exchange.bytes_out += len(passed)
            self._feed(passed)

    def _hear(self, now: float) -> None:
        exchange = self._exchange
        if now - self._heard > exchange.longest_silence:
            exchange.longest_silence = now - self._heard
        self._heard = now

    async def _end(self, last: bytes) -> None:
        if self._answer.guarded and not self._answer.ended:
            if last:
                await self._call.send_body(last, more=True)
            await self._broken(Outcome.CUT, "stream_unfinished", "The upstream ended its stream without message_stop.")
        self._done = True
        self._complete(self._call)  # from here on the connection may be another exchange's
        await self._call.send_body(last, more=False)

    async def _silent(self) -> None:
        """Nothing came for a while: the stream is dead, or gets a ping so that nobody in between takes it for dead."""
        call = self._call
        now = call.loop.time()
        if now >= self._heard + self._idle:
            silence = now - self._heard
            call.exchange.longest_silence = max(silence, call.exchange.longest_silence)
            await self._broken(Outcome.STALLED, "stream_idle", f"The upstream fell silent for {silence:.0f} s in its answer.")
        if self._ping and now >= max(self._heard, self._pinged) + self._ping:
            self._pinged = now
            if self._answer.between:
                call.exchange.pings += 1
                await call.send_body(PING, more=True)

    async def _broken(self, outcome: Outcome, kind: str, message: str) -> NoReturn:
        exchange = self._call.exchange
        exchange.outcome = outcome
        exchange.failure = Failure("upstream", kind, message)
        if self._call.settings.stream_cut == "error-event" and self._answer.pingable and self._answer.between:
            await self._call.send_body(encode("error", render(ProxyError(message)).body), more=False)
        raise StreamBroken(message)


def _nowhere(_: bytes) -> bool:
    """Where a chunk goes at once under servers that know no such way."""
    return False
