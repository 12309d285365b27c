"""A service manager for tests: installed as `systemctl` or `launchctl`, it notes its calls and keeps one service.

Its state is in $FAKE_STATE (a folder). What it "starts" is a child that answers /health on $FAKE_PORT, or, with $FAKE_REAL,
what the unit itself says. $FAKE_REFUSE names a subcommand that is refused, with the words of $FAKE_WORDS.
"""

import os
import plistlib
import select
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_STATE"])
PID, ENABLED, CALLS = STATE / "pid", STATE / "enabled", STATE / "calls"
ANSWER = b'{"status":"ok","version":"9.9.9"}'
OPTIONS = {"--user", "--now"}


def main() -> None:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    with CALLS.open("a") as calls:
        calls.write(shlex.join([name, *words]) + "\n")
    verb = next(word for word in words if word not in OPTIONS)
    if verb == os.environ.get("FAKE_REFUSE"):
        sys.exit(f"\n{os.environ['FAKE_WORDS']}\nmore words")
    {"systemctl": systemctl, "launchctl": launchctl}[name](verb, words)


def systemctl(verb: str, words: list[str]) -> None:
    if verb == "show":
        active, sub = ("active", "running") if PID.exists() else ("inactive", "dead")
        enabled = "enabled" if ENABLED.exists() else ""
        sys.stdout.write(f"ActiveState={active}\nSubState={sub}\nUnitFileState={enabled}\nMainPID={pid() or 0}\n")
    elif verb == "enable":
        ENABLED.touch()
        start(unit)
    elif verb == "restart":
        stop()
        start(unit)
    elif verb == "disable":
        ENABLED.unlink(missing_ok=True)
        stop()
    elif verb == "reset-failed":
        sys.exit("Unit claude-proxy.service not loaded.")


def launchctl(verb: str, words: list[str]) -> None:
    if verb == "print" and not ENABLED.exists():
        sys.exit('Bad request.\nCould not find service "dev.claude-proxy" in domain for user gui: 501')
    if verb == "print":
        running = f"\tstate = running\n\n\tpid = {pid()}\n" if PID.exists() else "\tstate = spawn scheduled\n"
        sys.stdout.write(
            f"{words[-1]} = {{\n\tactive count = 1\n{running}\tlast exit code = (never exited)\n\t\tstate = inner\n}}\n"
        )
    elif verb in ("bootstrap", "kickstart"):
        ENABLED.touch()
        start(lambda: agent(Path(os.environ["HOME"], "Library/LaunchAgents/dev.claude-proxy.plist")))
    elif verb == "bootout":
        stop()
        ENABLED.unlink()


def pid() -> int | None:
    return int(PID.read_text()) if PID.exists() else None


def start(described) -> None:
    if PID.exists():
        return
    if os.environ.get("FAKE_REAL"):
        command, folder, environ = described()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(STATE / "log").open("w"),
        ).pid
    else:
        child = answering(int(os.environ["FAKE_PORT"]))
    PID.write_text(str(child))


def unit():
    """Command, folder and environment that the unit names, as far as systemd's syntax is used there."""
    file = Path(os.environ["HOME"], ".config/systemd/user/claude-proxy.service")
    lines = [line.partition("=")[::2] for line in file.read_text().splitlines() if not line.startswith("#")]
    only = dict(lines)
    environ = {"PATH": os.defpath, "HOME": os.environ["HOME"]}
    for name, value in lines:
        if name == "Environment":
            environ |= dict(word.split("=", 1) for word in shlex.split(value))
    settings = Path(only["EnvironmentFile"].removeprefix("-")).read_text().splitlines()
    environ |= dict(line.split("=", 1) for line in settings if line and not line.startswith("#"))
    return shlex.split(only["ExecStart"]), only["WorkingDirectory"], environ


def agent(file: Path):
    job = plistlib.loads(file.read_bytes())
    environ = {"PATH": os.defpath, "HOME": os.environ["HOME"], **job["EnvironmentVariables"]}
    return job["ProgramArguments"], job["WorkingDirectory"], environ


def answering(port: int) -> int:
    """Listen, then leave the answering to a child."""
    server = socket.create_server(("127.0.0.1", port))
    child = os.fork()
    if child:
        return child
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(ANSWER)}\r\nconnection: close\r\n\r\n".encode()
    while True:
        peer, _ = server.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(head + ANSWER)


def stop() -> None:
    """SIGTERM, then wait for the end of a process that is another's child."""
    found = pid()
    if found is not None:
        ended = os.pidfd_open(found)
        os.kill(found, signal.SIGTERM)
        select.select([ended], [], [], 20)
        PID.unlink()


main()
