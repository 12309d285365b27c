"""What fills the context: each part's share of the prompt's tokens. Pure.

An upstream reports the tokens of a whole prompt. Its parts are estimated: images by their size in pixels, the rest of the
reported tokens by bytes. What comes out is marked as an estimate wherever it is shown.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_proxy.web.pages.conversation_parts import Image, Kind, Part

PIXELS = 750  # of an image, per token: https://platform.claude.com/docs/en/build-with-claude/vision
MOST_OF_IMAGE = 1600  # tokens; a larger image is scaled down first (same page)
_PROMPT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


@dataclass(frozen=True, slots=True)
class Share:
    """One kind of part.

    Attributes:
        size: bytes.
        tokens: estimated; None where the upstream reported none.
        ratio: of all tokens, else of all bytes; 0 to 1.
    """

    kind: Kind
    count: int
    size: int
    tokens: int | None
    ratio: float


class Shares:
    """The weights of a conversation's parts.

    Args:
        parts: all of them; those of the answer have no share.
        prompt: tokens of the prompt as reported, or None.
    """

    def __init__(self, parts: Iterable[Part], prompt: int | None) -> None:
        self._asked = [part for part in parts if part.asked]
        self.prompt = prompt
        images = sum(image_tokens(part.image) for part in self._asked if part.image is not None)
        self._bytes = sum(part.size for part in self._asked if part.image is None)
        if prompt is None or images > prompt:
            self._per_image, rest = (0.0 if prompt is None else prompt / images), 0
        else:
            self._per_image, rest = 1.0, prompt - images
        self._per_byte = rest / self._bytes if self._bytes else 0.0

    def tokens(self, part: Part) -> int | None:
        """The estimated tokens of a part; None where there is nothing to go by."""
        if self.prompt is None or not part.asked:
            return None
        return round(self._exact(part))

    def _exact(self, part: Part) -> float:
        if part.image is not None:
            return image_tokens(part.image) * self._per_image
        return part.size * self._per_byte

    def by_kind(self) -> list[Share]:
        """The shares of each kind, the largest first."""
        found = [self._share(kind, [part for part in self._asked if part.kind is kind]) for kind in Kind]
        return sorted((share for share in found if share.count), key=lambda share: (-share.ratio, -share.size))

    def _share(self, kind: Kind, parts: Sequence[Part]) -> Share:
        size = sum(part.size for part in parts)
        exact = sum(map(self._exact, parts))
        whole = sum(part.size for part in self._asked)
        ratio = exact / self.prompt if self.prompt else size / whole if whole else 0.0
        return Share(kind, len(parts), size, None if self.prompt is None else round(exact), ratio)

    def largest(self, limit: int = 8) -> list[Part]:
        """The parts that take most, the largest first."""
        weigh = self._exact if self.prompt else lambda part: float(part.size)
        return sorted((part for part in self._asked if part.size), key=weigh, reverse=True)[:limit]


def prompt_tokens(usage: Mapping[str, Any] | None) -> int | None:
    """The tokens of a prompt by a reported usage; None if it says nothing."""
    known = [usage[key] for key in _PROMPT if isinstance(usage.get(key), int)] if usage else []
    return sum(known) or None


def image_tokens(image: Image) -> int:
    """What an image takes, by its width and height where its first bytes tell them."""
    try:
        head = base64.b64decode(image.data[:32])
    except (binascii.Error, ValueError):
        return MOST_OF_IMAGE
    if image.media_type == "image/png" and head[12:16] == b"IHDR":
        width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    elif image.media_type == "image/gif":
        width, height = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    else:
        return MOST_OF_IMAGE
    return min(MOST_OF_IMAGE, max(1, width * height // PIXELS))
