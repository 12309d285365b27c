"""An event-stream parser that is slow and obvious: WHATWG HTML section 9.2.6, one byte at a time.

What the real one is held against.
"""

from claude_proxy.protocol.sse import Event


class Reference:
    """Parses byte by byte.

    Attributes:
        events: what has been dispatched so far.
        pending: whether the event that is being built has a line, or a line has begun.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._line = b""
        self._after_cr = False
        self._lines = 0
        self._name = ""
        self._data: list[bytes] = []

    @property
    def pending(self) -> bool:
        return bool(self._line) or self._lines > 0

    def feed(self, byte: bytes) -> None:
        if byte == b"\n" and self._after_cr:
            self._after_cr = False
            return
        self._after_cr = byte == b"\r"
        if byte in (b"\r", b"\n"):
            self._end_line()
        else:
            self._line += byte

    def _end_line(self) -> None:
        line, self._line = self._line, b""
        if not line:
            if self._data:
                self.events.append(Event(self._name or "message", b"\n".join(self._data)))
            self._name, self._data, self._lines = "", [], 0
            return
        self._lines += 1
        field, colon, value = line.partition(b":")
        if colon and value[:1] == b" ":
            value = value[1:]
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)


def events_of(stream: bytes) -> list[Event]:
    """All events that are complete in `stream`."""
    reference = Reference()
    for at in range(len(stream)):
        reference.feed(stream[at : at + 1])
    return reference.events
