"""What the ledger is told, and what its writer and its store say to each other. Nothing here needs a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from claude_proxy.ledger.prices.quota import Window
from claude_proxy.ledger.record import Charge, Record

FILE = "ledger.db"
MEMORY_BYTES = 32 * 1024**2  # of the ledger that is kept in memory, where no file can be
DAYS = 400
MAX_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Options:
    """Where the ledger is and how long it keeps.

    Attributes:
        data_dir: holds `ledger.db`, unless there is a `database_url`.
        database_url: `postgresql://...`; its password never leaves this object's `repr`.
        keep_days: exchanges and fine rollups older than this go; rollups by day stay.
        max_bytes: of all tables (SQLite only).
        version: of this program, for the table of runs.
    """

    data_dir: Path
    database_url: str | None = None
    keep_days: int = DAYS
    max_bytes: int = MAX_BYTES
    version: str = ""

    def __repr__(self) -> str:
        where = self.data_dir if self.database_url is None else "PostgreSQL"
        return f"Options({where}, keep_days={self.keep_days}, max_bytes={self.max_bytes})"


class Entry(msgspec.Struct):
    """A row on its way: it keeps the id under which it is written over retries."""

    record: Record
    charge: Charge


class NotReadable(Exception):
    """The books cannot be read now; the text is a sentence on why."""


class TooSlow(NotReadable):
    """The question took longer than it may; the text says what helps."""


class LedgerOff(Exception):
    """There will be no ledger in this process; the text says why and what to do."""


class Sample(msgspec.Struct, frozen=True):
    """What a provider's quota endpoint said.

    Attributes:
        at: Unix milliseconds.
        account: at the upstream; None where there is only one, or it is the client's.
    """

    at: int
    upstream: str
    account: str | None
    windows: tuple[Window, ...]


class IncidentRow(msgspec.Struct, frozen=True):
    """An incident as it is kept; the last one of an id stays.

    Attributes:
        id: made as an exchange's id is.
        kind: what fails, such as a provider's code.
        subject: the upstream's name.
        text: more about it, as JSON.
        opened, seen, closed: Unix milliseconds; `closed` is None while it lasts.
        exchanges: how many failed.
    """

    id: int
    kind: str
    subject: str
    text: str
    opened: int
    seen: int
    closed: int | None
    exchanges: int


class Trouble(Exception):
    """A batch could not be written, nothing of it is kept, and it may be tried again.

    Args:
        reason: a sentence.
        hopeless: the rows themselves are refused, so trying again changes nothing.
        reopen: the store is of no use any more and has to be opened anew.
    """

    def __init__(self, reason: str, *, hopeless: bool = False, reopen: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hopeless = hopeless
        self.reopen = reopen


class Say(Protocol):
    """Writes a line to the log; callable from the writer's thread."""

    def __call__(self, level: str, event: str, /, **fields: object) -> None:
        """`level` is info, warning or error."""


class Store(Protocol):
    """Where the writer puts its rows. Used by the writer's thread alone."""

    in_memory: bool

    def write(self, batch: Sequence[Entry], lost: int) -> None:
        """Keep all of a batch or nothing, and note how many rows this process has lost. Raises Trouble."""

    def sample(self, taken: Sample | IncidentRow) -> None:
        """Keep a quota sample, or what is known of an incident by now. Raises Trouble."""

    def chores(self) -> float:
        """Do one short piece of what is due beside writing; returns seconds until there is more. Raises Trouble."""

    def close(self, lost: int | None) -> None:
        """Give the database back; with a number of lost rows, this process's run is over too. Never raises."""
