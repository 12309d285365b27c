"""The files that make the proxy a service: a systemd unit, a launchd agent, the settings beside them. Pure: text in, text out.

Sources: systemd.unit(5), systemd.service(5), systemd.exec(5); launchd.plist(5). deploy/systemd/claude-proxy.service is the same
system unit for an installation in /opt; tests/cli/test_service_units.py keeps the two alike.
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
GRACE = 60  # seconds for running streams at a stop
STOP = 75  # seconds after which the service manager kills; longer than GRACE
OPEN_FILES = 65536  # two for each running request; the usual limits are 1024 (systemd) and 256 (launchd)


@dataclass(frozen=True, slots=True)
class Service:
    """What the files say.

    Attributes:
        program: the words before `serve`, the first an absolute path.
        folder: working directory, in which nothing is looked for.
        env_file: the file with NAME=value lines.
        config: a named TOML file.
        app: a named proxy.py.
        config_home: the folder whose claude-proxy/claude-proxy.toml is read if it is there; None for the platform's.
    """

    program: tuple[str, ...]
    folder: Path
    env_file: Path
    config: Path | None = None
    app: Path | None = None
    config_home: Path | None = None

    def told(self) -> dict[str, str]:
        """The variables that say where its file of settings is."""
        places = {CONFIG_HOME: self.config_home, CONFIG: self.config}
        return {name: str(path) for name, path in places.items() if path is not None}

    def options(self) -> tuple[str, ...]:
        """The words behind `serve`."""
        return () if self.app is None else ("--app", str(self.app))


HEAD = """\
# Written by `claude-proxy service install`, which writes it again; own changes belong into: {edit}
# Settings: {env_file}
[Unit]
Description=claude-proxy, a self-hosted proxy for the Anthropic API
# However often it fails in a row, it is started again (systemd gives up after five times in ten seconds).
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
# 2: a setting that cannot be used. The next start would say the same.
RestartPreventExitStatus=2

# What it does not need, it does not get.
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
# These need no privilege of the manager, so they hold in a user's own systemd too.
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
    """The unit's text: for the whole machine, under a user of its own; or for one user, with what that allows."""
    own = "DATA_DIR=/var/lib/claude-proxy LOG_FORMAT=json PYTHONDONTWRITEBYTECODE=1" if system else "LOG_FORMAT=json"
    places = "".join("\nEnvironment=" + quoted(f"{name}={path}") for name, path in service.told().items())
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
    """The words for ExecStart=; in all but the first `$` begins a variable (systemd.service(5), "COMMAND LINES")."""
    return [quoted(words[0]), *(quoted(word.replace("$", "$$")) for word in words[1:])]


def quoted(word: str) -> str:
    """One word of a line that systemd splits: `%` doubled, in quotes where it needs them."""
    text = word.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./$-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(path: Path) -> str:
    """A path in a line that systemd does not split: only `%` is special."""
    return str(path).replace("%", "%%")


def read_systemd_unit(text: str) -> Service:
    """The service that a unit of ours describes.

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
    """The words before `serve`, and what `--app` names behind it."""
    serve = max(at for at, word in enumerate(command) if word == "serve" and command[at + 1 :][:1] in ([], ["--app"]))
    return tuple(command[:serve]), Path(command[serve + 2]) if len(command) > serve + 2 else None


def _variable(name: str, text: str) -> Path | None:
    """The path that an `Environment=` line of its own gives a variable."""
    found = re.search(rf'^Environment="?{name}=.*$', text, re.MULTILINE)
    return Path(words(found[0].partition("=")[2])[0].partition("=")[2]) if found else None


def _parts(line: str) -> tuple[str, str, str]:
    return ("", "", "") if line.startswith("#") else line.partition("=")


def words(line: str) -> list[str]:
    """What `quoted` has joined, apart again."""
    return [word.replace("%%", "%") for word in shlex.split(line)]


def launchd_plist(service: Service, log: Path) -> str:
    """The agent's text. launchd knows no file of variables, so `service run` reads it."""
    environment = {"LOG_FORMAT": "json", "GRACEFUL_TIMEOUT": str(GRACE), **service.told()}
    job: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": [*service.program, "service", "run", "--env-file", str(service.env_file), *service.options()],
        "WorkingDirectory": str(service.folder),
        "EnvironmentVariables": environment,
        "RunAtLoad": True,
        "KeepAlive": True,
        "ExitTimeOut": STOP,
        "ProcessType": "Interactive",  # the others are slowed down
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
        "Umask": 0o077,
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(job, sort_keys=False).decode()


def read_launchd_plist(text: str) -> Service:
    """The service that an agent of ours describes.

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
# What the claude-proxy service is told, NAME=value per line. It goes before a claude-proxy.toml in this folder.
# All names: docs/settings.md, or `claude-proxy config show`. After a change: {restart}
# BASE_URL=https://api.z.ai/api/anthropic
# PORT=3000
# The proxy's own key, so that clients need none; and the key that clients must then show.
# UPSTREAM_API_KEY=
# PROXY_API_KEY=
# NTFY_TOPIC=
# Seconds that running streams get at a stop, at most {grace}:
# GRACEFUL_TIMEOUT={grace}
"""


def env_file(restart: str) -> str:
    """The settings file as it is first written: everything commented out.

    Args:
        restart: the command that makes a change count.
    """
    return ENV_FILE.format(restart=restart, grace=GRACE)


def read_env(text: str) -> dict[str, str]:
    """The variables of such a file, near enough to EnvironmentFile= in systemd.exec(5): a value may stand in quotes."""
    found = {}
    for line in map(str.strip, text.splitlines()):
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found[name.strip()] = unquoted(value.strip())
    return found


def unquoted(value: str) -> str:
    """The value without the pair of quotes around it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def hidden(path: Path) -> bool:
    """Whether a service for the whole machine cannot see this path."""
    return any(path.is_relative_to(folder) for folder in HIDDEN)
