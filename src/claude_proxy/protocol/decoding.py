"""Decompresses copies of answers so that their usage can be read. The client gets the compressed bytes.

Claude Code accepts gzip, deflate, br and zstd (docs/facts.md, "Claude Code"). A body that cannot be decoded is ignored.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

MAX_DECODED = 16 * 1024 * 1024  # limits a decompression bomb; usage comes much earlier


class _Engine(Protocol):
    """Decodes the next bytes into about `most` bytes at most. Output beyond that is never requested."""

    def __call__(self, data: bytes, most: int) -> bytes: ...


class Decompressor:
    """Decodes chunk by chunk; after an error, or once the limit is exceeded, every call returns b"".

    Args:
        engine: decodes one coding; None for an unknown coding.
        limit: most decoded bytes of all chunks together; more are never allocated.
    """

    __slots__ = ("_engine", "_left")

    def __init__(self, engine: _Engine | None, limit: int = MAX_DECODED) -> None:
        self._engine = engine
        self._left = limit

    @property
    def alive(self) -> bool:
        """Whether everything so far could be decoded."""
        return self._engine is not None

    def feed(self, chunk: bytes) -> bytes:
        """Return the decoded bytes of this chunk."""
        if self._engine is None:
            return b""
        try:
            data = self._engine(chunk, self._left + 1)
        except Exception:  # the libraries' errors share no base class, and a bad body must not affect the relay
            self._engine = None
            return b""
        self._left -= len(data)
        if self._left < 0:
            self._engine = None
            return b""
        return data


def decompressor(coding: bytes) -> Decompressor:
    """Return a decompressor for a Content-Encoding; for an unknown one, it returns nothing."""
    make = _ENGINES.get(coding)
    return Decompressor(make() if make is not None else None)


class _Members:
    """Decodes concatenated streams: gzip members (RFC 1952 section 2.2), zstd frames (RFC 8878 section 3).

    Creating a decoder takes about 10 us, even for an empty member; so at most `SMALL_MEMBERS` tiny members are decoded. A decoder
    copies the data that follows its member; so a chunk is decoded in pieces, because otherwise many members in a large chunk
    would take quadratic time.
    """

    SMALL = 16  # bytes; a server that ends a member after each event writes more than that
    SMALL_MEMBERS = 1000
    PIECE = 4096

    __slots__ = ("_make", "_member", "_size", "_small")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._member = make()
        self._size = 0  # bytes decoded from the current member
        self._small = 0

    def __call__(self, data: bytes, most: int) -> bytes:
        parts: list[bytes] = []
        try:
            for at in range(0, len(data), self.PIECE):
                most -= self._decode(data[at : at + self.PIECE], most, parts)
        except Exception:  # as above; after a complete member this may be mere padding
            if not parts:
                raise
        return b"".join(parts)

    def _decode(self, data: bytes, most: int, parts: list[bytes]) -> int:
        """Append the decoded `data` to `parts`; return the number of bytes added."""
        size = 0
        while data and size < most:
            if self._member.eof:
                self._next()
            part = self._member.decompress(data, most - size)
            parts.append(part)
            size += len(part)
            self._size += len(part)
            data = self._member.unused_data
        return size

    def _next(self) -> None:
        self._small += self._size < self.SMALL
        if self._small > self.SMALL_MEMBERS:
            raise ValueError("too many members that hold nothing")
        self._member, self._size = self._make(), 0


def _gzip() -> _Engine:
    return _Members(lambda: zlib.decompressobj(zlib.MAX_WBITS | 32))


class _Deflate:
    """zlib (RFC 9110 section 8.4.1.2), or raw deflate, which some servers send. Two bytes tell which (RFC 1950 section 2.2)."""

    __slots__ = ("_head", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._stream: Any = None

    def __call__(self, data: bytes, most: int) -> bytes:
        if self._stream is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return b""
            is_zlib = data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        decoded: bytes = self._stream.decompress(data, most)
        return decoded


def _brotli() -> _Engine:
    import brotli

    process = brotli.Decompressor().process

    def decode(data: bytes, most: int) -> bytes:
        decoded: bytes = process(data, output_buffer_limit=most)
        return decoded

    return decode


def _zstd() -> _Engine:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return _Members(zstd.ZstdDecompressor)


_ENGINES: dict[bytes, Callable[[], _Engine]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _Deflate,
    b"br": _brotli,
    b"zstd": _zstd,
}
