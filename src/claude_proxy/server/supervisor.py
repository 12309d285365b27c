"""Several workers on one machine: forked from a parent that never loads the app, and replaced when they die."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import structlog

from claude_proxy import logs
from claude_proxy.observe import workers

log = structlog.get_logger("server")

# Serves until stopped and returns an exit code. Arguments: a callback for when it listens, and the lifeline.
Serve = Callable[[Callable[[], None], int], int]

BAD_SETTING = 2  # exit code when a bad setting prevents the start

_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGCHLD")
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]  # Windows lacks most of them, and fork
# If a worker dies within this time of its start, the next one is started only after the same time (seconds).
_TOO_YOUNG = 1.0
# How long after the grace time a worker may take to exit before it is killed (seconds).
_PATIENCE = 15.0


@dataclass(slots=True)
class _Worker:
    pid: int
    news: int  # read end of a pipe; the worker writes one byte when it listens
    born: float
    ready: bool = False
    retiring: bool = False


class Supervisor:
    """Keeps `count` workers running; calls `on_serving` when the first one listens.

    SIGTERM, SIGINT: drain all; a second one kills them. SIGHUP: replace each worker, starting its successor first.
    SIGTTIN, SIGTTOU: add or remove a worker, as in gunicorn.
    """

    def __init__(
        self,
        serve: Serve,
        listeners: list[socket.socket],
        *,
        count: int,
        grace: float,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        self._serve = serve
        self._on_serving = on_serving
        self._listeners = listeners
        self._count = count
        self._grace = grace
        self._workers: dict[int, _Worker] = {}
        self._to_replace: list[int] = []
        self._spawn_after = 0.0
        self._served = False  # whether any worker has ever listened
        self._failed = 0  # exit code after a worker failed
        self._stopped_by: int | None = None
        self._deadline = 0.0
        self._killed_by: int | None = None
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        self._lifeline, self._life = os.pipe()

    def run(self) -> int:
        """Serve until stopped.

        Returns 0; 1 if a worker failed; 2 if a setting kept the first worker from starting; 128 + signal after a second signal.
        """
        for end in (self._bell, self._ring):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        workers.mark()
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, _noted) for number in _SIGNALS}
        try:
            while self._workers or self._stopped_by is None:
                self._fill()
                self._listen()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(self._life)
            os.close(self._lifeline)
        if self._killed_by is not None:
            return 128 + self._killed_by
        log.info("stopped", failed=self._failed > 0)
        return self._failed

    # Starting

    def _fill(self) -> None:
        """Start missing workers, plus one extra while another is being replaced."""
        if self._stopped_by is not None or time.monotonic() < self._spawn_after:
            return
        staying = [worker for worker in self._workers.values() if not worker.retiring]
        wanted = self._count + (1 if self._to_replace else 0)
        for _ in range(wanted - len(staying)):
            self._spawn()

    def _spawn(self) -> None:
        news, tell = os.pipe()
        # Until the child closes its copy of the wakeup socket, a signal to the child would wake the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._be_worker(news, tell)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(tell)
        self._workers[pid] = _Worker(pid, news, time.monotonic())
        self._selector.register(news, selectors.EVENT_READ, self._workers[pid])

    def _be_worker(self, news: int, tell: int) -> None:
        """In the child: close what belongs to the parent, serve, and exit without running the parent's cleanup."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, _IN_WORKERS.get(number, signal.SIG_DFL))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._selector.close()
            self._bell.close()
            self._ring.close()
            for fd in (self._life, news, *(worker.news for worker in self._workers.values())):
                os.close(fd)
            code = self._serve(lambda: _tell(tell), self._lifeline)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # this is a forked child: nothing may return into the supervisor's own code
            log.exception("worker_failed")
        finally:
            with contextlib.suppress(Exception):  # what the app printed; stdout may be missing or its disk full
                sys.stdout.flush()
            logs.drain()
            os._exit(code)

    # Events

    def _listen(self) -> None:
        for key, _ in self._selector.select(self._until_next()):
            if key.data is not None:
                self._hear(key.data)
                continue
            for number in self._bell.recv(256):
                self._on_signal(number)
        self._reap()
        if self._stopped_by is not None and time.monotonic() > self._deadline:
            log.error("worker_stuck", pids=list(self._workers))
            self._failed = 1
            self._signal_all(signal.SIGKILL)
            self._deadline += _PATIENCE

    def _until_next(self) -> float | None:
        due = self._deadline if self._stopped_by is not None else self._spawn_after
        left = due - time.monotonic()
        if self._stopped_by is None and left <= 0:
            return None
        return max(left, 0)

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._on_stop(number)
        elif self._stopped_by is not None:
            return
        elif number == signal.SIGHUP:
            log.info("replacing", workers=len(self._workers))
            self._to_replace = [worker.pid for worker in self._workers.values() if not worker.retiring]
        elif number == signal.SIGTTIN:
            self._count += 1
        elif number == signal.SIGTTOU and self._count > 1:
            self._count -= 1
            staying = [worker for worker in self._workers.values() if not worker.retiring]
            self._retire(staying[-1])

    def _on_stop(self, number: int) -> None:
        if self._stopped_by is not None:
            log.warning("ended_at_once", signal=signal.Signals(number).name)
            self._killed_by = number
            self._signal_all(signal.SIGKILL)
            return
        self._stop(number)

    def _stop(self, number: int) -> None:
        self._stopped_by = number
        self._deadline = time.monotonic() + self._grace + _PATIENCE
        # Close our copies too: while any process holds the socket open, the kernel accepts connections that nobody serves.
        for listener in self._listeners:
            listener.close()
        self._signal_all(signal.SIGTERM)

    def _hear(self, worker: _Worker) -> None:
        """A worker listens, or it died and its pipe has closed (then there is nothing to read)."""
        self._selector.unregister(worker.news)
        if not os.read(worker.news, 1):
            return
        worker.ready = True
        log.debug("worker_ready", pid=worker.pid)
        if not self._served:
            self._served = True
            self._on_serving()
        if self._to_replace:
            old = self._workers.get(self._to_replace.pop(0))
            if old is not None:
                self._retire(old)

    def _retire(self, worker: _Worker) -> None:
        worker.retiring = True
        _kill(worker.pid, signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        for pid in self._workers:
            _kill(pid, number)

    def _reap(self) -> None:
        """Collect the exit status of workers that have ended."""
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                del self._workers[pid]
                if not worker.ready:
                    self._forget_news(worker)
                os.close(worker.news)
                self._on_death(worker, os.waitstatus_to_exitcode(status))

    def _forget_news(self, worker: _Worker) -> None:
        if worker.news in self._selector.get_map():
            self._selector.unregister(worker.news)

    def _on_death(self, worker: _Worker, code: int) -> None:
        if worker.retiring or self._stopped_by is not None:
            log.debug("worker_ended", pid=worker.pid, code=code)
            self._failed = self._failed or int(code not in (0, -signal.SIGTERM, -signal.SIGKILL))
            return
        log.error("worker_died", pid=worker.pid, code=code, listening=worker.ready)
        if not worker.ready and self._to_replace:
            log.error("replacing_failed", reason="the new worker did not start, so the old ones stay")
            self._to_replace = []
        elif not self._served:
            self._failed = BAD_SETTING if code == BAD_SETTING else 1
            self._stop(signal.SIGTERM)
        if time.monotonic() - worker.born < _TOO_YOUNG:
            self._spawn_after = time.monotonic() + _TOO_YOUNG


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the supervisor reads signals from the wakeup socket, and workers leave these signals to it."""


# A closed terminal and some process managers signal the whole process group; the supervisor acts on these. SIGINT is set to
# "ignore" because child processes of a worker inherit that.
_IN_WORKERS = {getattr(signal, name): _noted for name in ("SIGHUP", "SIGTTIN", "SIGTTOU") if hasattr(signal, name)} | {
    signal.SIGINT: signal.SIG_IGN
}


def _tell(fd: int) -> None:
    os.write(fd, b"!")
    os.close(fd)


def _kill(pid: int, number: int) -> None:
    """Signal a child. A child that has exited stays a zombie until it is reaped, so its pid cannot have been reused."""
    os.kill(pid, number)
