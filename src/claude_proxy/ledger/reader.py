"""Asks the books from the event loop: each question runs in a thread and has a second. Loads no database until one is asked."""

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
    """The books, for readers in a running proxy.

    Args:
        open_books: called in a thread, once for each place where the books are.
        place: says where they are now; the books are opened again when that changes.
        shut: why there are none in this process; None while there are.
    """

    def __init__(
        self, open_books: Callable[[], Books], *, place: Callable[[], object] = lambda: None, shut: Callable[[], str | None]
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
        """Ask in a thread.

        Raises:
            NotReadable: there are no books, they cannot be read now, or too many questions wait.
            Exception: what `question` raises.
        """
        reason = self._shut()
        if reason is not None:
            raise NotReadable(reason)
        if self._asking >= AT_ONCE + WAITING:
            raise NotReadable("Too many questions are being answered. Try again soon.")
        self._asking += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(lambda: question(self.books()))
        finally:
            self._asking -= 1

    def books(self) -> Books:
        """The books where they are now; opened here if need be, so call it in a thread."""
        with self._lock:
            place = self._place()
            if self._books is None or place is not self._opened:
                self._books, self._opened = self._open_books(), place
            return self._books
