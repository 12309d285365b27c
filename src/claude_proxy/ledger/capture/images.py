"""Which images may be shown, by their content, not by their declared type. An SVG can contain scripts, so it is none."""

from __future__ import annotations

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def image_type(data: bytes) -> str | None:
    """The media type of an image that may be served, by its first bytes; None for everything else.

    The signatures are those of https://mimesniff.spec.whatwg.org/#image-type-pattern-matching-algorithm. The server of one sends
    exactly this type, with `X-Content-Type-Options: nosniff` and a sandboxing Content-Security-Policy.
    """
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    return "image/webp" if data[:4] == b"RIFF" and data[8:14] == b"WEBPVP" else None
