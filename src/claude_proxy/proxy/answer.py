"""What is known of a response while it passes: is it a Messages stream, what did it use, did it end as it should?"""

from __future__ import annotations

from collections.abc import Callable

from claude_proxy.exchange import Exchange, Tap
from claude_proxy.protocol.decoding import Decompressor, decompressor
from claude_proxy.protocol.usage import Reading, StreamReader, read_answer
from claude_proxy.proxy.target import Target

KEPT = 4 * 1024 * 1024  # bytes of an unstreamed answer that are kept to be read at its end


class Answer:
    """One response of an upstream.

    Attributes:
        is_stream: whether it is `text/event-stream`.
        guarded: an uncompressed 2xx Messages stream: the only thing that is watched for its end and gets pings.
        pingable: guarded, and of no fixed length, so that something may be put in between.
        watched: whether silence in it means that it has died; an event stream other than Messages' may be silent for hours.
    """

    __slots__ = (
        "_decompressor", "_json", "_kept", "_size", "_stream", "_taps",
        "guarded", "is_stream", "pingable", "status", "watched",
    )  # fmt: skip

    def __init__(self, target: Target, status: int, fields: dict[bytes, bytes], taps: list[Tap]) -> None:
        kind = fields.get(b"content-type", b"").lower()
        coding = fields[b"content-encoding"].strip().lower() if b"content-encoding" in fields else b"identity"
        encoded = coding != b"identity"
        readable = target.messages or target.count_tokens or status >= 400
        self.status = status
        self.is_stream = kind.startswith(b"text/event-stream")
        self.guarded = self.is_stream and target.messages and status < 300 and not encoded
        self.pingable = self.guarded and b"content-length" not in fields
        self.watched = target.messages or not self.is_stream
        self._taps = taps
        self._stream = StreamReader() if self.is_stream and readable else None
        self._json = readable and not self.is_stream and b"json" in kind
        self._kept: list[bytes] = []
        self._size = 0
        self._decompressor: Decompressor | None = decompressor(coding) if encoded and readable else None

    @property
    def unseen(self) -> bool:
        """Whether nobody but us looks at it: then it need not be in the moment in which it passes."""
        return not self._taps

    def way(self) -> Callable[[bytes], None]:
        """`feed`, or what does the same with fewer steps: for each chunk of a stream."""
        if self._stream is not None and not self._taps and self._decompressor is None:
            return self._stream.feed
        return self.feed

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        for tap in self._taps:
            tap(chunk)
        if self._decompressor is not None:
            chunk = self._decompressor.feed(chunk)
        if self._stream is not None:
            self._stream.feed(chunk)
        elif self._json and self._size <= KEPT:
            self._size += len(chunk)
            self._kept.append(chunk)

    @property
    def between(self) -> bool:
        """Whether the stream stands between two events."""
        return self._stream is not None and self._stream.between

    @property
    def ended(self) -> bool:
        """Whether a Messages stream has come to its end: `message_stop`, or an error in its place."""
        return self._stream is not None and (self._stream.stopped or self._stream.error is not None)

    def reading(self) -> Reading:
        """What the bytes so far say."""
        if self._stream is not None:
            return self._stream
        if self._json and self._size <= KEPT:
            return read_answer(b"".join(self._kept))
        return Reading()

    def report(self, exchange: Exchange) -> Reading:
        """Put what was read into the exchange."""
        reading = self.reading()
        exchange.usage = reading.usage
        exchange.stop_reason = reading.stop_reason
        exchange.model = exchange.model or reading.model
        self._kept = []
        return reading
