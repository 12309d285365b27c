"""Moving the chosen attempt's response to the client: chunk by chunk, the client first, then whoever looks at it."""

from __future__ import annotations

from typing import NoReturn

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError, render
from claude_proxy.exchange import Failure, Outcome
from claude_proxy.protocol.sse import PING, encode
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.call import Call
from claude_proxy.upstream.connection import Connection


class StreamBroken(Exception):
    """The answer cannot be brought to an honest end: it is passed on as a cut, by not completing the response."""


class Relay:
    """Relays one response.

    Args:
        call: the running exchange.
        connection: where the response comes from; its head has been read.
        answer: what is known of the response, and who looks at its bytes.
    """

    def __init__(self, call: Call, connection: Connection, answer: Answer) -> None:
        self._call = call
        self._connection = connection
        self._answer = answer
        self._heard = call.loop.time()
        self._spoke = self._looked = self._heard
        self._done = False
        settings = call.settings
        self._idle = settings.stream_idle_timeout
        self._ping = settings.ping_interval if answer.pingable else 0.0
        self._tick = min(self._ping, self._idle) if self._ping else self._idle

    async def run(self, first: bytes) -> None:
        """Relay everything, beginning with `first`, which has been read already.

        Raises:
            StreamBroken: the response broke off, stalled, or ended without its end.
        """
        call, connection = self._call, self._connection
        if first:
            await self._pass(first)
        while not connection.finished:
            call.deadline.arm_from(self._looked, "silence", self._tick)
            try:
                chunk = await connection.read()
            except (ConnectionLost, BadResponse) as error:
                await self._broken(Outcome.CUT, "stream_cut", error.message)
            if chunk is None:
                await self._silent()
            elif chunk:
                await self._pass(chunk)
        if not self._done:
            await self._end(b"")

    async def _pass(self, chunk: bytes) -> None:
        """One chunk: to the client, then to the reader; the last one the other way round, for the end depends on it."""
        call, answer = self._call, self._answer
        now = call.loop.time()
        if now - self._heard > call.exchange.longest_silence:
            call.exchange.longest_silence = now - self._heard
        if self._connection.finished:
            answer.feed(chunk)
            await self._end(chunk)
            return
        await call.send_body(chunk, more=True)
        answer.feed(chunk)
        # From here on it is the upstream that is silent: a slow client's time is not held against it.
        self._heard = self._spoke = self._looked = call.loop.time()

    async def _end(self, last: bytes) -> None:
        if self._answer.guarded and not self._answer.ended:
            if last:
                await self._call.send_body(last, more=True)
            await self._broken(Outcome.CUT, "stream_unfinished", "The upstream ended its stream without message_stop.")
        self._done = True
        await self._call.send_body(last, more=False)

    async def _silent(self) -> None:
        """Nothing came for a while: the stream is dead, or gets a ping so that nobody in between takes it for dead."""
        call = self._call
        now = call.loop.time()
        self._looked = now
        silence = now - self._heard
        if silence >= self._idle:
            call.exchange.longest_silence = max(silence, call.exchange.longest_silence)
            await self._broken(Outcome.STALLED, "stream_idle", f"The upstream fell silent for {silence:.0f} s in its answer.")
        if self._ping and now - self._spoke >= self._ping and self._answer.between:
            self._spoke = now
            call.exchange.pings += 1
            await call.send_body(PING, more=True)

    async def _broken(self, outcome: Outcome, kind: str, message: str) -> NoReturn:
        exchange = self._call.exchange
        exchange.outcome = outcome
        exchange.failure = Failure("upstream", kind, message)
        if self._call.settings.stream_cut == "error-event" and self._answer.pingable and self._answer.between:
            await self._call.send_body(encode("error", render(ProxyError(message)).body), more=False)
        raise StreamBroken(message)
