"""What is known of a response while it passes: is it a Messages stream, what did it use, has it said everything?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_proxy.cleaning import clean
from claude_proxy.exchange import Exchange, Kind, Tap
from claude_proxy.protocol.decoding import Decompressor, decompressor
from claude_proxy.protocol.judge import NO_HEADERS
from claude_proxy.protocol.usage import ErrorBody, Reading, StreamReader, reader_of
from claude_proxy.proxy.target import Target

Contain = Callable[[str, Exception], None]


class Answer:
    """One response of an upstream, as our own reader sees it. A fault of the reader costs what it would have read.

    Args:
        tap: who else looks at the bytes, as they are.
        contain: told of a fault of the reader.

    Attributes:
        fields: the header fields of an error, by which some providers tell errors apart; of other answers none.
        is_stream: whether it is labelled `text/event-stream`.
        judged: a 2xx Messages stream, compressed or not: what is watched for its end.
        endable: judged, and of no fixed length, so that it may end when it has said everything.
        guarded: judged, and uncompressed.
        pingable: guarded and endable, so that something may be put in between.
        watched: whether silence in it means that it has died; an event stream other than Messages' may be silent for hours.
    """

    __slots__ = (
        "_contain", "_decompressor", "_reader", "_tap", "_unread",
        "endable", "fields", "guarded", "is_stream", "judged", "pingable", "status", "watched",
    )  # fmt: skip

    def __init__(
        self, target: Target, status: int, fields: Mapping[bytes, bytes], tap: Tap | None = None, contain: Contain | None = None
    ) -> None:
        kind = fields.get(b"content-type", b"").lower()
        coding = fields[b"content-encoding"].strip().lower() if b"content-encoding" in fields else b"identity"
        encoded = coding != b"identity"
        messages = target.kind is Kind.MESSAGES
        readable = messages or target.kind is Kind.COUNT_TOKENS or status >= 400
        self.status = status
        self.fields = fields if status >= 400 else NO_HEADERS
        self.is_stream = kind.startswith(b"text/event-stream")
        self.judged = self.is_stream and messages and status < 300
        self.guarded = self.judged and not encoded
        self.endable = self.judged and b"content-length" not in fields
        self.pingable = self.endable and not encoded
        self.watched = messages or not self.is_stream
        self._tap = tap
        self._contain = contain
        self._unread = readable  # whether the reader is still to be chosen, by the first bytes
        self._reader = Reading()
        self._decompressor: Decompressor | None = None
        if encoded and readable:
            try:
                self._decompressor = decompressor(coding)
            except Exception as error:  # as in `feed`
                self._give_up(error)

    @property
    def tapped(self) -> bool:
        """Whether somebody besides us wants each chunk as it passes."""
        return self._tap is not None and self._tap.at_once

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        if self._tap is not None:
            self._tap.on_data(chunk)
        try:
            if self._decompressor is not None:
                chunk = self._decompressor.feed(chunk)
            if self._unread and chunk.strip():
                self._unread = False
                self._reader = reader_of(chunk, labelled_stream=self.is_stream)
            self._reader.feed(chunk)
        except Exception as error:  # whatever it is, the client's bytes are worth more than our reading
            self._give_up(error)

    def finish(self) -> None:
        """The body has ended: read what only the end completes."""
        try:
            self._reader.finish()
        except Exception as error:  # as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._reader, self._unread, self._decompressor = Reading(), False, None
        self.judged = self.guarded = self.endable = self.pingable = False
        if self._contain is not None:
            self._contain("reader", error)

    @property
    def between(self) -> bool:
        """Whether the stream stands between two events."""
        return self._unread or (isinstance(self._reader, StreamReader) and self._reader.between)

    @property
    def stopped(self) -> bool:
        """Whether a Messages stream has come to its last event."""
        return self._reader.stopped

    @property
    def unfinished(self) -> bool:
        """Whether this is a Messages stream that could be read and has not said everything."""
        readable = self._decompressor is None or self._decompressor.alive
        return self.judged and readable and not self.said_all

    @property
    def complete(self) -> bool:
        """Whether nothing of the message is missing, as far as its reader knows."""
        return self._reader.complete

    @property
    def said_all(self) -> bool:
        """Whether nothing more is to be expected: the message is complete, or an error stands in its place."""
        return self._reader.complete or self._reader.error is not None

    @property
    def error(self) -> ErrorBody | None:
        """The error that the answer is, or that came in its stream."""
        return self._reader.error

    def report(self, exchange: Exchange) -> None:
        """Put what was read so far into the exchange."""
        reading = self._reader
        exchange.usage = reading.usage
        exchange.stop_reason = clean(reading.stop_reason, 100)
        if reading.model is not None:
            exchange.model_served = clean(reading.model, 200)
            exchange.model = exchange.model or exchange.model_served
