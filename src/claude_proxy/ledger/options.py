"""The ledger's options, and the types that its writer and its store exchange. Nothing here needs a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from claude_proxy.ledger.prices.quota import Window
from claude_proxy.ledger.record import Charge, Record

FILE = "ledger.db"
MEMORY_BYTES = 32 * 1024**2  # of a ledger in memory, used when DATA_DIR cannot hold a file
DAYS = 400
MAX_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Options:
    """Where the ledger is and how long it keeps.

    Attributes:
        data_dir: holds `ledger.db`, unless there is a `database_url`.
        database_url: `postgresql://...`; `repr` leaves it out.
        keep_days: older exchanges and fine rollups are deleted; rollups by day stay.
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


class Entry(msgspec.Struct, gc=False):
    """A row to be written. It keeps its id over retries."""

    record: Record
    charge: Charge


class NotReadable(Exception):
    """The ledger cannot be read now; the text is a sentence that says why.

    Args:
        retry_after: seconds after which it probably can; None if that takes more than time.
    """

    def __init__(self, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class TooSlow(NotReadable):
    """The query exceeded its time limit; the text says what to do."""


class LedgerOff(Exception):
    """This process has no ledger; the text says why and what to do."""


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
    """A batch could not be written. Nothing of it was kept, and it may be tried again.

    Args:
        reason: a sentence.
        hopeless: the database rejects the rows themselves, so trying again does not help.
        reopen: the store is unusable and has to be opened again.
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
        """Write all of a batch or nothing, and record how many rows this process has lost. Raises Trouble."""

    def sample(self, taken: Sample | IncidentRow) -> None:
        """Keep a quota sample, or what is known of an incident by now. Raises Trouble."""

    def chores(self) -> float:
        """Do one short piece of housekeeping; returns seconds until the next is due. Raises Trouble."""

    def close(self, lost: int | None) -> None:
        """Close the database; given a number of lost rows, end this process's run too. Never raises."""
