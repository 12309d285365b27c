"""`claude-proxy service`: the proxy as a systemd or launchd service, started at boot or login and after a failure."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

import claude_proxy
from claude_proxy.cli.address import Health, probe, proxy_url
from claude_proxy.cli.arguments import AppFile, AsJson, ConfigFile, subcommands
from claude_proxy.cli.output import say, write_json
from claude_proxy.cli.project import read_settings
from claude_proxy.cli.service_managers import PAUSE, Manager, Refused, choose
from claude_proxy.cli.service_units import CONFIG, Service, env_file, hidden, read_env
from claude_proxy.errors import SettingsError
from claude_proxy.settings import SECRETS, Settings, places

START_LIMIT = 20.0  # seconds for a started service to answer

app = subcommands("service")
System = Annotated[bool, typer.Option("--system", help="For the whole machine: needs root, runs as its own user (systemd).")]


@dataclass(frozen=True, slots=True)
class Status:
    """What `status --json` prints.

    Attributes:
        manager: systemd or launchd.
        file, env_file: the files with the service's description and its settings.
        installed: whether `file` exists.
        enabled: whether it starts at boot or login.
        state: the manager's word for it.
        pid: the main process.
        url: where it should answer; None if it listens on a Unix socket or its settings cannot be read.
        version: the version that answered /health there; None if our proxy did not.
        problem: what is wrong; empty if nothing is.
    """

    manager: str
    file: str
    env_file: str
    installed: bool
    enabled: bool
    state: str
    pid: int | None
    url: str | None
    version: str | None
    problem: str


@app.command()
def install(
    system: System = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Write the files, but do not start the service.")] = False,
    show: Annotated[bool, typer.Option("--print", help="Print the unit (or property list) and change nothing.")] = False,
    config: ConfigFile = None,
    app_file: AppFile = None,
) -> None:
    """Install the proxy as a service of this user, started at login and restarted after a failure.

    It uses nothing from the current directory unless you name a file with --config or --app. Its settings come from a file
    that is created once and never overwritten: ~/.config/claude-proxy/env, with --system /etc/claude-proxy/claude-proxy.env.
    """
    with sentences():
        manager = choose(system=system, needed=not (no_start or show))
        service = planned(manager, config, app_file)
        if show:
            typer.echo(manager.render(service), nl=False)
            return
        if system:
            refuse_hidden(service)
        url = address(service)
        was_running = False if no_start else ready(manager, url)
        changed = write_files(manager, service)
        tell_left_out(service)
        if no_start:
            typer.echo(f"Not started. To start it: {manager.start_by_hand}")
            return
        manager.start(changed=changed and was_running)
        tell_started(manager, url)


@app.command()
def status(system: System = False, as_json: AsJson = False) -> None:
    """Show whether the service is installed, running and answering. Exits with 1 if not."""
    with sentences():
        found = look(choose(system=system, needed=True))
    if as_json:
        write_json(asdict(found))
    else:
        say("\n".join(lines(found)))
    if found.problem:
        raise typer.Exit(1)


@app.command()
def remove(system: System = False) -> None:
    """Stop the service and delete it. Its settings and data are kept."""
    with sentences():
        manager = choose(system=system, needed=True)
        if not manager.file.exists():
            typer.echo(f"There is no service to remove ({manager.file} does not exist).")
            return
        manager.stop()
        with named(manager.file):
            manager.file.unlink()
        manager.forget()
        typer.echo(f"Stopped, and {manager.file} deleted.")
        if manager.env_file.exists():
            typer.echo(f"Kept, because it may hold keys: {manager.env_file}")


@app.command(hidden=True)
def run(
    path: Annotated[Path, typer.Option("--env-file", metavar="FILE", help="NAME=value lines; may be missing.")],
    app_file: AppFile = None,
) -> None:
    """Run the proxy with variables from a file, for a service manager that cannot read one (launchd)."""
    with sentences():
        os.environ.update(variables(path))
    from claude_proxy.cli.serving import start

    raise typer.Exit(start(None, app_file, {}))


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Print the message and exit with 1 if the manager refuses."""
    try:
        yield
    except Refused as problem:
        say(str(problem), err=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn an error with a file into a message."""
    try:
        yield
    except OSError as error:
        hint = " Use sudo." if isinstance(error, PermissionError) else ""
        raise Refused(f"{path}: {(error.strerror or str(error)).lower()}.{hint}") from None


def planned(manager: Manager, config: Path | None, app_file: Path | None) -> Service:
    """Return the service to install: this program, and the files named on the command line.

    Raises:
        Refused: a unit cannot contain the path.
        SettingsError: CLAUDE_PROXY_CONFIG holds a relative path.
    """
    named_now = next((place.path for place in places.look(os.environ, config, None) if place.why in ("--config", CONFIG)), None)
    service = Service(
        program=program(),
        folder=manager.folder,
        env_file=manager.env_file,
        config=named_now,
        app=None if app_file is None else app_file.absolute(),
        config_home=manager.config_home,
    )
    for path in (service.program[0], service.folder, service.env_file, service.config, service.app, service.config_home):
        if not str(path).isprintable() or str(path) != str(path).strip():
            raise Refused(f"{str(path)!r}: a service cannot use a path with such characters.")
    return service


def program() -> tuple[str, ...]:
    """Return this program's absolute path in its virtual environment."""
    script = Path(sys.executable).absolute().with_name("claude-proxy")
    return (str(script),) if script.is_file() else (str(Path(sys.executable).absolute()), "-P", "-m", "claude_proxy")


def refuse_hidden(service: Service) -> None:
    """Refuse paths that a unit with ProtectHome and PrivateTmp cannot see.

    Raises:
        Refused: names the path.
    """
    needed = [Path(service.program[0]), Path(sys.executable).resolve(), Path(claude_proxy.__file__), service.config, service.app]
    for path in needed:
        if path is not None and hidden(path):
            raise Refused(
                f"A service for the whole machine cannot see {path}: /home, /root and /tmp are hidden from it. "
                "Install claude-proxy elsewhere, such as /opt/claude-proxy (docs/kubernetes.md, systemd)."
            )


def variables(path: Path) -> dict[str, str]:
    """Return the variables in the service's settings file; none if it does not exist.

    Raises:
        Refused: it cannot be read.
    """
    if not path.parent.exists():
        return {}
    with named(path), contextlib.suppress(FileNotFoundError):
        return read_env(path.read_text(encoding="utf-8", errors="replace"))
    return {}


def address(service: Service) -> str | None:
    """Return where the service answers, from its own settings and not this shell's; None for a Unix socket.

    Raises:
        SettingsError: its settings are invalid.
        Refused: they set PORT=0, or cannot be read.
    """
    environ = {**service.locations(), **{name: value for name, value in variables(service.env_file).items() if value}}
    usable = service.folder.is_dir() and os.access(service.folder, os.R_OK | os.X_OK)
    with contextlib.chdir(service.folder if usable else service.folder.anchor):
        settings = read_settings(None, service.app, environ=environ).settings
    if settings.unix_socket is not None:
        return None
    if settings.port == 0:
        raise Refused(f"PORT=0 picks another port at each start; set one in {service.env_file}.")
    return proxy_url(settings)


def ready(manager: Manager, url: str | None) -> bool:
    """Whether the service is running already; if not, check that its port is free.

    Raises:
        Refused: the manager does not answer, or something else listens on the port.
    """
    if manager.state().running:
        return True
    health = Health(None, listening=False) if url is None else probe(url)
    if health.listening:
        who = f"claude-proxy {health.version}" if health.version else "another program"
        raise Refused(f"{who} answers at {url} already: stop it first, or set another PORT in {manager.env_file}.")
    return False


def write_files(manager: Manager, service: Service) -> bool:
    """Write the description, and the settings file if there is none.

    Returns:
        Whether the description has changed.

    Raises:
        Refused: it cannot be written.
    """
    text = manager.render(service)
    with named(manager.env_file):
        write_env_file(manager)
    with named(manager.file):
        before = manager.file.read_text(encoding="utf-8") if manager.file.exists() else None
        if before != text:
            manager.file.parent.mkdir(parents=True, exist_ok=True)
            manager.file.write_text(text, encoding="utf-8")
            typer.echo(f"Written: {manager.file}")
    return before != text


def write_env_file(manager: Manager) -> None:
    """Create the settings file, readable only by its owner because it holds keys. An existing one is not changed."""
    manager.env_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(manager.env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(env_file(manager.restart))
    typer.echo(f"Written: {manager.env_file} (settings and keys go here)")


def tell_left_out(service: Service) -> None:
    """Warn about settings in this shell, which the service does not see."""
    missing = left_out(os.environ, variables(service.env_file))
    if missing:
        typer.echo(
            f"Set in this shell, but not for the service: {', '.join(missing)}. Put them into {service.env_file}", err=True
        )


def left_out(environ: Mapping[str, str], told: Mapping[str, str]) -> list[str]:
    """Return the settings that are in `environ` but not in `told`."""
    ours = [*(name.upper() for name in Settings.model_fields), *(f"{name.upper()}_FILE" for name in sorted(SECRETS))]
    return [name for name in ours if environ.get(name) and name not in told]


def tell_started(manager: Manager, url: str | None) -> None:
    """Wait until the service answers, and report it.

    Raises:
        Refused: it does not.
    """
    if url is None:
        typer.echo("Started; it listens on a Unix socket (BIND).")
    else:
        health = until_answering(url)
        if health.version is None:
            raise Refused(f"It was started, but does not answer at {url}: {health.problem}. See why: {manager.log}")
        say(f"claude-proxy {health.version} runs at {url} and will from now on. Its log: {manager.log}")
    if manager.note:
        typer.echo(manager.note)


def until_answering(url: str) -> Health:
    """Probe until the proxy answers or the time is up."""
    limit = time.monotonic() + START_LIMIT
    health = probe(url)
    while health.version is None and time.monotonic() < limit:
        time.sleep(PAUSE)  # the process belongs to the service manager, so we can only ask again
        health = probe(url)
    return health


def look(manager: Manager) -> Status:
    """Return the service's status.

    Raises:
        Refused: the manager does not answer.
    """
    state = manager.state()
    installed = manager.file.exists()
    url, health = asked(manager) if installed else (None, Health(None))
    problem = "" if installed else "not installed: claude-proxy service install"
    if installed and not state.running:
        problem = f"not running; see why: {manager.log}"
    return Status(
        manager=manager.name,
        file=str(manager.file),
        env_file=str(manager.env_file),
        installed=installed,
        enabled=state.enabled,
        state=state.state,
        pid=state.pid,
        url=url,
        version=health.version,
        problem=problem or health.problem,
    )


def asked(manager: Manager) -> tuple[str | None, Health]:
    """Return where the installed service should answer, and what answers there."""
    try:
        url = address(manager.read(manager.file.read_text(encoding="utf-8")))
    except (Refused, SettingsError, OSError, ValueError) as problem:
        return None, Health(None, f"its address is not known: {problem}")
    return url, Health(None) if url is None else probe(url)


def lines(found: Status) -> Iterator[str]:
    """Format the status for a person."""
    pid = f", pid {found.pid}" if found.pid else ""
    yield f"claude-proxy: {found.state}{pid}{', starts by itself' if found.enabled else ''}"
    yield f"  {found.manager:<9} {found.file}{'' if found.installed else ' (not there)'}"
    yield f"  settings  {found.env_file}"
    if found.url:
        yield f"  address   {found.url}{f' answers: {found.version}' if found.version else ''}"
    if found.problem:
        yield f"  problem   {found.problem}"
