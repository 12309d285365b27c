"""Patterns of names, as the settings have them: `*` stands for any text, also none; every other character for itself."""

from __future__ import annotations

from collections.abc import Iterable


def matches(pattern: str, name: str) -> bool:
    """Whether `pattern` matches the whole of `name`."""
    first, *others = pattern.split("*")
    if not others:
        return name == pattern
    last = others.pop()
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in others:
        at = name.find(part, at, end)  # the earliest place leaves the most room for the parts that follow
        if at < 0:
            return False
        at += len(part)
    return True


def any_matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of `patterns` matches `name`."""
    return any(matches(pattern, name) for pattern in patterns)


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every name that `narrow` matches.

    The `*` in `narrow` stands for any text, so only a `*` of `wide` can match it: it is compared as a letter that no name has.
    """
    return matches(wide, narrow)


def overlap(one: str, other: str) -> bool:
    """Whether there is a name that both patterns match."""
    todo, seen = [(0, 0)], set[tuple[int, int]]()
    while todo:
        place = i, j = todo.pop()
        if place == (len(one), len(other)):
            return True
        if place in seen:
            continue
        seen.add(place)
        left, right = one[i : i + 1], other[j : j + 1]
        if left == "*" or (left and left == right):
            todo.append((i + 1, j + (left != "*")))
        if left == "*" and right:
            todo.append((i, j + 1))
        if right == "*":
            todo.append((i, j + 1))
            if left:
                todo.append((i + 1, j))
    return False
