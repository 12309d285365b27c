"""Queries the ledger from the event loop: in a thread, for at most a second each. The first one loads the database's modules."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from claude_proxy.ledger.options import NotReadable

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books

AT_ONCE = 4
WAITING = 32

T = TypeVar("T")


class Reader:
    """Gives readers in a running proxy the ledger.

    Args:
        open_books: called in a thread, once per place of the ledger.
        place: where the ledger is now; it is opened again when that changes.
        shut: why this process has no ledger; None if it has one.
    """

    def __init__(
        self,
        open_books: Callable[[], Books],
        *,
        place: Callable[[], object] = lambda: None,
        shut: Callable[[], NotReadable | None],
    ) -> None:
        self._open_books = open_books
        self._place = place
        self._shut = shut
        self._books: Books | None = None
        self._opened: object = None
        self._lock = threading.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asking = 0

    async def ask(self, question: Callable[[Books], T]) -> T:
        """Run a query in a thread.

        Raises:
            NotReadable: there is no ledger, it cannot be read now, or too many queries wait.
            Exception: what `question` raises.
        """
        reason = self._shut()
        if reason is not None:
            raise reason
        if self._asking >= AT_ONCE + WAITING:
            raise NotReadable("Too many questions are being answered. Try again soon.", retry_after=1)
        self._asking += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(lambda: question(self.books()))
        finally:
            self._asking -= 1

    def books(self) -> Books:
        """The ledger where it is now. It may have to be opened, so call this in a thread."""
        with self._lock:
            place = self._place()
            if self._books is None or place is not self._opened:
                self._books, self._opened = self._open_books(), place
            return self._books
