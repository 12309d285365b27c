"""Checks of this machine: versions, settings, port, files, environment."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from claude_proxy import __version__
from claude_proxy.cli.address import LOOPBACK, listen_host, probe, proxy_url, same_place
from claude_proxy.cli.claude_settings import effective, overruled
from claude_proxy.cli.client_env import excepts_loopback
from claude_proxy.cli.doctor.check import Check, Checks, fail, ok, warn
from claude_proxy.protocol.claude_code import AUTO_MODE, CHECKING_MODEL, needed
from claude_proxy.protocol.providers import find_at
from claude_proxy.proxy.target import PREFIX
from claude_proxy.settings import Loaded, Settings

CLAUDE_LIMIT = 8.0  # seconds for `claude --version`
OFF = ("0", "false", "no", "off")  # values that Claude Code reads as off
PARTS = ("uvicorn", "httptools", "uvloop", "fastapi")


def versions() -> Checks:
    """Report the versions of what runs here."""
    parts = ", ".join(f"{name} {version}" for name in PARTS if (version := _version(name)))
    yield ok("version", f"claude-proxy {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, {parts}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def claude() -> Checks:
    """Whether Claude Code is installed."""
    command = shutil.which("claude")
    if command is None:
        yield warn("claude", "Claude Code is not on the PATH", "npm install -g @anthropic-ai/claude-code")
        return
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=CLAUDE_LIMIT, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        yield warn("claude", f"{command} --version failed ({type(error).__name__})", "Install Claude Code again.")
    else:
        yield ok("claude", f"Claude Code {done.stdout.strip()[:60]}")


def settings(loaded: Loaded) -> Checks:
    """Report where the settings come from, and anything surprising in them."""
    stated = {name: source for name, source in loaded.sources.items() if source != "default"}
    sources = ", ".join(sorted({"environment" if s.startswith("env ") else s for s in stated.values()}))
    yield ok("settings", f"{len(stated)} set ({sources})" if stated else "all defaults")
    yield from exposure(loaded.settings)


def exposure(found: Settings) -> Checks:
    """Report who can reach the proxy, and whom it serves."""
    if listen_host(found) in LOOPBACK and found.host.split(",")[0].strip("[] ") in LOOPBACK:
        return
    if found.proxy_api_key is not None:
        yield ok("exposure", f"HOST={found.host}: clients must show PROXY_API_KEY")
    elif found.upstream_api_key is not None:
        yield warn(
            "exposure",
            f"HOST={found.host} with a held credential: other machines get a 401",
            "Set PROXY_API_KEY to a key of your choice and give it to the clients.",
        )
    else:
        yield warn("exposure", f"HOST={found.host}: other machines can use the proxy with their own credential")


def port(found: Settings) -> Checks:
    """Whether the proxy runs on its port, or could run there."""
    if found.port == 0:
        yield ok("port", "PORT=0: the proxy picks a free port at each start")
        return
    url = proxy_url(found)
    health = probe(url)
    if health.version is not None:
        yield ok("port", f"claude-proxy {health.version} answers at {url}")
    elif health.listening:
        yield fail(
            "port", f"port {found.port}: {health.problem}", "Stop that program, or set PORT to another port, such as 3001."
        )
    else:
        yield free_port(listen_host(found), found.port)


def free_port(host: str, number: int) -> Check:
    """Whether `host`:`number` can be bound."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except PermissionError:
        return fail("port", f"port {number} needs more rights than you have", "Set PORT to one above 1023, such as 3000.")
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        return fail(
            "port", f"{host}:{number} cannot be listened on ({words})", "Set HOST to an address of this machine, or PORT."
        )
    return ok("port", f"{host}:{number} is free; the proxy is not running (claude-proxy serve starts it)")


def data_dir(found: Settings) -> Checks:
    """Whether the proxy can write its files."""
    place = found.data_dir.expanduser()
    existing = next((folder for folder in (place, *place.parents) if folder.exists()), Path())
    try:
        if not existing.is_dir():
            raise NotADirectoryError
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError:
        yield fail("data", f"{place} cannot be written", f"Set DATA_DIR to a folder of yours, or: chown {os.getuid()} {existing}")
    else:
        yield ok("data", f"{place} can be written" if existing == place else f"{place} can be created")


def client_side(found: Settings, environ: Mapping[str, str]) -> Checks:
    """Whether Claude Code, started from this shell, would use the proxy."""
    if found.port == 0:
        return
    wanted = proxy_url(found) + PREFIX
    others = overruled(environ, Path.cwd(), {"ANTHROPIC_BASE_URL": wanted})
    if others and not is_ours(others[0].value, wanted):
        other = others[0]
        yield warn(
            "client",
            f"{other.file} sets ANTHROPIC_BASE_URL={other.value}, which overrides the shell's",
            f"Remove it there, or set it to {wanted}",
        )
        return
    seen = effective(environ, Path.cwd())
    stated = seen.get("ANTHROPIC_BASE_URL", "")
    yield base_url(stated, wanted)
    yield from outbound_proxy(environ)
    if is_ours(stated, wanted):
        yield from needs(found, seen)


def is_ours(url: str, wanted: str) -> bool:
    """Whether `url` leads to the proxy, under any name of this machine."""
    return same_place(url, wanted) and urlsplit(url).path.rstrip("/") == PREFIX


def needs(found: Settings, seen: Mapping[str, str]) -> Checks:
    """Report what Claude Code needs with this upstream but does not have.

    Args:
        seen: the environment as Claude Code will see it.
    """
    fix = 'eval "$(claude-proxy env)", or start Claude Code with: claude-proxy code'
    anthropic = find_at(found.base_url).native
    for variable in needed(checks_tools=anthropic):
        stated = seen.get(variable.name, "")
        if not stated or (variable == AUTO_MODE and stated.lower() not in OFF):
            yield warn("client", f"Claude Code lacks {variable.name}={variable.value}: {variable.why}", fix)
    if not anthropic and not seen.get(CHECKING_MODEL):
        yield warn(
            "client",
            f"auto mode asks claude-sonnet-5 whether a tool call is safe, because {CHECKING_MODEL} is not set",
            f"export {CHECKING_MODEL}=... to the name of a model that the upstream has",
        )


def base_url(stated: str, wanted: str) -> Check:
    """Judge this shell's ANTHROPIC_BASE_URL."""
    fix = 'eval "$(claude-proxy env)", or start Claude Code with: claude-proxy code'
    if not stated:
        return ok("client", f"ANTHROPIC_BASE_URL is not set in this shell; {fix}")
    if is_ours(stated, wanted):
        return ok("client", f"ANTHROPIC_BASE_URL={stated} leads to the proxy")
    if same_place(stated, wanted):
        return fail("client", f"ANTHROPIC_BASE_URL={stated} lacks the prefix {PREFIX}", f"export ANTHROPIC_BASE_URL={wanted}")
    return warn("client", f"ANTHROPIC_BASE_URL={stated} does not lead to this proxy", fix)


def outbound_proxy(environ: Mapping[str, str]) -> Checks:
    """Whether clients of this shell would try to reach loopback through an outbound proxy."""
    named = next((name for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)), None)
    if named is not None and not excepts_loopback(environ.get("NO_PROXY") or environ.get("no_proxy") or ""):
        yield warn(
            "client",
            f"{named} is set and NO_PROXY does not exempt this machine, so clients may not reach the proxy",
            'export NO_PROXY="localhost,127.0.0.1,::1${NO_PROXY:+,$NO_PROXY}"',
        )
