"""Settings for gunicorn: `gunicorn -c gunicorn_conf.py proxy:app`. They are those of `claude-proxy serve` (docs/settings.md).

The names are those of tiangolo/uvicorn-gunicorn-docker: HOST, PORT, BIND, WEB_CONCURRENCY, WORKERS_PER_CORE, MAX_WORKERS,
LOG_LEVEL, ACCESS_LOG, ERROR_LOG, TIMEOUT, KEEP_ALIVE, GRACEFUL_TIMEOUT, WORKER_CLASS, PRE_START_PATH. Two defaults differ from
that image's: one worker, and a grace time below the ten seconds after which Docker kills. A claude-proxy.toml is looked for in
the user's configuration folder and then next to this file, in the folder of proxy.py.
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent / "src"))  # the package next to this file, if it is not installed

from claude_proxy import logs
from claude_proxy.errors import SettingsError
from claude_proxy.server import ServerOptions
from claude_proxy.server.prestart import run_prestart
from claude_proxy.settings import GunicornSettings, clean, load, unread_sentence, visible

_ELSEWHERE = {
    "GUNICORN_CONF": "gunicorn reads the file given with -c",
    "APP_MODULE": "gunicorn runs the app that its command line names",
    "MODULE_NAME": "gunicorn runs the app that its command line names",
    "VARIABLE_NAME": "gunicorn runs the app that its command line names",
}


def _addresses(options: ServerOptions) -> list[str]:
    if options.uds is not None:
        return [f"unix:{options.uds}"]
    return [f"[{host}]:{options.port}" if ":" in host else f"{host}:{options.port}" for host in options.hosts]


try:
    _loaded = load(beside=Path(__file__).with_name("proxy.py"), definition=GunicornSettings)
except SettingsError as _error:
    sys.stderr.write(f"claude-proxy: {_error}\n")
    raise SystemExit(2) from None

_settings: Any = _loaded.settings
_told = ServerOptions.from_settings(_settings)
bind = _addresses(_told)
workers = _told.workers
timeout = _settings.timeout
worker_class = _settings.worker_class
loglevel = _told.log_level
accesslog = _settings.access_log  # none by default: the proxy logs a line for each exchange itself
errorlog = _settings.error_log
keepalive = round(_told.keep_alive)
graceful_timeout = round(_told.graceful_timeout)
forwarded_allow_ips = _told.trusted  # gunicorn trusts loopback by default, and so every local client


def on_starting(server: Any) -> None:
    """Before the first worker: log what has no effect and run the prestart script, whose failure prevents the start."""
    for name, instead in _ELSEWHERE.items():
        if (value := clean(os.environ.get(name, ""))) and Path(value).resolve() != Path(__file__).resolve():
            server.log.warning("%s=%s has no effect under gunicorn: %s.", name, visible(value), instead)
    if _loaded.unread is not None:
        server.log.warning("%s", unread_sentence(_loaded.unread))
    logs.configure(_told.log_level, _told.log_format)
    if code := run_prestart(_told.prestart):
        raise SystemExit(code)
