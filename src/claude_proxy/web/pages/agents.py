"""A session's agents as a tree. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DEEPEST = 6  # levels that are indented
Item = dict[str, Any]


def tree(agents: Iterable[Item], parents: Mapping[str, str | None]) -> list[Item]:
    """Agents in the order of a tree, the main conversation first.

    Args:
        agents: with their sums, as `Books.session` has them; `agent` is None for the main conversation.
        parents: the agent that called each one; None, or missing, where it was the main conversation.

    Returns:
        each with its `depth`, 0 for the main conversation. An agent whose caller is not there stands below the main
        conversation, and a circle of callers is cut open.
    """
    by_name = {one["agent"]: one for one in agents}
    children: dict[str | None, list[str]] = {}
    for name in by_name:
        if name is not None:
            parent = parents.get(name)
            children.setdefault(parent if parent in by_name else None, []).append(name)
    found = [by_name[None] | {"depth": 0}] if None in by_name else []
    seen: set[str] = set()
    # Those that nobody here called come first; what is left after them stands in a circle.
    for root in (*children.get(None, []), *(name for name in by_name if name is not None)):
        waiting = [(root, 1)]
        while waiting:
            name, depth = waiting.pop()
            if name not in seen:
                seen.add(name)
                found.append(by_name[name] | {"depth": min(depth, DEEPEST)})
                waiting.extend((child, depth + 1) for child in reversed(children.get(name, [])))
    return found
