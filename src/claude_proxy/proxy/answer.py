"""What is known about a response while it passes through: whether it is a Messages stream, its usage, whether it is complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_proxy.cleaning import Cleaned
from claude_proxy.exchange import COUNT_TOKENS, MESSAGES, Exchange, Tap
from claude_proxy.protocol.decoding import Decompressor, decompressor
from claude_proxy.protocol.judge import NO_HEADERS
from claude_proxy.protocol.usage import ErrorBody, Reading, StreamReader, reader_of
from claude_proxy.proxy.target import Target

_reason, _model = Cleaned(100), Cleaned(200)
_NOTHING = Reading()  # of an answer that is not read; it never changes
Contain = Callable[[str, Exception], None]


class Answer:
    """One response of an upstream, as our own reader sees it. If the reader fails, only what it would have read is lost.

    Args:
        tap: gets the raw bytes as well.
        contain: called when the reader raises an exception.

    Attributes:
        fields: the header fields of an error, by which some providers tell errors apart; of other answers none.
        is_stream: whether it is labelled `text/event-stream`.
        judged: whether it is a 2xx Messages stream, compressed or not, which should end with a complete message.
        endable: judged, and without a Content-Length, so that we may end it once the message is complete.
        guarded: judged and uncompressed.
        pingable: guarded and endable, so that pings may be inserted.
        watched: whether silence means that it is dead; an event stream of another endpoint may be silent for hours.
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
        messages = target.kind is MESSAGES
        readable = messages or target.kind is COUNT_TOKENS or status >= 400
        self.status = status
        self.fields = fields if status >= 400 else NO_HEADERS
        self.is_stream = self.judged = self.guarded = self.endable = self.pingable = False
        self.watched = True
        if kind.startswith(b"text/event-stream"):
            self.is_stream = True
            self.judged = messages and status < 300
            self.guarded = self.judged and not encoded
            self.endable = self.judged and b"content-length" not in fields
            self.pingable = self.endable and not encoded
            self.watched = messages
        self._tap = tap
        self._contain = contain
        self._unread = readable  # whether the reader is still to be chosen, from the first bytes
        self._reader = _NOTHING
        self._decompressor: Decompressor | None = None
        if encoded and readable:
            try:
                self._decompressor = decompressor(coding)
            except Exception as error:  # as in `feed`
                self._give_up(error)

    @property
    def tapped(self) -> bool:
        """Whether the tap wants each chunk as it passes."""
        return self._tap is not None and self._tap.at_once

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        if self._tap is not None:
            self._tap.on_data(chunk)
        try:
            if self._decompressor is not None:
                chunk = self._decompressor.feed(chunk)
            if self._unread and chunk.strip():
                self._unread = False
                self._reader = reader_of(chunk, labelled_stream=self.is_stream)
            self._reader.feed(chunk)
        except Exception as error:  # any of them: our fault must not cost the client its bytes
            self._give_up(error)

    def finish(self) -> None:
        """The body has ended: let the reader complete its work."""
        try:
            self._reader.finish()
        except Exception as error:  # as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._reader, self._unread, self._decompressor = _NOTHING, False, None
        self.judged = self.guarded = self.endable = self.pingable = False
        if self._contain is not None:
            self._contain("reader", error)

    @property
    def between(self) -> bool:
        """Whether the stream is between two events."""
        return self._unread or (isinstance(self._reader, StreamReader) and self._reader.between)

    @property
    def stopped(self) -> bool:
        """Whether a Messages stream has reached its last event."""
        return self._reader.stopped

    @property
    def unfinished(self) -> bool:
        """Whether this is a readable Messages stream that has neither a complete message nor an error."""
        readable = self._decompressor is None or self._decompressor.alive
        return self.judged and readable and not self.said_all

    @property
    def complete(self) -> bool:
        """Whether the message is complete, as far as its reader knows."""
        return self._reader.complete

    @property
    def said_all(self) -> bool:
        """Whether nothing more is expected: the message is complete, or an error took its place."""
        return self._reader.complete or self._reader.error is not None

    @property
    def error(self) -> ErrorBody | None:
        """The error in the body or in the stream; None if there is none."""
        return self._reader.error

    def report(self, exchange: Exchange) -> None:
        """Copy what was read so far into the exchange."""
        reading = self._reader
        exchange.usage = reading.usage
        exchange.stop_reason = reading.stop_reason and _reason[reading.stop_reason]
        if reading.model is not None:
            exchange.model_served = _model[reading.model]
            exchange.model = exchange.model or exchange.model_served
