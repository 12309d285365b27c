"""A proxy that runs as long as one run of Claude Code (`claude-proxy code --start`)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from claude_proxy.cli.address import probe
from claude_proxy.cli.output import say
from claude_proxy.safepath import PYTHON, without_working_directory

START_LIMIT = 15.0  # seconds to wait for the proxy to answer
STOP_LIMIT = 12.0  # seconds; longer than the default GRACEFUL_TIMEOUT
LAST_LINES = 5


def run_with_proxy(
    command: Sequence[str], environ: Mapping[str, str], address: str, config: Path | None, app: Path | None = None
) -> int:
    """Start a proxy, run `command` in `environ`, stop the proxy.

    Returns:
        The command's exit code; 128 + N if signal N ended it, as in shells; 1 if the proxy did not start.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log, proxy(config, log, app) as process:
        if not answers(process, address):
            log.seek(0)
            tail = "".join(log.readlines()[-LAST_LINES:]).strip()
            say(f"The proxy did not start:\n{tail}", err=True)
            return 1
        return run(command, environ)


@contextlib.contextmanager
def proxy(config: Path | None, log: IO[str], app: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run `claude-proxy serve` in its own session, so that Ctrl-C in Claude Code does not reach it."""
    named = {"--config": config, "--app": app}
    options = [word for option, file in named.items() if file is not None for word in (option, str(file))]
    process = subprocess.Popen(  # noqa: S603 - this program itself
        [*PYTHON, "-m", "claude_proxy", "serve", *options],
        env=without_working_directory(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(process: subprocess.Popen[str], address: str) -> bool:
    """Wait until the proxy answers at `address`; return False if it exits or takes too long."""
    limit = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < limit:
        if probe(address).version is not None:
            return True
        time.sleep(0.05)  # nothing announces that the port is open, so ask again
    return False


def run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `command` in the foreground: it handles Ctrl-C itself, and SIGTERM is forwarded to it."""
    child = subprocess.Popen(command, env=dict(environ))  # noqa: S603 - the user's own program
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
    }
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status
