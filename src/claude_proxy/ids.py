"""Exchange ids: 63-bit integers that sort by time, and their text form.

From the highest bit: 41 bits of Unix milliseconds (enough until 2039), 10 bits of worker number, 12 bits of sequence number. The
ledger's primary key is the integer. Logs, errors, the API and the page show `cp_` and 13 digits of Crockford's base 32
(https://www.crockford.com/base32.html), because a JSON number is exact only below 2**53.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import lru_cache

PREFIX = "cp_"
LEASED = 512  # worker numbers below this are leased in the database; from here to 1023 they are drawn at random
WORKERS = 1024
MAX_ID = 2**63 - 1
_SEQUENCE = 4095
_MAX_MS = 2**41 - 1
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
_LENGTH = 13
# Translates to the digits of `int(text, 32)`. Letters count as the digit they resemble; hyphens are removed.
_READ: dict[int, str | None] = {ord(char): "0123456789abcdefghijklmnopqrstuv"[value] for value, char in enumerate(_DIGITS)}
_READ |= {ord("o"): "0", ord("i"): "1", ord("l"): "1", ord("-"): None} | {ord("u"): "!"}


class Ids:
    """Creates the ids of one process. Thread-safe.

    Ids only grow: if the clock steps back, the last millisecond is used until the clock catches up, and the 4097th id within a
    millisecond takes the next millisecond.

    Args:
        worker: 0 to 1023. By default a random number outside the leased range, until `worker` is set.
        clock: Unix nanoseconds.
    """

    __slots__ = ("_clock", "_last", "_lock", "worker")

    def __init__(self, worker: int | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        self.worker = unleased_worker() if worker is None else worker
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0  # millisecond and sequence as one number: a full sequence carries over into the next millisecond

    def __call__(self) -> int:
        """The next id."""
        now = self._clock() // 1_000_000 << 12
        with self._lock:
            last = self._last + 1
            if now > last:
                last = now
            self._last = last
        return last >> 12 << 22 | self.worker << 12 | last & _SEQUENCE


def unleased_worker() -> int:
    """A random worker number outside the leased range, for a process without a lease."""
    return random.randrange(LEASED, WORKERS)  # noqa: S311 - spreads processes, protects nothing


def reminted(number: int) -> int:
    """Another id of the same millisecond, to replace one that is already in use."""
    return number >> 22 << 22 | unleased_worker() << 12 | random.randrange(_SEQUENCE + 1)  # noqa: S311 - as above


def first_of(ms: int) -> int:
    """The smallest id of a Unix millisecond, for selecting ids by time. A time out of range gives the nearest valid id."""
    return min(max(ms, 0), _MAX_MS) << 22


def milliseconds(number: int) -> int:
    """The Unix milliseconds at which an id was created."""
    return number >> 22


def encode(number: int) -> str:
    """The text of an id, such as `cp_1kpx5v3w00001`: always 16 characters, sorting as the numbers do."""
    return f"{_beginning(number >> 20)}{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"


@lru_cache(64)
def _beginning(high: int) -> str:
    """The part of the text that the ids of a millisecond share."""
    pairs = f"{_PAIRS[high >> 30 & 1023]}{_PAIRS[high >> 20 & 1023]}{_PAIRS[high >> 10 & 1023]}{_PAIRS[high & 1023]}"
    return f"{PREFIX}{_DIGITS[high >> 40]}{pairs}"


def decode(text: str) -> int:
    """Parse an id as people type it: in any case, with or without `cp_`, with O for 0, I or L for 1, and with hyphens.

    Raises:
        ValueError: the text is not an id.
    """
    digits = text.strip().lower().removeprefix(PREFIX).translate(_READ)
    if len(digits) == _LENGTH and digits.isascii() and digits.isalnum():
        try:
            number = int(digits, 32)
        except ValueError:
            number = MAX_ID + 1
        if number <= MAX_ID:
            return number
    raise ValueError(f"{text[:40]!r} is not an exchange id: expected one such as {encode(first_of(1_790_000_000_000) + 1)}.")
