"""Relays an answer to the client: each chunk goes to the client first, then to the reader and the tap.

A chunk in the middle of a stream is forwarded in the event loop iteration that received it (`_pass_at_once`), if the server
can do that. The exchange's task (`run`) wakes only for a slow client, at both ends of the stream, and in silence.
"""

from __future__ import annotations

import asyncio
import math
from typing import NoReturn

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError, render
from claude_proxy.exchange import Failure, Outcome
from claude_proxy.protocol.sse import PING, encode
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.response import Response

READ_EVERY = 12  # deltas that are parsed together, which costs hardly more than parsing one
READ_AT_ONCE = 512  # bytes; a chunk of this size is parsed as it passes
NEWLINE = 10
GRACE = 1.0  # seconds for the upstream to end its answer after the last event
MARK = b"message_"  # in the events that change an answer's state: start, delta with the stop reason, stop
ERROR = b"error"


class StreamBroken(Exception):
    """The answer did not end properly: it is passed on as a cut, by leaving the response incomplete."""


class Relay:
    """Relays one response.

    Args:
        call: the running exchange.
        response: its head has gone to the client.
        answer: what is known about the response; reads its bytes.
    """

    def __init__(self, call: Call, response: Response, answer: Answer) -> None:
        self._call = call
        self._response = response
        self._answer = answer
        self._exchange = call.exchange
        self._write = call.reply.writer()
        self._unread: list[bytes] = []  # passed on, not parsed yet
        self._amid = False  # whether what was parsed last ends in the middle of an event, and perhaps of a mark
        self._read_every = 1 if answer.tapped else READ_EVERY
        self._now = call.loop.time
        # When the upstream sent something last; when a ping was due last.
        self._heard = self._pinged = call.exchange.attempts[-1].head_at or call.loop.time()
        self._progress = self._heard  # when it last sent something that advances the answer
        self._stopped_at = math.inf  # when its last event was seen
        settings = call.settings
        self._idle = settings.stream_idle_timeout if answer.watched else math.inf
        self._ping = settings.ping_interval if answer.pingable else 0.0
        self._exchange.live = self._refresh

    async def run(self, first: bytes) -> None:
        """Relay everything, beginning with `first`, which has been read already.

        Raises:
            StreamBroken: the answer broke off or stalled.
        """
        try:
            chunk: bytes | None = first
            while not self._response.finished:
                if chunk is not None:
                    await self._pass(chunk)
                elif await self._silence():
                    return
                chunk = await self._next()
            await self._end(chunk or b"")
        finally:
            self._exchange.live = None

    async def _next(self) -> bytes | None:
        """The next bytes that could not be passed on at once; None when the silence has to be checked."""
        self._arm()
        response = self._response
        if self._write is not None and self._exchange.first_byte is not None:
            response.passing = self._pass_at_once
        try:
            return await response.read()
        except (ConnectionLost, BadResponse) as error:
            self._look()
            await self._break(Outcome.CUT, "stream_cut", error.message)
        except asyncio.CancelledError:  # the client may have disconnected because of the silence
            self._hear(self._now())
            raise
        finally:
            response.passing = None
            self._look()

    # -- the upstream sends

    async def _pass(self, chunk: bytes) -> None:
        """Pass on a chunk while the task is awake."""
        if not chunk:
            return
        self._hear(self._now())
        await self._call.reply.send(chunk, more=True)
        self._see(chunk)
        self._heard = self._now()  # the upstream's silence begins here: a slow client's time does not count

    def _pass_at_once(self, chunk: bytes) -> bool:
        """Pass on a chunk in the middle of a stream as it arrives. False if the client reads slowly or has disconnected: then the
        task takes it.

        The deadline is not armed again; when it fires, `_heard` tells when something arrived last. This runs for each event of
        each stream, mostly with cold CPU caches, so the number of its steps matters.
        """
        assert self._write is not None
        try:
            if not self._write(chunk):
                return False
            self._unread.append(chunk)
            small = len(chunk) < READ_AT_ONCE and len(self._unread) < self._read_every and chunk[-1] == NEWLINE
            if not small or self._amid or MARK in chunk or ERROR in chunk:
                self._look()
        except Exception as error:  # a callback of the event loop must not raise
            self._call.interrupt(error)
        now = self._now()
        silence = now - self._heard
        if silence > self._exchange.longest_silence:
            self._exchange.longest_silence = silence
        self._heard = now
        return True

    def _look(self) -> None:
        """Parse what was passed on at once."""
        if self._unread:
            passed = b"".join(self._unread)
            self._unread.clear()
            self._exchange.bytes_out += len(passed)
            self._see(passed)

    def _see(self, chunk: bytes) -> None:
        """Parse bytes that the client has got, and note how far the answer has come."""
        answer = self._answer
        had_said_all = answer.said_all
        answer.feed(chunk)
        self._amid = not answer.between
        if not had_said_all or MARK in chunk:
            self._progress = self._now()
        if answer.stopped and answer.endable and self._stopped_at == math.inf:
            self._stopped_at = self._now()
            self._arm()

    def _hear(self, now: float) -> None:
        self._exchange.longest_silence = max(self._exchange.longest_silence, now - self._heard)
        self._heard = now

    def _refresh(self) -> None:
        """Bring the exchange up to date for a watcher."""
        self._look()
        self._exchange.heard_at = self._heard
        self._answer.report(self._exchange)

    # -- the upstream is silent

    def _arm(self) -> None:
        due = self._due()
        if due < math.inf:
            self._call.deadline.arm_at(due, "silence")
        else:
            self._call.deadline.disarm()

    def _due(self) -> float:
        """When to check the silence, if it lasts."""
        if self._stopped_at < math.inf:
            return self._stopped_at + GRACE
        due = self._dead_at()
        return min(due, max(self._heard, self._pinged) + self._ping) if self._ping else due

    def _dead_at(self) -> float:
        """When the stream counts as dead. After a stop reason only what advances the answer counts as life, not pings."""
        return (self._progress if self._answer.said_all else self._heard) + self._idle

    async def _silence(self) -> bool:
        """Nothing has arrived for a while. Returns whether that ends the answer."""
        call, now = self._call, self._now()
        if now >= self._stopped_at + GRACE:
            await self._end(b"")
            return True
        if now >= self._dead_at():
            silence = now - self._heard
            self._exchange.longest_silence = max(silence, self._exchange.longest_silence)
            if self._answer.endable and self._answer.said_all:
                await self._end(b"")
                return True
            await self._break(Outcome.STALLED, "stream_idle", f"The upstream fell silent for {silence:.0f} s in its answer.")
        if self._ping and now >= max(self._heard, self._pinged) + self._ping:
            self._pinged = now
            if self._answer.between and not self._answer.stopped:
                self._exchange.pings += 1
                await call.reply.send(PING, more=True)
        return False

    # -- the end

    async def _end(self, last: bytes) -> None:
        """The answer has ended: a clean end stays a clean end, complete or not (docs/facts.md, "How a stream ends")."""
        call, answer = self._call, self._answer
        self._hear(self._now())
        answer.feed(last)
        answer.finish()
        call.give_back()  # from here on another exchange may use the connection
        if answer.unfinished:
            message = "The upstream ended its stream before its answer was complete."
            self._exchange.outcome = Outcome.UNFINISHED
            self._exchange.failure = Failure("upstream", "stream_unfinished", message)
            if call.settings.stream_unfinished == "cut":
                if last:
                    await call.reply.send(last, more=True)
                await self._cut(message)
        await call.reply.send(last, more=False)

    async def _break(self, outcome: Outcome, kind: str, message: str) -> NoReturn:
        """The answer broke off or stalled. If the message was complete, that is not a failure."""
        exchange, answer = self._exchange, self._answer
        answer.finish()
        if answer.judged and answer.complete:
            exchange.outcome = Outcome.COMPLETED
        else:
            exchange.outcome = outcome
            exchange.failure = Failure("upstream", kind, message)
        await self._cut(message)

    async def _cut(self, message: str) -> NoReturn:
        """Pass on a cut as a cut, or with an error event before it (STREAM_CUT)."""
        answer = self._answer
        if self._call.settings.stream_cut == "error-event" and answer.pingable and answer.between and not answer.complete:
            await self._call.reply.send(encode("error", render(ProxyError(message)).body), more=False)
        raise StreamBroken(message)
