"""An exchange's attempts as a ladder: one rung per attempt on the scale of the exchange. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from claude_proxy.web.pages.timeline import THINNEST, WIDTH, Segment

Item = dict[str, Any]


class Rung(NamedTuple):
    """One attempt.

    Attributes:
        segments: "wait" until the head came, or "failed"; then "stream" for the one that was relayed.
        meaning: of its failure, in the viewer's language.
    """

    attempt: Item
    segments: list[Segment]
    meaning: str


def ladder(item: Item, explain: Callable[[Item], str]) -> list[Rung]:
    """The attempts of an exchange, the first one first; empty where the books keep none, as for one that went well at once.

    Args:
        item: as `Books.exchange` has it.
        explain: a failure, with its upstream, in the viewer's language.
    """
    attempts = item["attempts"]
    total = max(1, item["duration_ms"])
    rungs = []
    for number, attempt in enumerate(attempts, 1):
        end = attempts[number]["sent_ms"] if number < len(attempts) else total
        failure = attempt["failure"]
        meaning = explain({"upstream": attempt["upstream"], **failure}) if failure else ""
        rungs.append(Rung(attempt, _segments(attempt, end, total), meaning))
    return rungs


def _segments(attempt: Item, end: int, total: int) -> list[Segment]:
    sent, head = attempt["sent_ms"], attempt["head_ms"]
    answered = end if head is None else min(max(head, sent), total)
    if attempt["failure"] is not None:
        return [_segment("failed", sent, answered, total)]
    parts = [_segment("wait", sent, answered, total)]
    return parts if head is None else [*parts, _segment("stream", answered, max(end, answered), total)]


def _segment(kind: str, start: int, end: int, total: int) -> Segment:
    x = min(start / total * WIDTH, WIDTH - THINNEST)
    width = min(max((end - start) / total * WIDTH, THINNEST), WIDTH - x)
    return Segment(kind, max(0, end - start), round(x, 2), round(width, 2))
