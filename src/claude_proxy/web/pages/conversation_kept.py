"""Reads stored conversations for the page. Runs in a thread; imported when somebody looks at one, as capture is.

What was stored is redacted, but not trusted: what is shown is redacted again once its JSON is decoded, and control and other
invisible characters are made visible.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_proxy.cleaning import visible
from claude_proxy.errors import NoBooks
from claude_proxy.ledger.capture.options import FILE
from claude_proxy.ledger.capture.reading import Conversations, NoConversations
from claude_proxy.ledger.capture.redacting import OVERLAP, Redactor
from claude_proxy.ledger.capture.repeating import curl_command, json_visible, request_text
from claude_proxy.web.pages import conversation_diff as diff
from claude_proxy.web.pages.conversation_parts import Hit, Part, parts_of, search
from claude_proxy.web.pages.conversation_shares import Shares, prompt_tokens

if TYPE_CHECKING:
    from claude_proxy.ledger.capture.preparing import Note
    from claude_proxy.ledger.capture.reading import Transcript

MAX_CHANGES = 40  # of an area that are shown
_redact = Redactor().text


def clean(text: str) -> str:
    """A text as it may be shown."""
    return visible(_redact(text), keep="\n\t")


def cut(text: str, most: int) -> str:
    """The beginning of a text as it may be shown: redacted with what follows, so that no credential is cut before it is seen."""
    return visible(_redact(text[: most + OVERLAP])[:most], keep="\n\t")


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation that was read.

    Attributes:
        note: what capture knows of the exchange.
        sound: whether all of it is what was written.
        parts: in the order of reading.
        shares: what fills the context.
    """

    note: Note
    sound: bool
    parts: tuple[Part, ...]
    shares: Shares

    def cut(self, text: str, most: int) -> str:
        """At most so many characters of a text, as they may be shown."""
        return cut(text, most)


@dataclass(frozen=True, slots=True)
class Since:
    """What changed since the turn before.

    Attributes:
        id: of the exchange that was the turn before.
        lines: by the number of a changed part, if it can be compared line by line.
    """

    id: str
    areas: list[diff.Area]
    lines: dict[int, list[diff.Line]]

    @property
    def new(self) -> set[int]:
        """The numbers of the parts that were added or changed."""
        return diff.new_numbers(self.areas)


class Kept:
    """The conversations in the data folder.

    Every method may raise `NoBooks`, whose text says why they cannot be read.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def read(self, number: int, usage: dict[str, Any] | None = None) -> Told | None:
        """A conversation; None if it is not kept.

        Args:
            usage: the tokens of the exchange by the books; without, what the stored answer says.
        """
        found = self._transcript(number)
        if found is None:
            return None
        parts = parts_of(found.blocks)
        return Told(found.note, found.sound, parts, Shares(parts, prompt_tokens(usage) or prompt_tokens(_reported(found))))

    def since(self, told: Told, earlier: Iterable[tuple[str, int]]) -> Since | None:
        """What changed since the newest of some earlier exchanges (id and number, newest first) that is kept."""
        for id, number in earlier:
            before = self._transcript(number)
            if before is not None and before.of("message"):
                areas = diff.differences(parts_of(before.blocks), told.parts)
                shown = [change for area in areas for change in area.changes[:MAX_CHANGES]]
                return Since(id, areas, {c.after.number: diff.lines(c, clean) for c in shown if c.before and c.after})
        return None

    def found(self, told: Told, wanted: str) -> tuple[list[Hit], int]:
        """Where a text occurs."""
        return search(told.parts, wanted, clean)

    def raw(self, number: int) -> str | None:
        """The request's JSON."""
        found = self._transcript(number)
        text = None if found is None else request_text(found)
        return None if text is None else json_visible(text)

    def curl(self, number: int) -> str | None:
        """The command that sends the request again, without the credential."""
        found = self._transcript(number)
        text = None if found is None else request_text(found)
        return None if found is None or text is None else curl_command(found, text)

    def image(self, number: int, part: int) -> tuple[str, bytes] | None:
        """The media type and the bytes of an image that may be served."""
        found = self._transcript(number)
        parts = () if found is None else parts_of(found.blocks)
        image = parts[part].image if part < len(parts) else None
        if image is None or image.media_type is None:
            return None
        try:
            return image.media_type, base64.b64decode(image.data, validate=True)
        except (binascii.Error, ValueError):
            return None

    def _transcript(self, number: int) -> Transcript | None:
        if not (self._data_dir / FILE).exists():
            return None
        try:
            with Conversations.open(self._data_dir) as conversations:
                return conversations.transcript(number)
        except NoConversations as error:
            raise NoBooks(str(error), code="capture_unreadable") from None


def _reported(found: Transcript) -> dict[str, Any] | None:
    """The usage that the stored answer reports."""
    for block in found.of("answer"):
        value = block.value()
        usage = value.get("usage") if isinstance(value, dict) else None
        if isinstance(usage, dict):
            return usage
    return None
