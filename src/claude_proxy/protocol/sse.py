"""Server-sent events: finding their boundaries in chunks, and parsing them.

The format is WHATWG HTML section 9.2.6: lines end with LF, CRLF or CR; an empty line ends an event. Chunks may end anywhere.
`Splitter` is on the hot path of every stream, so it only looks for boundaries; `parse` is called for the few events that matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_END_OF_LINE = re.compile(rb"\r\n|\n|\r")
# Two or more line ends in a row. A CR at the end may be half of a CRLF whose LF begins the next chunk.
_BOUNDARY = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?!\n))+")
MAX_EVENT = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name (`message` without an `event:` field) and its data, the lines joined by LF."""

    name: str
    data: bytes


class Splitter:
    """Divides a stream of chunks into regions of whole events.

    An event larger than `limit` bytes is skipped: it is not buffered, and `feed` does not return it.

    Attributes:
        between: True while no event is incomplete, so that another event may be inserted.
    """

    __slots__ = ("_limit", "_rest", "_skipping", "between")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False
        self.between = True

    def feed(self, chunk: bytes) -> bytes:
        """Take the next chunk; return the events that it completes, or b""."""
        if not self._rest and chunk.endswith(b"\n\n"):
            self.between = True
            return chunk
        return self._join(chunk)

    def pending(self, mark: bytes) -> bool:
        """Whether the incomplete event contains `mark`. Only the last 512 bytes of a long one are searched."""
        return self._rest.find(mark, max(0, len(self._rest) - 512)) >= 0

    def so_far(self) -> bytes:
        """The incomplete event; b"" if it is being skipped. At the end of a stream, an event without its empty line."""
        return b"" if self._skipping else bytes(self._rest)

    def _join(self, chunk: bytes) -> bytes:
        rest = self._rest
        if not rest:
            chunk = chunk.lstrip(b"\r\n")  # the second half of a CRLF, or empty lines between events
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
        """The end of the last boundary at or after `start`; 0 if there is none."""
        rest = self._rest
        if rest.find(b"\r", start) < 0:  # searching all of it would make a long event quadratic
            found = rest.rfind(b"\n\n", start)
            return found + 2 if found >= 0 else 0
        end = 0
        for match in _BOUNDARY.finditer(rest, start):
            end = match.end()
        return end

    def _shrink(self) -> None:
        """Drop the content of an event that exceeds the limit, except the bytes that may be part of a boundary."""
        if len(self._rest) > self._limit:
            self._skipping = True
            del self._rest[:-3]


def holding(region: bytes, marks: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the events of a region that contain one of `marks`, unparsed.

    Events are separated at LF LF. A region with CRs is yielded as a whole, which is correct too, but slower to parse.
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
    """Parse the events of a region. Comments, `id`, `retry` and a byte-order mark are ignored (section 9.2.6).

    Unlike in a browser, the last event counts even without an empty line: at the end of a stream nothing more will come.
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
    """Format an event with one line of data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


PING = encode("ping", b'{"type": "ping"}')
