"""The geometry of a session's timeline: exchanges as waterfalls, in stretches of activity with a scale of their own. Pure.

One scale for a whole session would show an afternoon with two coffee breaks as three dots. So a pause ends a stretch, and what
lies between two stretches is written, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from claude_proxy.ledger.answers import rfc3339
from claude_proxy.web.pages.formats import milliseconds

WIDTH = 1000.0  # of the SVG's viewBox, which is stretched to its place
THINNEST = 3.0  # of the viewBox: what is shorter would not be seen
SEEN = ("stream", "failed")  # kinds that are drawn however short they are
PAUSE = 60_000  # milliseconds in which nothing ran, and the stretch is over
LONG = 300_000  # a stretch of this length is over at the next moment in which nothing runs
BREATH = 1_000  # milliseconds that such a moment has to last
Item = dict[str, Any]


class Segment(NamedTuple):
    """A part of a bar, in units of the viewBox.

    Attributes:
        kind: "queue" (waited in this proxy), "wait" (for the first byte), "stream" (the answer came), or "failed".
    """

    kind: str
    ms: int
    x: float
    width: float


class Bar(NamedTuple):
    """One exchange.

    Attributes:
        broke: whether it found the prompt cache broken.
    """

    item: Item
    segments: list[Segment]
    broke: bool


class Stretch(NamedTuple):
    """Exchanges without a pause between them, the first one first.

    Attributes:
        began: RFC 3339.
        ms: from its first byte to its last.
        pause: milliseconds since the stretch before it; None where that is not known.
    """

    began: str
    ms: int
    pause: int | None
    bars: list[Bar]


def stretches(items: Sequence[Item]) -> list[Stretch]:
    """Exchanges in stretches, the newest stretch first.

    Args:
        items: as `Books.exchanges` has them, newest first.
    """
    found: list[Stretch] = []
    end: int | None = None
    for group in _cut(sorted(items, key=began)):
        first, last = began(group[0]), max(map(ended, group))
        pause = None if end is None else first - end
        length = max(1, last - first)
        found.append(Stretch(rfc3339(first), last - first, pause, [bar(item, first, length) for item in group]))
        end = last
    return found[::-1]


def _cut(items: Iterable[Item]) -> list[list[Item]]:
    groups: list[list[Item]] = []
    first = last = 0
    for item in items:
        gap = began(item) - last
        if not groups or gap >= PAUSE or (gap >= BREATH and last - first >= LONG):
            groups.append([])
            first = last = began(item)
        groups[-1].append(item)
        last = max(last, ended(item))
    return groups


def bar(item: Item, first: int, length: int) -> Bar:
    """An exchange on a scale.

    Args:
        first, length: milliseconds of the scale: its beginning in Unix time, and its length.
    """
    at = began(item) - first
    segments = []
    for kind, start, end in phases(item):
        x = min((at + start) / length * WIDTH, WIDTH - THINNEST)
        width = max((end - start) / length * WIDTH, THINNEST if kind in SEEN else 0.0)
        segments.append(Segment(kind, end - start, round(x, 2), round(min(width, WIDTH - x), 2)))
    return Bar(item, segments, broke(item))


def phases(item: Item) -> list[tuple[str, int, int]]:
    """The parts of an exchange, as kind, beginning and end in milliseconds after its own beginning."""
    total = item["duration_ms"]
    queue = min(item["queue_ms"] or 0, total)
    head = item["first_byte_ms"]
    byte = total if head is None else max(queue, min(head, total))
    found = [("queue", 0, queue)]
    if not item["failed"]:
        found += [("wait", queue, byte), ("stream", byte, total)]
    elif head is None or item["status"] >= 400:
        found.append(("failed", queue, total))
    else:  # the answer had begun, and its end is what failed
        found += [("wait", queue, byte), ("stream", byte, total), ("failed", total, total)]
    return [part for part in found if part[2] > part[1] or part[0] in SEEN]


def broke(item: Item) -> bool:
    """Whether an exchange found the cache broken: something that had been cached was not read from it."""
    return bool(item["cache"] and item["cache"]["lost_tokens"])


def began(item: Item) -> int:
    """Unix milliseconds of the beginning."""
    return milliseconds(item["started_at"])


def ended(item: Item) -> int:
    """Unix milliseconds of the end."""
    return began(item) + int(item["duration_ms"])
