"""Content codings: encode an answer part by part, decode a request body."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator

import brotli

from .scenario import Encoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def encoded(parts: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """Yield each part encoded and flushed, so that its bytes can be decoded when it arrives."""
    push, finish = _encoder(encoding)
    held: bytes | None = None
    for part in parts:
        if held is not None:
            yield held
        held = push(part)
    yield (held or b"") + finish()


def _encoder(encoding: Encoding) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    if encoding == "br":
        br = brotli.Compressor(quality=5)
        return lambda data: br.process(data) + br.flush(), br.finish
    if encoding == "zstd":
        zs = zstd.ZstdCompressor()
        return lambda data: zs.compress(data, zs.FLUSH_BLOCK), lambda: zs.flush(zs.FLUSH_FRAME)
    wbits = 31 if encoding == "gzip" else 15
    deflate = zlib.compressobj(6, zlib.DEFLATED, wbits)
    return lambda data: deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH), deflate.flush


def decoded(body: bytes, encoding: str) -> bytes:
    """Decode a body.

    Raises:
        ValueError: the coding is unknown or the bytes are invalid.
    """
    try:
        match encoding.strip().lower():
            case "gzip" | "x-gzip" | "deflate":
                return zlib.decompress(body, 47)
            case "br":
                return bytes(brotli.decompress(body))
            case "zstd":
                return bytes(zstd.decompress(body))
    except (zlib.error, brotli.error, zstd.ZstdError) as cause:
        raise ValueError(f"the body is not {encoding}: {cause}") from cause
    raise ValueError(f"unknown Content-Encoding {encoding!r}")
