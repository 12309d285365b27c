"""The compared servers: how each is configured, started, probed and stopped."""

import contextlib
import importlib.metadata
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import payload, processes

OURS = "claude-proxy"
BARE = "bare"  # what ratios are to
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy", "haproxy": "haproxy"}


@dataclass(frozen=True)
class Launch:
    """A command line and what it adds to the environment."""

    argv: list[str]
    env: dict[str, str]


@dataclass(frozen=True)
class Contender:
    """A server under test. `prepare(folder, port, upstream_port)` writes its files and says how to start it."""

    name: str
    version: str
    prepare: Callable[[Path, int, int], Launch]


@dataclass(frozen=True)
class Running:
    """A started server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    started_in: float  # seconds from the start to the first answered request

    def cpu_seconds(self) -> float:
        """CPU time so far, all its processes."""
        return processes.cpu_seconds(self.process.pid)


class StartError(RuntimeError):
    """A server did not come up; the message has the end of its log."""


def _first_line(*argv: str) -> str:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip().splitlines()[0]


NGINX = """\
{user}worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 64m; client_body_buffer_size 16k; keepalive_requests 100000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /api/anthropic/ {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""

CADDY = """\
{{
  admin off
  auto_https off
  log {{
    output file {folder}/caddy.log
  }}
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  log {{
    output file {folder}/access.log
  }}
  reverse_proxy 127.0.0.1:{upstream} {{
    flush_interval -1
  }}
}}
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  log stdout format raw local0
  option httplog
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend front
  bind 127.0.0.1:{port}
  default_backend mock
backend mock
  http-reuse always
  server mock 127.0.0.1:{upstream}
"""


def _configured(template: str, name: str, argv: list[str]) -> Callable[[Path, int, int], Launch]:
    def prepare(folder: Path, port: int, upstream: int) -> Launch:
        user = "user root;\n" if os.geteuid() == 0 else ""
        path = folder / name
        path.write_text(template.format(folder=folder, port=port, upstream=upstream, user=user))
        return Launch([word.format(config=path, folder=folder) for word in argv], {})

    return prepare


def nginx() -> Contender:
    """One worker, keep-alive to the upstream, nothing buffered, one access log line per request."""
    argv = ["nginx", "-p", "{folder}", "-e", "{folder}/error.log", "-c", "{config}", "-g", "daemon off;"]
    return Contender("nginx", _first_line("nginx", "-v"), _configured(NGINX, "nginx.conf", argv))


def caddy() -> Contender:
    """Caddy's reverse_proxy, flushed at once."""
    argv = ["caddy", "run", "--adapter", "caddyfile", "--config", "{config}"]
    return Contender("caddy", "Caddy " + _first_line("caddy", "version"), _configured(CADDY, "Caddyfile", argv))


def haproxy() -> Contender:
    """HAProxy with one thread, as nginx has one worker."""
    argv = ["haproxy", "-db", "-f", "{config}"]
    return Contender("haproxy", _first_line("haproxy", "-v"), _configured(HAPROXY, "haproxy.cfg", argv))


def claude_proxy(command: str | None = None, wrapper: list[str] | None = None, **settings: str) -> Contender:
    """Ours, started as a user starts it; `command` replaces it, `wrapper` goes in front (the profiler)."""
    argv = shlex.split(command) if command else [our_script(), "serve"]

    def prepare(folder: Path, port: int, upstream: int) -> Launch:
        env = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "BASE_URL": f"http://127.0.0.1:{upstream}{payload.PREFIX}",
            "LOG_LEVEL": "info",
            "DATA_DIR": str(folder / "data"),
            **settings,
        }
        return Launch([*(wrapper or []), *argv], env)

    return Contender(OURS, command or _versions(OURS, "uvicorn", "uvloop", "httptools"), prepare)


def bare() -> Contender:
    """The yardstick of ``bare.py``: the same libraries without our features. It writes no log."""

    def prepare(_: Path, port: int, upstream: int) -> Launch:
        return Launch([sys.executable, str(ROOT / "benchmarks/bare.py"), str(port), str(upstream)], {})

    return Contender(BARE, f"benchmarks/bare.py on {_versions('uvicorn', 'uvloop', 'httptools')}", prepare)


def our_script() -> str:
    """The installed ``claude-proxy`` of this Python, else the one on PATH.

    Raises:
        StartError: it is not installed.
    """
    beside = Path(sys.executable).parent / OURS
    found = str(beside) if beside.exists() else shutil.which(OURS)
    if found is None:
        raise StartError(f"{OURS} is not installed in this Python: pip install -e . (or use --proxy-command)")
    return found


def _versions(*packages: str) -> str:
    parts = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return f"{', '.join(parts)}, Python {sys.version.split()[0]}"


RIVALS: dict[str, Callable[[], Contender]] = {"nginx": nginx, "caddy": caddy, "haproxy": haproxy}


def find(name: str, say: Callable[[str], None]) -> Contender | None:
    """The rival `name`, installed from Debian's packages when absent and we may; None when it cannot be had."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # Debian keeps servers there, out of a user's PATH
    if shutil.which(name) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"{name} is not installed: apt-get install -y --no-install-recommends {PACKAGES[name]}")
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", PACKAGES[name]]
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(install, env={**os.environ, **quiet}, capture_output=True, check=False)
    if shutil.which(name) is None:
        return None
    return RIVALS[name]()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(folder: Path, extra: dict[str, str]) -> dict[str, str]:
    """PATH and little else: no proxy variables or settings of the caller's reach the server under test."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "HOME": str(folder), "PYTHONPYCACHEPREFIX": str(ROOT / ".cache/pycache"), **extra}


def answers(port: int, *, timeout: float = 5.0) -> bool:
    """Whether the server on `port` gets a request through to the upstream and back with a 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(payload.request("json", port))
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _await_first_answer(process: subprocess.Popen[bytes], port: int, log: Path, limit: float) -> None:
    started = time.monotonic()
    while not answers(port):
        if process.poll() is not None or time.monotonic() - started > limit:
            state = "ended" if process.poll() is not None else f"gave no 200 within {limit:.0f} s"
            raise StartError(f"{shlex.join(map(str, process.args))} {state}. Its log ends:\n{_end_of(log)}")
        time.sleep(0.002)


def _end_of(log: Path) -> str:
    return "\n".join(line[:400] for line in log.read_text(errors="replace").splitlines()[-6:])


@contextlib.contextmanager
def running(contender: Contender, upstream_port: int, *, core: int, limit: float = 30.0) -> Iterator[Running]:
    """Start `contender` on `core`, wait for its first answered request, stop it on the way out.

    Raises:
        StartError: it ended, or gave no answer within `limit` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as name:
        folder = Path(name)
        port = free_port()
        launch = contender.prepare(folder, port, upstream_port)
        log = folder / "log"
        started = time.monotonic()
        with log.open("wb") as output, processes.on_core(core):
            process = subprocess.Popen(
                launch.argv,
                env=_environment(folder, launch.env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _await_first_answer(process, port, log, limit)
            yield Running(contender.name, port, process, time.monotonic() - started)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes], patience: float = 15.0) -> None:
    """SIGTERM, and after `patience` seconds SIGKILL for its process group, which is our own making."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def mock_upstream(core: int) -> Iterator[tuple[int, int]]:
    """The mock on `core`: its port and its process id."""
    with processes.on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.upstream"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
