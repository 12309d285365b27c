"""What `serve` is told: addresses, workers, times. One frozen value, read from an environment.

The names are those of the documents (tiangolo/uvicorn-gunicorn-docker), so that a deployment written for them
goes on working; a name that cannot mean here what it means there earns a note, which the start logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .cpus import available_cpus
from .limits import KEEP_ALIVE

LOG_FORMATS = ("auto", "console", "json")
LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


class OptionError(ValueError):
    """A value that cannot be used: the message names it, its source and what is expected."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name}={value} is not {expected}.")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of `serve`. Times are seconds.

    hosts: addresses or names to listen on; uds: path of a Unix socket instead; fd: an inherited listening socket.
    trusted: comma-separated peers whose X-Forwarded-* count ("" for none, "*" for all).
    app: `module:name` if the environment names one. sources: field -> where its value came from.
    notes: sentences about names that mean something else here.
    """

    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int = 3000
    uds: str | None = None
    fd: int | None = None
    log_level: str = "info"
    log_format: str = "auto"
    workers: int = 1
    keep_alive: float = KEEP_ALIVE
    graceful_timeout: float = 8.0
    root_path: str = ""
    trusted: str = ""
    backlog: int = 2048
    prestart: str | None = None
    app: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], *, cpus: Callable[[], float] = available_cpus, **overrides: Any
    ) -> ServerOptions:
        """Read the environment; `overrides` that are not None win (the command line).

        `host` may be given as an override for `hosts`: one string, several addresses separated by commas.
        Raises OptionError for a value that cannot be used.
        """
        reading = _Reading(environ)
        values = reading.everything(cpus)
        if (host := overrides.pop("host", None)) is not None:
            overrides["hosts"] = _hosts("host", host)
        unknown = overrides.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
        given = {name: value for name, value in overrides.items() if value is not None}
        if values.get("uds") is not None and given.keys() & {"hosts", "port", "fd"}:
            given.setdefault("uds", None)
        sources = {**reading.sources, **dict.fromkeys(given, "command line")}
        return cls(**{**values, **given}, sources=sources, notes=tuple(reading.notes()))


@dataclass(slots=True)
class _Reading:
    """One pass over an environment. An empty value counts as absent, as `NAME=` in a compose file means it."""

    environ: Mapping[str, str]
    sources: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def everything(self, cpus: Callable[[], float]) -> dict[str, Any]:
        values: dict[str, Any] = {}

        def put(option: str, name: str, read: Callable[[str, str], Any]) -> None:
            if (raw := self.text(name)) is not None:
                values[option] = read(name, raw)
                self.sources[option] = name

        put("hosts", "HOST", _hosts)
        put("port", "PORT", _port)
        put("log_level", "LOG_LEVEL", _log_level)
        put("log_format", "LOG_FORMAT", _log_format)
        put("keep_alive", "KEEP_ALIVE", _seconds)
        put("graceful_timeout", "GRACEFUL_TIMEOUT", _seconds)
        put("root_path", "ROOT_PATH", _root_path)
        put("trusted", "FORWARDED_ALLOW_IPS", lambda _, raw: raw)
        put("prestart", "PRE_START_PATH", lambda _, raw: raw)
        put("workers", "WEB_CONCURRENCY", _count)
        if "workers" not in values:
            put("workers", "WORKERS_PER_CORE", lambda name, raw: self._per_core(_ratio(name, raw), cpus()))
        if (bind := self.text("BIND")) is not None:
            for option, value in _bind(bind).items():
                values[option] = value
                self.sources[option] = "BIND"
        if (app := self._app()) is not None:
            values["app"], self.sources["app"] = app
        return values

    def _per_core(self, per_core: float, cpus: float) -> int:
        workers = max(math.floor(per_core * cpus), 1)
        most = self.text("MAX_WORKERS") or "0"
        return workers if most == "0" else min(workers, _count("MAX_WORKERS", most))  # 0 is "no limit" in the documents' image

    def _app(self) -> tuple[str, str] | None:
        """APP_MODULE, or MODULE_NAME and VARIABLE_NAME, with the name it came from."""
        if (whole := self.text("APP_MODULE")) is not None:
            return _app_module("APP_MODULE", whole), "APP_MODULE"
        module, variable = self.text("MODULE_NAME"), self.text("VARIABLE_NAME")
        if module is None and variable is None:
            return None
        source = "VARIABLE_NAME" if module is None else "MODULE_NAME"
        return f"{module or 'proxy'}:{variable or 'app'}", source

    def notes(self) -> list[str]:
        """Sentences for what is set and does nothing, or something else, under `serve`."""
        said = [
            f"{name}={value} has no effect under serve: {instead}"
            for name, instead in _ELSEWHERE.items()
            if (value := self.text(name)) is not None and (name, value) not in _HARMLESS
        ]
        counted = self.text("WORKERS_PER_CORE") and not self.text("WEB_CONCURRENCY")
        if self.text("MAX_WORKERS") not in (None, "0") and not counted:
            said.append("MAX_WORKERS only bounds the count that WORKERS_PER_CORE gives; it has no effect here.")
        if self.text("ANTHROPIC_BASE_URL"):
            said.append("ANTHROPIC_BASE_URL is for clients and has no effect on the proxy: BASE_URL names its upstream.")
        if self.text("BIND") and (self.text("HOST") or self.text("PORT")):
            said.append("BIND is set, so HOST and PORT have no effect.")
        return said


_ELSEWHERE = {
    "TIMEOUT": "no worker is killed for being busy; the time-outs of the proxied path are settings of their own.",
    "ACCESS_LOG": "one line per exchange goes to the log, on standard error.",
    "ERROR_LOG": "errors go to the log, on standard error.",
    "GUNICORN_CMD_ARGS": "gunicorn is not running; see `claude-proxy serve --help`.",
    "GUNICORN_CONF": "gunicorn is not running; use `gunicorn -c gunicorn_conf.py proxy:app` for it.",
    "WORKER_CLASS": "the workers are claude-proxy's own.",
}
_HARMLESS = {("ACCESS_LOG", "-"), ("ERROR_LOG", "-")}


def _bind(raw: str) -> dict[str, Any]:
    """`host:port`, `[v6]:port`, `:port` or `unix:path`, as gunicorn reads it."""
    if raw.startswith("unix:"):
        path = raw.removeprefix("unix:").removeprefix("//")
        if not path:
            raise OptionError("BIND", raw, "host:port or unix:path")
        return {"uds": path}
    host, colon, port = raw.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise OptionError("BIND", raw, "host:port or unix:path")
    return {"hosts": _hosts("BIND", host or "0.0.0.0"), "port": _port("BIND", port)}  # noqa: S104  gunicorn's ":80"


def _hosts(name: str, raw: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().removeprefix("[").removesuffix("]") for part in raw.split(","))
    if not all(hosts):
        raise OptionError(name, raw, "an address, a host name, or several separated by commas")
    return hosts


def _port(name: str, raw: str) -> int:
    if raw.isascii() and raw.isdecimal() and int(raw) < 65536:
        return int(raw)
    raise OptionError(name, raw, "a port between 0 and 65535")


def _count(name: str, raw: str) -> int:
    if raw.isascii() and raw.isdecimal() and 0 < int(raw) <= 1024:
        return int(raw)
    raise OptionError(name, raw, "a whole number from 1 to 1024")


def _number(raw: str) -> float:
    try:
        return float(raw)
    except ValueError:
        return math.nan


def _seconds(name: str, raw: str) -> float:
    value = _number(raw)
    if 0 <= value <= 86400:
        return value
    raise OptionError(name, raw, "a number of seconds from 0 to 86400")


def _ratio(name: str, raw: str) -> float:
    value = _number(raw)
    if 0 < value <= 64:
        return value
    raise OptionError(name, raw, "a number of workers per core above 0, 64 at most")


def _log_level(name: str, raw: str) -> str:
    if raw.lower() in LOG_LEVELS:
        return raw.lower()
    raise OptionError(name, raw, f"one of {', '.join(LOG_LEVELS)}")


def _log_format(name: str, raw: str) -> str:
    if raw.lower() in LOG_FORMATS:
        return raw.lower()
    raise OptionError(name, raw, f"one of {', '.join(LOG_FORMATS)}")


def _root_path(name: str, raw: str) -> str:
    path = raw.rstrip("/")
    if path and not (path.startswith("/") and path.isascii()):
        raise OptionError(name, raw, "a path that begins with '/'")
    return path


def _app_module(name: str, raw: str) -> str:
    module, colon, attribute = raw.partition(":")
    if module and colon and attribute:
        return raw
    raise OptionError(name, raw, "of the form module:name")
