"""Writes log lines in a separate thread, so that a reader that stops reading blocks only that thread.

Non-blocking writes would need no thread, but O_NONBLOCK belongs to the open file description, which we share with every process
that inherited it, and `poll` guarantees nothing while several workers write to one pipe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

WHOLE = 4096  # bytes that a pipe accepts atomically, so that lines of several workers do not mix (PIPE_BUF, pipe(7))
# Bytes that may be queued; the blocked writer holds at most as many again.
ROOM = 1 << 20
LARGE = 16384  # bytes of one write to a file; Linux lets no other write come between
# How long the writer collects lines after each write (seconds): under load it wakes at most twenty times a second instead of
# once per event loop iteration, because each of its turns takes the interpreter's lock from the event loop. The first line
# after a pause is written at once.
_NAP = 0.05
UNREAD = "while nobody read the log"


class LogWriter:
    """A bounded queue of lines and the thread that writes them, which starts with the first line.

    Lines that do not fit into the queue are dropped. Once the log can be written again, one line says how many were lost; the
    same holds for failed writes (a full disk, a reader that is gone).

    Attributes:
        lost: lines that were not written.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        notice: Callable[[int, str], bytes],
        room: int = ROOM,
        whole: Callable[[], int] = lambda: WHOLE,
    ) -> None:
        """Prepare the queue.

        Args:
            write: writes bytes and returns when they are written. It may block; if it raises, these lines are lost.
            notice: renders the line about lost lines: how many, and why.
            room: bytes that may be queued.
            whole: how many bytes may be written at once.
        """
        self._whole = whole
        self._write = write
        self._notice = notice
        self._room = room
        # Its lock is reentrant: a signal handler that interrupts `put` may log too.
        self._changed = threading.Condition(threading.RLock())
        self._queue: list[bytes] = []
        self._size = 0
        self._dropped = 0  # since the writer last took the queue, so all of them belong after its lines
        self._idle = True  # the thread has nothing to write
        self._hurry = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._missed: dict[str, int] = {}  # reason -> lines whose loss is not reported yet
        self._writes = 0
        self._stuck_at = -1  # the value of `_writes` when `drain` gave up
        self.lost = 0

    def put(self, lines: Sequence[bytes]) -> None:
        """Queue complete lines. Never waits for the log's reader."""
        with self._changed:
            for line in lines:
                if self._dropped or (self._queue and self._size + len(line) > self._room):
                    self._dropped += 1
                    self.lost += 1
                else:
                    self._queue.append(line)
                    self._size += len(line)
            if self._thread is None:
                self._start()
            elif self._idle:
                self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` until everything is written; return False if it is not.

        If the reader read nothing during the last wait, there is no further wait until it reads again.
        """
        with self._changed:
            if self._stuck_at == self._writes:
                return False
            self._hurry = True
            self._changed.notify_all()
            drained = self._changed.wait_for(lambda: self._idle and not self._queue, seconds)
            self._hurry = False
            self._stuck_at = -1 if drained else self._writes
            return drained

    def close(self) -> None:
        """Make the thread end once it has written what is queued."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads available: the lines stay queued, and the next one tries again
            self._thread = None

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            lines, dropped = taken
            for piece, count in pieces(lines, self._whole()):
                self._attempt(piece, count)
            if dropped:
                self._miss(UNREAD, dropped)
                self._tell()
            with self._changed:
                self._changed.wait_for(lambda: self._hurry or self._closed, _NAP)

    def _take(self) -> tuple[list[bytes], int] | None:
        """Wait for lines; return all queued ones and how many were dropped after them, or None at the end."""
        with self._changed:
            while not self._queue:
                self._idle = True
                self._changed.notify_all()
                if self._closed:
                    return None
                self._changed.wait()
            self._idle = False
            taken = self._queue, self._dropped
            self._queue, self._size, self._dropped = [], 0, 0
            return taken

    def _attempt(self, piece: bytes, count: int) -> None:
        if self._missed:
            self._tell()
        try:
            self._write(piece)
        except Exception as error:  # whatever failed, try again with the next lines
            self.lost += count
            self._miss(f"because they could not be written: {getattr(error, 'strerror', None) or error}", count)
        self._writes += 1

    def _miss(self, reason: str, count: int) -> None:
        self._missed[reason] = self._missed.get(reason, 0) + count

    def _tell(self) -> None:
        """Write how many lines were lost; if that fails too, the next write reports it."""
        for reason, count in list(self._missed.items()):
            try:
                self._write(self._notice(count, reason))
            except Exception:  # as in `_attempt`: the count is kept, and this thread must go on
                return
            del self._missed[reason]


def pieces(lines: Iterable[bytes], whole: int = WHOLE) -> Iterator[tuple[bytes, int]]:
    """Join lines into pieces of at most `whole` bytes, each with its number of lines; a longer line becomes its own piece."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > whole:
            yield b"".join(piece), len(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece), len(piece)
