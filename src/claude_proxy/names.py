"""Names of header fields, remembered: a request has about 25 fields, the same ones every time."""

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
