"""Server-sent events as they arrive: where one ends, and what the few that matter say.

The format is WHATWG HTML section 9.2.6: lines end in LF, CRLF or CR; an empty line ends an event. Chunks may be cut
anywhere. `Splitter` is on the hot path of every stream, so it looks for boundaries and leaves parsing to who needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_END_OF_LINE = re.compile(rb"\r\n|\n|\r")
# Two line ends or more in a row. A CR that is the last byte so far may be half of a CRLF: its LF then opens the next chunk.
_BOUNDARY = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?!\n))+")
MAX_EVENT = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name (`message` if it had none) and its data, lines joined by LF."""

    name: str
    data: bytes


class Splitter:
    """Cuts a stream of chunks into regions of whole events.

    An event larger than `limit` bytes is skipped over, not kept: `feed` then returns nothing of it.

    Attributes:
        between: True while no event is half sent, that is, when something may be put in between.
    """

    __slots__ = ("_limit", "_rest", "_skipping", "between")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False
        self.between = True

    def feed(self, chunk: bytes) -> bytes:
        """Take the next chunk; return the whole events that it completes, b"" if none."""
        if not self._rest and chunk.endswith(b"\n\n"):
            self.between = True
            return chunk
        return self._join(chunk)

    def pending(self, mark: bytes) -> bool:
        """Whether the event that has begun contains `mark` so far. Of a long one only the end is searched."""
        return self._rest.find(mark, max(0, len(self._rest) - 512)) >= 0

    def so_far(self) -> bytes:
        """The event that has begun; b"" of one that is skipped. At the end of the stream, one that nothing has ended."""
        return b"" if self._skipping else bytes(self._rest)

    def _join(self, chunk: bytes) -> bytes:
        rest = self._rest
        if not rest:
            chunk = chunk.lstrip(b"\r\n")  # the other half of a CRLF, or empty lines that end nothing
        searched = max(0, len(rest) - 3)
        rest += chunk
        end = self._last_boundary(searched)
        self.between = end == len(rest) if end else not rest
        if not end:
            self._shrink()
            return b""
        whole = bytes(memoryview(rest)[:end])
        del rest[:end]
        if self._skipping:
            self._skipping = False
            first = _BOUNDARY.search(whole)
            return whole[first.end() :] if first else b""
        return whole

    def _last_boundary(self, start: int) -> int:
        """The end of the last boundary at or after `start`, 0 if there is none."""
        rest = self._rest
        if rest.find(b"\r", start) < 0:  # not the whole of it: that would make a long event quadratic
            found = rest.rfind(b"\n\n", start)
            return found + 2 if found >= 0 else 0
        end = 0
        for match in _BOUNDARY.finditer(rest, start):
            end = match.end()
        return end

    def _shrink(self) -> None:
        """Forget the body of an event that has grown over the limit; keep what a boundary needs."""
        if len(self._rest) > self._limit:
            self._skipping = True
            del self._rest[:-3]


def holding(region: bytes, marks: tuple[bytes, ...]) -> Iterator[bytes]:
    """The events of a region of whole events that contain one of `marks`, unparsed.

    Cut out at LF LF; where there are CRs the region comes back whole: that is right too, and only costs more to parse.
    """
    found = {mark: at for mark in marks if (at := region.find(mark)) >= 0}
    if b"\r" in region:
        if found:
            yield region
        return
    while found:
        first = min(found.values())
        start = region.rfind(b"\n\n", 0, first) + 2
        end = region.find(b"\n\n", first) + 2
        yield region[start if start > 1 else 0 : end if end > 1 else len(region)]
        if end <= 1:
            return
        later = {mark: at if at >= end else region.find(mark, end) for mark, at in found.items()}
        found = {mark: at for mark, at in later.items() if at >= 0}


def parse(region: bytes) -> Iterator[Event]:
    """The events of a region. Comments, `id` and `retry` are passed over (section 9.2.6), and so is a byte-order mark.

    The last event counts also where no empty line ends it, unlike in a browser: at the end of a stream it is all there is.
    """
    name = ""
    data: list[bytes] = []
    for line in (*_END_OF_LINE.split(region.removeprefix(BYTE_ORDER_MARK)), b""):
        if not line:
            if data:
                yield Event(name or "message", b"\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")


def encode(name: str, data: bytes) -> bytes:
    """One event with one line of data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


PING = encode("ping", b'{"type": "ping"}')
