"""The two supported service managers: systemd, by `systemctl`, and launchd, by `launchctl`."""

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
PATIENCE = STOP + 30  # seconds for a manager's command, which may wait for the service to stop
PAUSE = 0.1  # seconds between polls


class Refused(Exception):
    """The service manager is missing or refused. The text is a message for the user."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What the manager knows about the service.

    Attributes:
        state: the manager's word for it.
        running: whether a process is running.
        enabled: whether it starts at boot or login.
        pid: that process.
    """

    state: str
    running: bool = False
    enabled: bool = False
    pid: int | None = None


class Manager(Protocol):
    """What the commands need of a service manager.

    Attributes:
        name: its name for the user.
        file: the file with its description of the service.
        env_file: the file with the service's settings.
        folder: the service's working directory.
        config_home: XDG_CONFIG_HOME for the service; None for the platform's default.
        restart, log, start_by_hand: commands to show the user.
        note: a sentence to show after an installation; may be empty.
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
        """Render the description of `service`."""

    def read(self, text: str) -> Service:
        """Parse a description. Raises ValueError."""

    def state(self) -> ServiceState:
        """Return the service's state. Raises Refused."""

    def start(self, *, changed: bool) -> None:
        """Start and enable it; restart it if its description `changed`. Raises Refused."""

    def stop(self) -> None:
        """Stop and disable it. Raises Refused."""

    def forget(self) -> None:
        """Forget the deleted description. Raises Refused."""


class Systemd:
    """systemd, for one user or for the whole machine."""

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
        self.note = "" if system else "It runs while you are logged in; to keep it running: loginctl enable-linger"

    def render(self, service: Service) -> str:
        """Render the unit."""
        return systemd_unit(service, system=self.system)

    def read(self, text: str) -> Service:
        """Parse a unit. Raises ValueError."""
        return read_systemd_unit(text)

    def state(self) -> ServiceState:
        """Return the state from `systemctl show`; a missing unit is `inactive`."""
        shown = self._call("show", UNIT, "--property=ActiveState,SubState,UnitFileState,MainPID")
        facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        active, pid = facts.get("ActiveState", "unknown"), facts.get("MainPID", "0")
        return ServiceState(
            state=f"{active} ({facts['SubState']})" if facts.get("SubState") else active,
            running=active == "active",
            enabled=facts.get("UnitFileState") == "enabled",
            pid=int(pid) if pid.isdigit() and pid != "0" else None,
        )

    def start(self, *, changed: bool) -> None:
        """Reload the unit, enable it, start it."""
        self._call("daemon-reload")
        self._call("enable", "--now", UNIT)
        if changed:
            self._call("restart", UNIT)

    def stop(self) -> None:
        """Stop and disable it."""
        self._call("disable", "--now", UNIT)

    def forget(self) -> None:
        """Reload the units, and reset a remembered failure."""
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
            return "systemd is not running here (a container?): run `claude-proxy serve` instead."
        return "This login has no systemd (a container, or su instead of a login): try --system, or `claude-proxy serve`."


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
        """Render the agent's property list."""
        return launchd_plist(service, self.log_file)

    def read(self, text: str) -> Service:
        """Parse a property list. Raises ValueError."""
        return read_launchd_plist(text)

    def state(self) -> ServiceState:
        """Return the state from `launchctl print`."""
        done = call("launchctl", "print", self.target)
        if done.returncode != 0:
            if "could not find service" in done.stderr.lower():
                return ServiceState("not loaded")
            raise Refused(refusal(done, "It needs a login at the Mac's screen, not only over ssh."))
        facts = dict(re.findall(r"^\t(state|pid) = (.+)$", done.stdout, re.MULTILINE))
        found, pid = facts.get("state", "loaded"), facts.get("pid")
        return ServiceState(found, running=found == "running", enabled=True, pid=int(pid) if pid else None)

    def start(self, *, changed: bool) -> None:
        """Load it, which starts it; unload a changed one first."""
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
        """Unload it and wait until its process has drained, since `bootout` may return earlier."""
        if not self.state().enabled:
            return
        self._call("bootout", self.target)
        limit = time.monotonic() + PATIENCE
        while self.state().enabled and time.monotonic() < limit:
            time.sleep(PAUSE)  # launchctl has no command that waits

    def forget(self) -> None:
        """Do nothing: launchd forgets what is unloaded."""

    def _call(self, *words: str) -> None:
        done = call("launchctl", *words)
        if done.returncode != 0:
            raise Refused(refusal(done))


def own_config_home() -> Path | None:
    """Return this shell's XDG_CONFIG_HOME, which the service manager may not know; None if it is not set."""
    stated = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(stated) if Path(stated).is_absolute() else None


def choose(*, system: bool, needed: bool) -> Manager:
    """Return the service manager of this machine.

    Args:
        system: whether the service is for the whole machine.
        needed: whether it must be present; otherwise return the platform's usual one, to write its file.

    Raises:
        Refused: there is none, or it does not support such a service.
    """
    systemd, launchd = shutil.which("systemctl"), shutil.which("launchctl")
    if systemd is None and launchd is None and needed:
        raise Refused(
            "Neither systemctl (systemd) nor launchctl (launchd) is on the PATH, so no service can be installed here. "
            "Run `claude-proxy serve` under this machine's own service manager."
        )
    if systemd is None and (launchd is not None or sys.platform == "darwin"):
        if system:
            raise Refused("--system is for systemd; with launchd the service belongs to the user who is logged in.")
        return Launchd()
    return Systemd(system=system)


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the manager.

    Raises:
        Refused: it cannot be run, or does not finish in time.
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
    """Say what was refused, quoting the manager, and what to do."""
    said = next((line.strip() for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")
    return f"`{' '.join(done.args)}` failed: {said.rstrip('.')}. {hint}".rstrip()
