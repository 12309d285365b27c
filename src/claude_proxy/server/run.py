"""`serve`, from its options to its exit code."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from uvicorn.importer import ImportFromStringError

from claude_proxy import logs
from claude_proxy.errors import ProxyError, SettingsError
from claude_proxy.signals import HANGUP, MEANINGLESS, STOPPING, hung_up, stop_signals, surviving

from .leftovers import unused_files
from .limits import Limits
from .options import ServerOptions
from .prestart import run_prestart
from .sockets import CannotListenError, describe, listen
from .supervisor import BAD_SETTING, Supervisor
from .worker import Worker, WorkerConfig

log = structlog.get_logger("server")

DEFAULT_APP = "claude_proxy.app:create_app"


def run(options: ServerOptions, app: Any = None, *, factory: bool = False) -> int:
    """Serve until stopped and return the exit code (docs/serve.md).

    Args:
        app: `module:name` or an ASGI app; by default the one named in the options, else the proxy itself.
        factory: whether `app` is a function that returns the app.
    """
    if app is None:
        app, factory = (options.app, False) if options.app else (DEFAULT_APP, True)
    fill_standard_descriptors()
    _configure_logs(options)
    stopping = stop_signals() if options.workers == 1 else STOPPING
    with surviving((*MEANINGLESS, *HANGUP), _note_signal), _leaving_early(stopping), logs.background():
        for note in (*options.notes, *unused_files()):
            log.warning("option", note=note)
        if code := run_prestart(options.prestart):
            return code
        try:
            listeners = listen(options)
        except CannotListenError as error:
            return complain(str(error))
        try:
            return _serve_all(options, app, factory, listeners)
        finally:
            for listener in listeners:
                listener.close()
            if options.uds is not None:
                Path(options.uds).unlink(missing_ok=True)


def complain(sentence: str, code: int = 1) -> int:
    """Say why the server cannot start, and return the exit code."""
    logs.say(f"claude-proxy: {sentence}")
    return code


def fill_standard_descriptors() -> None:
    """Open the null device where standard input, output or error is closed.

    Otherwise the next socket would get that number, and output of a library or a child process would go to a client.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, that is, this one


def _note_signal(number: signal.Signals) -> None:
    if number in HANGUP:
        if not hung_up():
            log.info("signal_ignored", signal=number.name, note="this app has nothing to reload; SIGTERM stops this process")
    else:
        log.info("signal_ignored", signal=number.name, note="SIGTERM stops this process")


def _configure_logs(options: ServerOptions) -> None:
    """Configure logging unless the caller has; levels known only to gunicorn and uvicorn map to the nearest of ours."""
    if not structlog.is_configured():
        level = {"trace": "debug", "critical": "error"}.get(options.log_level, options.log_level)
        logs.configure(level, options.log_format)


@contextmanager
def _leaving_early(stopping: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Until the server handles signals, exit with 128 + signal. (PID 1 has no default action for them.)"""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in stopping}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_all(options: ServerOptions, app: Any, factory: bool, listeners: list[socket.socket]) -> int:
    where = [describe(listener) for listener in listeners]

    def announce() -> None:
        log.info("listening", on=where, workers=options.workers, pid=os.getpid())

    if options.workers == 1:
        return _serve_one(options, app, factory, listeners, announce, None)
    if not hasattr(os, "fork"):
        return complain("Several workers need fork, which this system does not have: leave out --workers.")

    def serve(on_ready: Callable[[], None], lifeline: int) -> int:
        return _serve_one(options, app, factory, listeners, on_ready, lifeline)

    supervisor = Supervisor(serve, listeners, count=options.workers, grace=options.graceful_timeout, on_serving=announce)
    return supervisor.run()


def _serve_one(
    options: ServerOptions,
    app: Any,
    factory: bool,
    listeners: list[socket.socket],
    on_ready: Callable[[], None],
    lifeline: int | None,
) -> int:
    config = WorkerConfig(
        app,
        factory=factory,
        limits=Limits(keep_alive=options.keep_alive),
        grace=options.graceful_timeout,
        root_path=options.root_path,
        trusted=options.trusted,
    )
    try:
        config.load()
    except SettingsError as error:
        return complain(error.message, BAD_SETTING)
    except ProxyError as error:
        return complain(error.message)
    except ImportFromStringError as error:
        return complain(f"The app {app} cannot be loaded: {error}")
    except Exception:  # the app's module may raise anything while it is imported
        log.exception("app_failed_to_load", app=str(app))
        return complain("The app failed to load; the log above says where.")
    worker = Worker(config, on_ready=on_ready, lifeline=lifeline)
    try:
        worker.run(listeners)
    except SystemExit:
        if worker.lifespan.should_exit:
            return complain("The app failed to start; the log above says why.")
        raise
    return 1 if worker.lifespan.should_exit else 0
