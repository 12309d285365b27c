"""The files that make the proxy a service: a systemd unit, a launchd agent and a settings file. Pure: text in, text out.

Sources: systemd.unit(5), systemd.service(5), systemd.exec(5); launchd.plist(5). deploy/systemd/claude-proxy.service is the same
system unit for an installation in /opt; tests/cli/test_service_units.py checks that they match.
"""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL = "dev.claude-proxy"
CONFIG = "CLAUDE_PROXY_CONFIG"
CONFIG_HOME = "XDG_CONFIG_HOME"
GRACE = 60  # seconds for running streams to finish at shutdown
STOP = 75  # seconds after which the service manager kills; longer than GRACE
OPEN_FILES = 65536  # two for each running request; the usual limits are 1024 (systemd) and 256 (launchd)


@dataclass(frozen=True, slots=True)
class Service:
    """The content of the files.

    Attributes:
        program: the words before `serve`; the first is an absolute path.
        folder: the working directory; nothing is read from it.
        env_file: the file with NAME=value lines.
        config: a named TOML file.
        app: a named proxy.py.
        config_home: the folder in which claude-proxy/claude-proxy.toml is looked for; None for the platform's.
    """

    program: tuple[str, ...]
    folder: Path
    env_file: Path
    config: Path | None = None
    app: Path | None = None
    config_home: Path | None = None

    def locations(self) -> dict[str, str]:
        """The variables that say where its settings file is."""
        places = {CONFIG_HOME: self.config_home, CONFIG: self.config}
        return {name: str(path) for name, path in places.items() if path is not None}

    def options(self) -> tuple[str, ...]:
        """The arguments of `serve`."""
        return () if self.app is None else ("--app", str(self.app))


HEAD = """\
# Written by `claude-proxy service install`, which overwrites it; make your own changes with: {edit}
# Settings: {env_file}
[Unit]
Description=claude-proxy, a self-hosted proxy for the Anthropic API
# Restart it however often it fails (by default systemd gives up after five starts in ten seconds).
StartLimitIntervalSec=0
{network}
[Service]
Type=exec
ExecStart={command}
WorkingDirectory={folder}
EnvironmentFile=-{env_file}
{environment}

# SIGTERM lets running streams finish within GRACEFUL_TIMEOUT; systemd waits longer than that.
KillMode=mixed
Environment=GRACEFUL_TIMEOUT={grace}
TimeoutStopSec={stop}
Restart=always
RestartSec=1
# 2: an invalid setting. A restart would fail the same way.
RestartPreventExitStatus=2

# Sandboxing: it gets no rights that it does not need.
"""
NETWORK = """\
After=network-online.target
Wants=network-online.target
"""
SYSTEM_ONLY = """\
DynamicUser=yes
StateDirectory=claude-proxy
ConfigurationDirectory=claude-proxy
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
"""
# These need no privileges of the manager, so they work in a user's own systemd too.
EVERYWHERE = """\
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
LimitNOFILE={files}
MemoryMax=1G
TasksMax=256
UMask=0077

[Install]
WantedBy={target}
"""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what ProtectHome and PrivateTmp hide


def systemd_unit(service: Service, *, system: bool) -> str:
    """Render the unit: for the whole machine, running as its own user; or for one user, as far as that is possible."""
    own = "DATA_DIR=/var/lib/claude-proxy LOG_FORMAT=json PYTHONDONTWRITEBYTECODE=1" if system else "LOG_FORMAT=json"
    places = "".join("\nEnvironment=" + quoted(f"{name}={path}") for name, path in service.locations().items())
    template = HEAD + (SYSTEM_ONLY if system else "") + EVERYWHERE
    return template.format(
        edit=f"systemctl {'' if system else '--user '}edit claude-proxy",
        network=NETWORK if system else "",
        command=" ".join(command_words((*service.program, "serve", *service.options()))),
        folder=literal(service.folder),
        env_file=literal(service.env_file),
        environment=f"Environment={own}{places}",
        grace=GRACE,
        stop=STOP,
        files=OPEN_FILES,
        target="multi-user.target" if system else "default.target",
    )


def command_words(words: Sequence[str]) -> list[str]:
    """Return the words for ExecStart=; in all but the first, `$` starts a variable (systemd.service(5), "COMMAND LINES")."""
    return [quoted(words[0]), *(quoted(word.replace("$", "$$")) for word in words[1:])]


def quoted(word: str) -> str:
    """Escape one word of a line that systemd splits: double `%`, and quote the word if needed."""
    text = word.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./$-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(path: Path) -> str:
    """Escape a path in a line that systemd does not split: only `%` is special."""
    return str(path).replace("%", "%%")


def read_systemd_unit(text: str) -> Service:
    """Parse one of our units.

    Raises:
        ValueError: it is not one of ours.
    """
    first = dict(reversed([(name, value) for name, mark, value in map(_parts, text.splitlines()) if mark]))
    try:
        program, app = _program([word.replace("$$", "$") for word in words(first["ExecStart"])])
        return Service(
            program=program,
            folder=Path(first["WorkingDirectory"].replace("%%", "%")),
            env_file=Path(first["EnvironmentFile"].removeprefix("-").replace("%%", "%")),
            config=_variable(CONFIG, text),
            app=app,
            config_home=_variable(CONFIG_HOME, text),
        )
    except (KeyError, IndexError, ValueError) as missing:
        raise ValueError(f"no unit of claude-proxy: {missing}") from None


def _program(command: list[str]) -> tuple[tuple[str, ...], Path | None]:
    """Return the words before `serve`, and the value of `--app` after it."""
    serve = max(at for at, word in enumerate(command) if word == "serve" and command[at + 1 :][:1] in ([], ["--app"]))
    return tuple(command[:serve]), Path(command[serve + 2]) if len(command) > serve + 2 else None


def _variable(name: str, text: str) -> Path | None:
    """Return the path that an `Environment=` line assigns to a variable."""
    found = re.search(rf'^Environment="?{name}=.*$', text, re.MULTILINE)
    return Path(words(found[0].partition("=")[2])[0].partition("=")[2]) if found else None


def _parts(line: str) -> tuple[str, str, str]:
    return ("", "", "") if line.startswith("#") else line.partition("=")


def words(line: str) -> list[str]:
    """Split a line into words, undoing `quoted`."""
    return [word.replace("%%", "%") for word in shlex.split(line)]


def launchd_plist(service: Service, log: Path) -> str:
    """Render the agent. launchd cannot read a file of variables, so `service run` does."""
    environment = {"LOG_FORMAT": "json", "GRACEFUL_TIMEOUT": str(GRACE), **service.locations()}
    job: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": [*service.program, "service", "run", "--env-file", str(service.env_file), *service.options()],
        "WorkingDirectory": str(service.folder),
        "EnvironmentVariables": environment,
        "RunAtLoad": True,
        "KeepAlive": True,
        "ExitTimeOut": STOP,
        "ProcessType": "Interactive",  # launchd throttles the other types
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
        "Umask": 0o077,
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(job, sort_keys=False).decode()


def read_launchd_plist(text: str) -> Service:
    """Parse one of our agents.

    Raises:
        ValueError: it is not one of ours.
    """
    try:
        job = plistlib.loads(text.encode())
        command, environment = job["ProgramArguments"], job["EnvironmentVariables"]
        at = max(at for at, word in enumerate(command[:-1]) if word == "--env-file" and command[at + 2 :][:1] in ([], ["--app"]))
        paths = {name: Path(value) for name, value in environment.items() if name in (CONFIG, CONFIG_HOME)}
        app = Path(command[at + 3]) if len(command) > at + 3 else None
        return Service(
            program=tuple(command[: at - 2]),
            folder=Path(job["WorkingDirectory"]),
            env_file=Path(command[at + 1]),
            config=paths.get(CONFIG),
            app=app,
            config_home=paths.get(CONFIG_HOME),
        )
    except Exception as problem:  # plistlib raises what its parser raises
        raise ValueError(f"no agent of claude-proxy: {problem}") from None


ENV_FILE = """\
# Settings of the claude-proxy service, NAME=value per line. They override a claude-proxy.toml in this folder.
# All names: docs/settings.md, or `claude-proxy config show`. To apply a change: {restart}
# BASE_URL=https://api.z.ai/api/anthropic
# PORT=3000
# The key for the upstream, so that clients need none; and the key that clients must then send to the proxy.
# UPSTREAM_API_KEY=
# PROXY_API_KEY=
# NTFY_TOPIC=
# Seconds that running streams get to finish at shutdown, at most {grace}:
# GRACEFUL_TIMEOUT={grace}
"""


def env_file(restart: str) -> str:
    """Render the initial settings file, with everything commented out.

    Args:
        restart: the command that applies a change.
    """
    return ENV_FILE.format(restart=restart, grace=GRACE)


def read_env(text: str) -> dict[str, str]:
    """Parse such a file much like EnvironmentFile= in systemd.exec(5): a value may be quoted."""
    found = {}
    for line in map(str.strip, text.splitlines()):
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found[name.strip()] = unquoted(value.strip())
    return found


def unquoted(value: str) -> str:
    """Return the value without a pair of quotes around it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def hidden(path: Path) -> bool:
    """Whether this path is hidden from a service for the whole machine."""
    return any(path.is_relative_to(folder) for folder in HIDDEN)
