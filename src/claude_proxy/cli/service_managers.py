"""The two service managers and how to talk to them: systemd by `systemctl`, launchd by `launchctl`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from claude_proxy.cli.service_units import (
    LABEL,
    STOP,
    Service,
    launchd_plist,
    read_launchd_plist,
    read_systemd_unit,
    systemd_unit,
)

UNIT = "claude-proxy.service"
SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_ENV_FILE = Path("/etc/claude-proxy/claude-proxy.env")
SYSTEM_FOLDER = Path("/var/lib/claude-proxy")
PATIENCE = STOP + 30  # seconds for a command of the manager, which may wait for a stop
PAUSE = 0.1  # seconds between two looks at what has no signal


class Refused(Exception):
    """The service manager is not there or said no. Its text is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class State:
    """What the manager knows of the service.

    Attributes:
        state: in the manager's own words.
        running: a process runs.
        enabled: it starts with the machine, or at login.
        pid: of that process.
    """

    state: str
    running: bool = False
    enabled: bool = False
    pid: int | None = None


class Manager(Protocol):
    """What the commands need of a service manager.

    Attributes:
        name: for the user.
        file: where its description of the service is.
        env_file: where the service's settings are.
        folder: the service's working directory.
        config_home: the folder of configuration folders that the service is told of; None for the platform's.
        restart, log, start_by_hand: commands to tell the user.
        note: a sentence for after an installation; may be empty.
    """

    name: str
    file: Path
    env_file: Path
    folder: Path
    config_home: Path | None
    restart: str
    log: str
    start_by_hand: str
    note: str

    def render(self, service: Service) -> str:
        """The description of `service`."""

    def read(self, text: str) -> Service:
        """What a description says. Raises ValueError."""

    def state(self) -> State:
        """How the service is. Raises Refused."""

    def start(self, *, changed: bool) -> None:
        """Start it now and from now on; start it again if its description `changed`. Raises Refused."""

    def stop(self) -> None:
        """Stop it, now and from now on. Raises Refused."""

    def forget(self) -> None:
        """Take notice that the description is gone. Raises Refused."""


class Systemd:
    """systemd, of one user or of the whole machine."""

    name = "systemd"

    def __init__(self, *, system: bool) -> None:
        self.system = system
        self.file = (SYSTEM_UNITS if system else Path.home() / ".config/systemd/user") / UNIT
        self.env_file = SYSTEM_ENV_FILE if system else Path.home() / ".config/claude-proxy/env"
        self.folder = SYSTEM_FOLDER if system else Path.home()
        self.config_home = SYSTEM_ENV_FILE.parents[1] if system else own_config_home()
        user = "" if system else "--user "
        self.restart = f"systemctl {user}restart claude-proxy"
        self.log = f"journalctl {user}-u claude-proxy -n 20"
        self.start_by_hand = f"systemctl {user}daemon-reload && systemctl {user}enable --now claude-proxy"
        self.note = "" if system else "It runs while you are logged in; for always: loginctl enable-linger"

    def render(self, service: Service) -> str:
        """The unit's text."""
        return systemd_unit(service, system=self.system)

    def read(self, text: str) -> Service:
        """What a unit says. Raises ValueError."""
        return read_systemd_unit(text)

    def state(self) -> State:
        """As `systemctl show` has it; a unit that is not there is `inactive`."""
        shown = self._call("show", UNIT, "--property=ActiveState,SubState,UnitFileState,MainPID")
        facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        active, pid = facts.get("ActiveState", "unknown"), facts.get("MainPID", "0")
        return State(
            state=f"{active} ({facts['SubState']})" if facts.get("SubState") else active,
            running=active == "active",
            enabled=facts.get("UnitFileState") == "enabled",
            pid=int(pid) if pid.isdigit() and pid != "0" else None,
        )

    def start(self, *, changed: bool) -> None:
        """Read the unit anew, enable it, start it."""
        self._call("daemon-reload")
        self._call("enable", "--now", UNIT)
        if changed:
            self._call("restart", UNIT)

    def stop(self) -> None:
        """Stop and disable it."""
        self._call("disable", "--now", UNIT)

    def forget(self) -> None:
        """Read the units anew, and drop a failure that is still remembered."""
        self._call("daemon-reload")
        call("systemctl", *self._scope(), "reset-failed", UNIT)

    def _scope(self) -> list[str]:
        return [] if self.system else ["--user"]

    def _call(self, *words: str) -> str:
        done = call("systemctl", *self._scope(), *words)
        if done.returncode != 0:
            raise Refused(refusal(done, self._hint(done.stderr)))
        return done.stdout

    def _hint(self, said: str) -> str:
        if "bus" not in said and "booted with systemd" not in said:
            return ""
        if self.system:
            return "systemd does not run this machine (a container?): run `claude-proxy serve` there."
        return "No systemd serves this login (a container, or su instead of a login): try --system, or `claude-proxy serve`."


class Launchd:
    """launchd, for the user who is logged in."""

    name = "launchd"
    note = ""

    def __init__(self) -> None:
        self.folder = Path.home()
        self.config_home = own_config_home()
        self.file = Path.home() / "Library/LaunchAgents" / f"{LABEL}.plist"
        self.env_file = Path.home() / ".config/claude-proxy/env"
        self.log_file = Path.home() / "Library/Logs/claude-proxy.log"
        self.domain = f"gui/{os.getuid()}"
        self.target = f"{self.domain}/{LABEL}"
        self.restart = f"launchctl kickstart -k {self.target}"
        self.log = f"tail -n 20 {self.log_file}"
        self.start_by_hand = f"launchctl bootstrap {self.domain} {self.file}"

    def render(self, service: Service) -> str:
        """The agent's property list."""
        return launchd_plist(service, self.log_file)

    def read(self, text: str) -> Service:
        """What a property list says. Raises ValueError."""
        return read_launchd_plist(text)

    def state(self) -> State:
        """As `launchctl print` has it."""
        done = call("launchctl", "print", self.target)
        if done.returncode != 0:
            if "could not find service" in done.stderr.lower():
                return State("not loaded")
            raise Refused(refusal(done, "It needs a login at the Mac's screen, not only over ssh."))
        facts = dict(re.findall(r"^\t(state|pid) = (.+)$", done.stdout, re.MULTILINE))
        found, pid = facts.get("state", "loaded"), facts.get("pid")
        return State(found, running=found == "running", enabled=True, pid=int(pid) if pid else None)

    def start(self, *, changed: bool) -> None:
        """Load it, which starts it; a changed one is unloaded first."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        before = self.state()
        if before.enabled and not changed:
            self._call("kickstart", self.target)
            return
        if before.enabled:
            self.stop()
        self._call("enable", self.target)
        self._call("bootstrap", self.domain, str(self.file))

    def stop(self) -> None:
        """Unload it, and wait until its process has drained: `bootout` may return before that."""
        if not self.state().enabled:
            return
        self._call("bootout", self.target)
        limit = time.monotonic() + PATIENCE
        while self.state().enabled and time.monotonic() < limit:
            time.sleep(PAUSE)

    def forget(self) -> None:
        """Nothing: launchd forgets what is unloaded."""

    def _call(self, *words: str) -> None:
        done = call("launchctl", *words)
        if done.returncode != 0:
            raise Refused(refusal(done))


def own_config_home() -> Path | None:
    """XDG_CONFIG_HOME of this shell, which the service manager may not know; None where it says nothing."""
    stated = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(stated) if Path(stated).is_absolute() else None


def choose(*, system: bool, needed: bool) -> Manager:
    """The service manager of this machine.

    Args:
        system: the service is for the whole machine.
        needed: it has to be there; otherwise the platform's usual one is enough, to write its file.

    Raises:
        Refused: there is none, or it has no such service.
    """
    systemd, launchd = shutil.which("systemctl"), shutil.which("launchctl")
    if systemd is None and launchd is None and needed:
        raise Refused(
            "Neither systemctl (systemd) nor launchctl (launchd) is on the PATH, so nothing here can keep a service. "
            "Run `claude-proxy serve` under the manager that this machine has."
        )
    if systemd is None and (launchd is not None or sys.platform == "darwin"):
        if system:
            raise Refused("--system is for systemd; with launchd the service belongs to the user who is logged in.")
        return Launchd()
    return Systemd(system=system)


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the manager.

    Raises:
        Refused: it cannot be run, or does not end.
    """
    try:
        return subprocess.run(  # noqa: S603 - systemctl or launchctl, from the PATH
            command, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise Refused(f"{command[0]} cannot be run: {(error.strerror or str(error)).lower()}.") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"`{' '.join(command)}` did not end within {PATIENCE} seconds.") from None


def refusal(done: subprocess.CompletedProcess[str], hint: str = "") -> str:
    """What was refused, in the manager's words, and what to do."""
    said = next((line.strip() for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")
    return f"`{' '.join(done.args)}` failed: {said.rstrip('.')}. {hint}".rstrip()
