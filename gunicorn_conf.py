"""Settings for gunicorn from the environment: `gunicorn -c gunicorn_conf.py proxy:app`.

The names are those of tiangolo/uvicorn-gunicorn-docker: HOST, PORT, BIND, WEB_CONCURRENCY, WORKERS_PER_CORE, MAX_WORKERS,
LOG_LEVEL, ACCESS_LOG, ERROR_LOG, TIMEOUT, KEEP_ALIVE, GRACEFUL_TIMEOUT, WORKER_CLASS. Two defaults differ from that
image's: one worker, and a grace time below the ten seconds after which Docker kills.
"""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent / "src"))  # the package beside this file, if it is not installed

from claude_proxy.server import ServerOptions

_options = ServerOptions.from_environ(os.environ)


def _addresses() -> list[str]:
    if _options.uds is not None:
        return [f"unix:{_options.uds}"]
    return [f"[{host}]:{_options.port}" if ":" in host else f"{host}:{_options.port}" for host in _options.hosts]


bind = _addresses()
workers = _options.workers
worker_class = os.environ.get("WORKER_CLASS") or "asgi"
loglevel = {"trace": "debug"}.get(_options.log_level, _options.log_level)
accesslog = os.environ.get("ACCESS_LOG") or None  # the proxy logs a line for each exchange itself
errorlog = os.environ.get("ERROR_LOG") or "-"
timeout = int(os.environ.get("TIMEOUT") or 120)
keepalive = round(_options.keep_alive)
graceful_timeout = round(_options.graceful_timeout)
forwarded_allow_ips = _options.trusted  # gunicorn trusts loopback by default, where every local client is a peer
