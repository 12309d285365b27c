"""The options of `serve` (addresses, workers, timeouts): one frozen value, made from the settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from claude_proxy.settings import Settings, clean, visible

from .cpus import available_cpus
from .limits import KEEP_ALIVE


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of `serve`. Times are seconds.

    hosts: addresses or names to listen on; uds: path of a Unix socket instead; fd: an inherited listening socket.
    trusted: comma-separated peers whose X-Forwarded-* headers are believed ("" for none, "*" for all).
    app: `module:name` if the environment names one.
    notes: sentences to log at the start.
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
    notes: tuple[str, ...] = ()

    @classmethod
    def from_settings(
        cls, settings: Settings, *, cpus: Callable[[], float] = available_cpus, notes: tuple[str, ...] = ()
    ) -> ServerOptions:
        """Derive the options from `settings`; `cpus` is called only if the number of workers depends on it."""
        return cls(
            hosts=settings.hosts,
            port=settings.port,
            uds=settings.unix_socket,
            log_level=settings.log_level,
            log_format=settings.log_format,
            workers=_workers(settings, cpus),
            keep_alive=settings.keep_alive,
            graceful_timeout=settings.graceful_timeout,
            root_path=settings.root_path,
            trusted=settings.forwarded_allow_ips,
            prestart=None if settings.pre_start_path is None else str(settings.pre_start_path),
            app=settings.other_app,
            notes=notes,
        )


def _workers(settings: Settings, cpus: Callable[[], float]) -> int:
    if settings.web_concurrency is not None:
        return settings.web_concurrency
    if settings.workers_per_core is None:
        return 1
    workers = max(math.floor(settings.workers_per_core * cpus()), 1)
    return min(workers, settings.max_workers) if settings.max_workers else workers


def notes_on(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each environment variable that has no effect, or a different one, under `serve`."""
    told = {name: value for name in (*_ELSEWHERE, *_LOOKED_AT) if (value := clean(environ.get(name, "")))}
    said = [
        f"{name}={visible(told[name])} has no effect under serve: {instead}"
        for name, instead in _ELSEWHERE.items()
        if name in told and (name, told[name]) not in _HARMLESS
    ]
    counted = "WORKERS_PER_CORE" in told and "WEB_CONCURRENCY" not in told
    if told.get("MAX_WORKERS", "0") != "0" and not counted:
        said.append("MAX_WORKERS only bounds the count that WORKERS_PER_CORE gives; it has no effect here.")
    if "ANTHROPIC_BASE_URL" in told:
        said.append("ANTHROPIC_BASE_URL is for clients and has no effect on the proxy: BASE_URL names its upstream.")
    if "BIND" in told and told.keys() & {"HOST", "PORT"}:
        said.append("BIND is set, so HOST and PORT have no effect.")
    return tuple(said)


_ELSEWHERE = {
    "TIMEOUT": "no worker is killed for being busy; the proxied path has its own timeout settings.",
    "ACCESS_LOG": "one line per exchange goes to the log, on standard error.",
    "ERROR_LOG": "errors go to the log, on standard error.",
    "GUNICORN_CMD_ARGS": "gunicorn is not running; see `claude-proxy serve --help`.",
    "GUNICORN_CONF": "gunicorn is not running; use `gunicorn -c gunicorn_conf.py proxy:app` for it.",
    "WORKER_CLASS": "the workers are claude-proxy's own.",
}
_LOOKED_AT = ("WORKERS_PER_CORE", "WEB_CONCURRENCY", "MAX_WORKERS", "ANTHROPIC_BASE_URL", "BIND", "HOST", "PORT")
_HARMLESS = {("ACCESS_LOG", "-"), ("ERROR_LOG", "-")}
