"""Header fields as a parser hands them over, and memories of their names: a request has about 25, the same ones every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NameMemory(dict[bytes, T]):
    """Caches `find(name)` as `memory[name]`.

    Bounded, because clients choose the names: at most `NAMES` of them, each at most `LENGTH` bytes.

    Args:
        find: a pure function of a field name.
    """

    NAMES = 1024
    LENGTH = 64

    def __init__(self, find: Callable[[bytes], T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, name: bytes) -> T:
        found = self._find(name)
        if len(name) <= self.LENGTH:
            if len(self) >= self.NAMES:
                self.clear()
            self[name] = found
        return found


lowered = NameMemory(bytes.lower)
"""The name in lower case: the same object for the same name, so that its hash is computed once."""
_lower = lowered.__getitem__


class Collector:
    """Collects the fields that llhttp hands over one by one. Only `on_header` runs for each of them, so it does nothing else.

    Args:
        strip: remove white space after a value, which is not part of it (RFC 9112 section 5).

    Attributes:
        on_header: the handler.
        found: names and values in turn, as they came.
    """

    __slots__ = ("_strip", "found", "on_header")

    def __init__(self, *, strip: bool) -> None:
        self._strip = strip
        self.found: list[bytes] = []
        add = self.found.extend
        self.on_header: Callable[[bytes, bytes], None] = lambda name, value: add((name, value))

    def take(self) -> list[tuple[bytes, bytes]]:
        """The fields with their names in lower case."""
        found = self.found
        values = found[1::2]
        fields = list(zip(map(_lower, found[::2]), map(bytes.rstrip, values) if self._strip else values, strict=True))
        found.clear()
        return fields
