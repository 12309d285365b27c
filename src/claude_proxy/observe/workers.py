"""Which processes are workers of one server, so that they can answer together."""

from __future__ import annotations

import hashlib
import os
import socket
import sys

MARK = "CLAUDE_PROXY_WORKERS_OF"  # environment variable: the pid of the process that starts workers


def mark() -> None:
    """Called in the process that starts the workers, before it does."""
    os.environ[MARK] = str(os.getpid())


def group() -> str | None:
    """A short name that the workers of one server share, and no other process; None for a process that works alone.

    Called in the worker. `serve` marks itself; a worker of gunicorn has gunicorn's parent process in memory; uvicorn, hypercorn
    and granian start their workers with multiprocessing. The host's name is part of it because several machines, or containers
    with equal pids, may share a DATA_DIR.
    """
    parent = os.getppid()
    if os.environ.get(MARK) == str(parent) or "gunicorn.arbiter" in sys.modules or _is_child_of_multiprocessing():
        return hashlib.sha256(f"{socket.gethostname()} {parent}".encode()).hexdigest()[:12]
    return None


def _is_child_of_multiprocessing() -> bool:
    process = sys.modules.get("multiprocessing.process")  # a child of multiprocessing has imported it
    return process is not None and process.parent_process() is not None
