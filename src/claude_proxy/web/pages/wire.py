"""The event stream on the wire (WHATWG HTML section 9.2), and gzip (RFC 1952) whose parts are compressed once and shared by all.

Each part is compressed by a compressor of its own and ends on a byte (a sync flush, RFC 1951 section 3.2.4), so it refers to
nothing before it: any sequence of parts, behind a header and before the trailer of that reader, is a valid stream.
"""

from __future__ import annotations

import zlib

GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LEVEL = 6
_LAST_BLOCK = b"\x03\x00"  # an empty block that is marked as the last one


def message(data: str, event: str = "") -> bytes:
    """One event."""
    head = f"event: {event}\n" if event else ""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() if line.strip()) or "data:\n"
    return f"{head}{lines}\n".encode()


def packed(raw: bytes) -> bytes:
    """A part of a stream, compressed."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(raw) + packer.flush(zlib.Z_SYNC_FLUSH)


class Trailer:
    """What ends one reader's stream: the checksum and the length of all that went into it."""

    def __init__(self) -> None:
        self._sum = 0
        self._length = 0

    def add(self, raw: bytes) -> None:
        """A part was sent."""
        self._sum = zlib.crc32(raw, self._sum)
        self._length += len(raw)

    def bytes(self) -> bytes:
        """The last block and the trailer."""
        return _LAST_BLOCK + self._sum.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little")
