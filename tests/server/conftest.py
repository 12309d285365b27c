"""A worker in the test's own loop, so that what the app saw can be looked at."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from claude_proxy.server.limits import Limits
from claude_proxy.server.worker import Worker, WorkerConfig
from tests.server.apps import Recorder


@dataclass
class Serving:
    port: int
    app: Recorder
    worker: Worker
    ended: asyncio.Task[None]


Serve = Callable[..., AbstractAsyncContextManager[Serving]]


@asynccontextmanager
async def serve(
    *,
    grace: float = 5,
    root_path: str = "",
    trusted: str = "",
    app: Recorder | None = None,
    listener: socket.socket | None = None,
    **limits: Any,
) -> AsyncIterator[Serving]:
    """Serve a Recorder on a free port of loopback until the end of the block."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    app = app or Recorder()
    config = WorkerConfig(app, factory=False, limits=Limits(**limits), grace=grace, root_path=root_path, trusted=trusted)
    ready = asyncio.Event()
    worker = Worker(config, on_ready=ready.set)
    ended = asyncio.create_task(worker.serve([listener]))
    try:
        await ready.wait()
        yield Serving(listener.getsockname()[1], app, worker, ended)
    finally:
        app.go.set()
        worker.stop()
        await ended


@pytest.fixture(name="serve")
def serve_fixture() -> Serve:
    return serve


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    """A worker with the default limits."""
    async with serve() as running:
        yield running


@pytest.fixture
def log_lines() -> Any:
    """The log lines of the test: `[event, ...]` of level warning and worse must be looked at by the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def loud(lines: list[EventDict]) -> list[str]:
    """The events that an operator would be woken by."""
    return [line["event"] for line in lines if line["log_level"] not in ("debug", "info")]
