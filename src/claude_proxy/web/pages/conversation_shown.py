"""What the templates of *Conversation* are given: pages of parts with a bound on their length, shares as bars, differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from claude_proxy.cleaning import clean

if TYPE_CHECKING:
    from claude_proxy.web.pages.conversation_kept import Since, Told
    from claude_proxy.web.pages.conversation_parts import Part
    from claude_proxy.web.pages.conversation_shares import Share

CUT = 8 * 1024  # characters of a part that stand on the page; the rest is loaded when somebody wants it
SHORT = 400  # of those that come when the page is full
FULL = 400 * 1024  # characters of a page
PARTS = 100  # on a page
PREVIEW = 160
WHOLE = 1024 * 1024  # characters of one part by itself
MAX_CHANGES = 40  # of an area that are listed
COLORS = {"tool": 0, "system": 1, "user": 2, "assistant": 5, "thinking": 3, "call": 4, "result": 6}
OTHER = 5
_APART = ("tool", "system")  # they stand before the messages, on each page
Item = dict[str, Any]


class Writer:
    """Writes parts for a template.

    Args:
        told: the conversation.
        since: what is new in it, if that is known.
    """

    def __init__(self, told: Told, since: Since | None = None) -> None:
        self._told = told
        self._new = set() if since is None else since.new
        said = [part for part in told.parts if part.kind not in _APART]
        self.said = said
        self._offset = -len(said) % PARTS  # so that the last page, which is shown first, is full
        self._pages = {part.number: (at + self._offset) // PARTS for at, part in enumerate(said)}

    def part(self, part: Part, most: int = PREVIEW) -> Item:
        """A part with at most so many characters of its text."""
        text = self._told.cut(part.text, most)
        return {
            "number": part.number,
            "kind": str(part.kind),
            "role": clean(part.role, 40),
            "name": clean(part.name, 120),
            "text": text,
            "preview": " ".join(text[: 2 * PREVIEW].split())[:PREVIEW],
            "more": len(part.text) > most,
            "size": part.size,
            "image": part.image,
            "tokens": self._told.shares.tokens(part),
            "paired": part.paired,
            "error": part.error,
            "asked": part.asked,
            "new": part.number in self._new,
            "page": self._pages.get(part.number),
        }

    def within_budget(self, parts: Sequence[Part]) -> list[Item]:
        """The parts of a page; their texts are short once the page is long."""
        found, total = [], 0
        for part in parts:
            found.append(self.part(part, CUT if total < FULL else SHORT))
            total += len(found[-1]["text"])
        return found

    def page(self, wanted: str) -> tuple[int, int, Sequence[Part]]:
        """A page by its number from 1, by default the last one: its number, how many there are, its parts."""
        pages = max(1, -(-len(self.said) // PARTS))
        named = wanted.isascii() and wanted.isdecimal() and len(wanted) < 7
        number = max(1, min(int(wanted), pages)) if named else pages
        start = (number - 1) * PARTS - self._offset
        return number, pages, self.said[max(0, start) : start + PARTS]


def conversation(told: Told, since: Since | None, page: str) -> Item:
    """Everything but the search.

    Args:
        page: as in the query, counted from 1.
    """
    writer = Writer(told, since)
    number, pages, parts = writer.page(page)
    shares = told.shares.by_kind()
    return {
        "note": told.note,
        "sound": told.sound,
        "prompt": told.shares.prompt,
        "shares": [_share(share) for share in shares],
        "bars": bars(shares),
        "largest": [writer.part(part) for part in told.shares.largest()],
        "tools": [writer.part(part) for part in told.parts if part.kind == "tool"],
        "system": [writer.part(part, SHORT) for part in told.parts if part.kind == "system"],
        "parts": writer.within_budget(parts),
        "messages": len({part.message for part in writer.said if part.asked}),
        "answered": any(not part.asked for part in told.parts),
        "page": number,
        "pages": pages,
        "since": None if since is None else {"id": since.id, "areas": [_area(area, since, writer) for area in since.areas]},
    }


def hits(told: Told, found: tuple[Sequence[Any], int]) -> Item:
    """What a search found."""
    writer = Writer(told)
    places = [{"part": writer.part(hit.part), "before": hit.before, "found": hit.found, "after": hit.after} for hit in found[0]]
    return {"hits": places, "hit_count": found[1]}


def bars(shares: Sequence[Share]) -> list[tuple[int, float, float]]:
    """Colour, start and width of each share in a bar of 1,000 units."""
    found, at = [], 0.0
    for share in shares:
        width = share.ratio * 1000
        found.append((COLORS.get(share.kind, OTHER), round(at, 2), round(width, 2)))
        at += width
    return found


def _share(share: Share) -> Item:
    about = {"count": share.count, "size": share.size, "tokens": share.tokens, "ratio": share.ratio}
    return {"kind": str(share.kind), "color": COLORS.get(share.kind, OTHER), **about}


def _area(area: Any, since: Since, writer: Writer) -> Item:
    changes = []
    for change in area.changes[:MAX_CHANGES]:
        here = change.after or change.before
        part = writer.part(here)
        lines = since.lines.get(here.number, []) if change.sign == "changed" else []
        changes.append({"sign": change.sign, "part": part, "lines": lines})
    return {"name": area.name, "same": area.same, "count": len(area.changes), "grew": area.grew, "changes": changes}
