"""Settings for gunicorn from the environment and claude-proxy.toml: `gunicorn -c gunicorn_conf.py proxy:app`.

The names are those of tiangolo/uvicorn-gunicorn-docker: HOST, PORT, BIND, WEB_CONCURRENCY, WORKERS_PER_CORE, MAX_WORKERS,
LOG_LEVEL, ACCESS_LOG, ERROR_LOG, TIMEOUT, KEEP_ALIVE, GRACEFUL_TIMEOUT, WORKER_CLASS, PRE_START_PATH. Two defaults differ from
that image's: one worker, and a grace time below the ten seconds after which Docker kills.
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent / "src"))  # the package beside this file, if it is not installed

from claude_proxy import logs
from claude_proxy.errors import SettingsError
from claude_proxy.server import OptionError, ServerOptions
from claude_proxy.server.prestart import run_prestart
from claude_proxy.settings import load

_ELSEWHERE = {
    "GUNICORN_CONF": "gunicorn reads the file behind -c",
    "APP_MODULE": "gunicorn runs the app that its command line names",
    "MODULE_NAME": "gunicorn runs the app that its command line names",
    "VARIABLE_NAME": "gunicorn runs the app that its command line names",
}


def _options() -> ServerOptions:
    """What serve would be told. The environment goes before claude-proxy.toml, and BIND before its host and port."""
    loaded = load()
    names = ("log_level", "graceful_timeout") if os.environ.get("BIND") else ("host", "port", "log_level", "graceful_timeout")
    of_file = [name for name in names if loaded.sources[name] != "default" and not loaded.sources[name].startswith("env ")]
    return ServerOptions.from_environ(os.environ, **{name: getattr(loaded.settings, name) for name in of_file})


def _timeout() -> int:
    raw = os.environ.get("TIMEOUT") or "120"
    if not (raw.isascii() and raw.isdecimal()):
        raise OptionError("TIMEOUT", raw, "a whole number of seconds; 0 for no limit")
    return int(raw)


def _addresses(options: ServerOptions) -> list[str]:
    if options.uds is not None:
        return [f"unix:{options.uds}"]
    return [f"[{host}]:{options.port}" if ":" in host else f"{host}:{options.port}" for host in options.hosts]


try:
    _told = _options()
    timeout = _timeout()
except (SettingsError, OptionError) as _error:
    sys.stderr.write(f"claude-proxy: {_error}\n")
    raise SystemExit(2) from None

bind = _addresses(_told)
workers = _told.workers
worker_class = os.environ.get("WORKER_CLASS") or "asgi"
loglevel = {"trace": "debug"}.get(_told.log_level, _told.log_level)
accesslog = os.environ.get("ACCESS_LOG") or None  # the proxy logs a line for each exchange itself
errorlog = os.environ.get("ERROR_LOG") or "-"
keepalive = round(_told.keep_alive)
graceful_timeout = round(_told.graceful_timeout)
forwarded_allow_ips = _told.trusted  # gunicorn trusts loopback by default, where every local client is a peer


def on_starting(server: Any) -> None:
    """Before the first worker: say what has no effect, and run the prestart script, whose failure stops the start."""
    for name, instead in _ELSEWHERE.items():
        if (value := os.environ.get(name)) and Path(value).resolve() != Path(__file__).resolve():
            server.log.warning("%s=%s has no effect under gunicorn: %s.", name, value, instead)
    logs.configure({"trace": "debug", "critical": "error"}.get(_told.log_level, _told.log_level), _told.log_format)
    if code := run_prestart(_told.prestart):
        raise SystemExit(code)
