"""Content codings, for the eyes of the accounting only: what the client gets stays compressed.

Claude Code accepts gzip, deflate, br and zstd (FACTS section 1). A body that does not decode is left unread.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

MAX_DECODED = 16 * 1024 * 1024  # a bomb ends here; usage is not in the seventeenth megabyte


class _Engine(Protocol):
    def __call__(self, data: bytes) -> bytes: ...


class Decompressor:
    """Decodes chunk by chunk; gives b"" for good after an error or over the limit."""

    __slots__ = ("_engine", "_left")

    def __init__(self, engine: _Engine | None) -> None:
        self._engine = engine
        self._left = MAX_DECODED

    def feed(self, chunk: bytes) -> bytes:
        """The decoded bytes that this chunk yields."""
        if self._engine is None:
            return b""
        try:
            data = self._engine(chunk)
        except Exception:  # each library has its own tree of errors
            self._engine = None
            return b""
        self._left -= len(data)
        if self._left < 0:
            self._engine = None
            return b""
        return data


def decompressor(coding: bytes) -> Decompressor:
    """A decompressor for a Content-Encoding; for one that we do not know, one that yields nothing."""
    make = _ENGINES.get(coding)
    return Decompressor(make() if make is not None else None)


def _gzip() -> _Engine:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress


def _deflate() -> _Engine:
    """RFC 9110 section 8.4.1.2 means zlib; some servers send raw deflate."""
    state: dict[str, Any] = {}

    def decode(data: bytes) -> bytes:
        if not state:
            state["z"] = zlib.decompressobj(zlib.MAX_WBITS if data[:1] == b"\x78" else -zlib.MAX_WBITS)
        decoded: bytes = state["z"].decompress(data)
        return decoded

    return decode


def _brotli() -> _Engine:
    import brotli

    engine: _Engine = brotli.Decompressor().process
    return engine


def _zstd() -> _Engine:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    engine: _Engine = zstd.ZstdDecompressor().decompress
    return engine


_ENGINES: dict[bytes, Callable[[], _Engine]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _deflate,
    b"br": _brotli,
    b"zstd": _zstd,
}
