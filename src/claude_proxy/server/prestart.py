"""Runs the user's prestart script once before the first worker (`PRE_START_PATH`, `/app/prestart.sh`)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import structlog

from claude_proxy import logs
from claude_proxy.safepath import without_working_directory

log = structlog.get_logger("server")

DEFAULT = Path("/app/prestart.sh")


def run_prestart(path: str | None, default: Path = DEFAULT) -> int:
    """Run the script and return 0, or the code to exit with. Without a path, run the default if it exists.

    Python processes that the script starts import modules from the script's folder, not from the working directory.

    A script that is not executable is run by the interpreter named in its first line, or by sh. It inherits our
    output. Exit codes: the script's own, 128 + the signal that ended the script or us, 1 if it cannot run.
    """
    script = default if path is None else Path(path)
    if path is None and not script.is_file():
        return 0
    log.info("prestart", script=str(script))
    try:
        code = _run(_command(script), without_working_directory(os.environ, str(script.parent)))
    except OSError as error:
        return _complain(f"The prestart script {script} cannot be run: {error.strerror}.", 1)
    if code:
        return _complain(f"The prestart script {script} failed with exit code {code}; the proxy does not start.", code)
    return 0


def _command(script: Path) -> list[str]:
    with script.open("rb") as file:
        first = file.readline(256)
    if not first.startswith(b"#!"):
        return ["/bin/sh", str(script)]
    if os.access(script, os.X_OK):
        return [str(script.absolute())]
    return [*shlex.split(first[2:].decode("utf-8", "replace")), str(script)]


def _run(command: list[str], environ: Mapping[str, str]) -> int:
    """Run the command to its end, forwarding SIGTERM and SIGINT, which then end us too (PID 1 has no default action)."""
    stopped: list[int] = []
    with subprocess.Popen(command, env=dict(environ)) as child:  # noqa: S603  the user's own script

        def pass_on(number: int, frame: FrameType | None) -> None:
            stopped.append(number)
            child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            code = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if stopped:
        return 128 + stopped[0]
    return code if code >= 0 else 128 - code


def _complain(sentence: str, code: int) -> int:
    logs.say(f"claude-proxy: {sentence}")
    return code
