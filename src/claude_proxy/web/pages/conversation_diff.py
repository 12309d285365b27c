"""What changed in the prompt from one turn to the next: tools, system blocks and parts of messages. Pure."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from claude_proxy.web.pages.conversation_parts import Kind, Part

MAX_MIDDLE = 2000  # parts between what is equal at both ends that are aligned; more are one replacement
MAX_LINES = 1000  # of a text that is compared line by line
MAX_SHOWN = 120  # lines of one difference
MAX_WIDTH = 400  # characters of a line
AREAS = ("tools", "system", "messages")


class Line(NamedTuple):
    """A line of a difference; `sign` is "+", "-" or " "."""

    sign: str
    text: str


class Change(NamedTuple):
    """A part that came, went, or became another; one of both may be None."""

    before: Part | None
    after: Part | None

    @property
    def sign(self) -> str:
        """added, removed or changed."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass(slots=True)
class Area:
    """The changes of an area; `same` counts the parts that stayed. `grew` says that parts were only added at its end."""

    name: str
    same: int = 0
    changes: list[Change] = field(default_factory=list)
    grew: bool = True


def differences(before: Sequence[Part], after: Sequence[Part]) -> list[Area]:
    """The changes of each area; those of the answer are none, for it is what comes back."""
    tools = _by_name(_of(before, "tools"), _of(after, "tools"))
    return [tools, *(_aligned(name, _of(before, name), _of(after, name)) for name in AREAS[1:])]


def new_numbers(areas: Iterable[Area]) -> set[int]:
    """The numbers of the parts that were added or changed."""
    return {change.after.number for area in areas for change in area.changes if change.after is not None}


def _of(parts: Sequence[Part], area: str) -> list[Part]:
    kinds = {"tools": (Kind.TOOL,), "system": (Kind.SYSTEM,)}.get(area)
    asked = [part for part in parts if part.asked]
    return [part for part in asked if (part.kind in kinds if kinds else part.kind not in (Kind.TOOL, Kind.SYSTEM))]


def _by_name(before: Sequence[Part], after: Sequence[Part]) -> Area:
    """Tools: the same name is the same tool."""
    area = Area("tools", grew=_grew(before, after))
    old = {part.name: part for part in before}
    for part in after:
        known = old.pop(part.name, None)
        if known is not None and known.key == part.key:
            area.same += 1
        else:
            area.changes.append(Change(known, part))
    area.changes += [Change(part, None) for part in old.values()]
    return area


def _aligned(name: str, before: Sequence[Part], after: Sequence[Part]) -> Area:
    """A list of parts: what is equal at both ends, and the best alignment of the rest."""
    old, new = [part.key for part in before], [part.key for part in after]
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    area = Area(name, start + end, grew=_grew(before, after))
    left, right = before[start : len(before) - end], after[start : len(after) - end]
    if len(left) > MAX_MIDDLE or len(right) > MAX_MIDDLE:
        area.changes = [*(Change(part, None) for part in left), *(Change(None, part) for part in right)]
        return area
    matcher = difflib.SequenceMatcher(None, [part.key for part in left], [part.key for part in right], autojunk=False)
    for _, a1, a2, b1, b2 in matcher.get_opcodes():
        if left[a1:a2] and right[b1:b2] and left[a1].key == right[b1].key:
            area.same += a2 - a1
        else:
            area.changes += _changes(left[a1:a2], right[b1:b2])
    return area


def _changes(before: Sequence[Part], after: Sequence[Part]) -> list[Change]:
    """Parts that stand in place of others: pairs as long as they are of one kind."""
    paired = 0
    while paired < min(len(before), len(after)) and before[paired].kind is after[paired].kind:
        paired += 1
    pairs = [Change(old, new) for old, new in zip(before[:paired], after[:paired], strict=True)]
    return [*pairs, *(Change(part, None) for part in before[paired:]), *(Change(None, part) for part in after[paired:])]


def _grew(before: Sequence[Part], after: Sequence[Part]) -> bool:
    return [part.key for part in before] == [part.key for part in after[: len(before)]]


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def lines(change: Change, clean: Callable[[str], str]) -> list[Line]:
    """The lines of a change between two texts, at most so many; none where one is missing or they are too long to compare."""
    if change.before is None or change.after is None:
        return []
    old, new = (part.text.splitlines() for part in (change.before, change.after))
    if len(old) > MAX_LINES or len(new) > MAX_LINES:
        return []
    found: list[Line] = []
    compared = difflib.unified_diff(old, new, n=1, lineterm="")
    for line in itertools.islice(compared, 2, MAX_SHOWN + 2):  # behind the names of files
        if not line.startswith("@@"):
            found.append(Line(line[0], clean(line[1 : MAX_WIDTH + 1])))
        elif found:
            found.append(Line("…", ""))
    return found
