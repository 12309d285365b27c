"""Capture's options and limits, and what the path passes to its thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from claude_proxy.exchange import Exchange, Header

FILE = "capture.db"
MIB = 1024**2
MAX_BODY = 32 * MIB  # bytes kept of one request, and of one answer
MAX_IN_FLIGHT = 64 * MIB  # bytes of all exchanges that run or wait to be written
MAX_WAITING = 512  # exchanges that wait to be written
RESERVE = 256 * MIB  # free bytes of the disk that capture leaves to others, such as the ledger

Mode = Literal["off", "errors", "all"]


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """What is kept, where, and for how long.

    Attributes:
        data_dir: holds `capture.db`.
        mode: `off` stores nothing new, but still deletes what becomes too old.
        max_bytes: of the file; the oldest exchanges go first.
        keep_days: exchanges older than this go.
        secrets: returns the proxy's own, which must not be in the file; called for each exchange, in the thread.
        reserve: nothing is kept while the disk has fewer free bytes than this.
    """

    data_dir: Path
    mode: Mode = "all"
    max_bytes: int = 1024 * MIB
    keep_days: int = 7
    secrets: Callable[[], Sequence[bytes]] = field(default=tuple, repr=False)
    reserve: int = RESERVE

    @property
    def path(self) -> Path:
        """The file."""
        return self.data_dir / FILE


@dataclass(slots=True)
class Parcel:
    """A finished exchange on its way to the thread.

    Attributes:
        number: its id.
        request: the body as it went upstream; only its beginning unless `whole`.
        chunks: the answer's body, as it came.
        cut: the answer was longer than what is kept of one.
        held: bytes that count as in flight until this is written.
    """

    number: int
    exchange: Exchange
    request_headers: list[Header]
    request: bytes
    whole: bool
    response_headers: list[Header]
    chunks: list[bytes]
    cut: bool
    held: int
