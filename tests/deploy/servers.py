"""Every server of the documents as a real process with `proxy:app`, before our simulator."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from tests.deploy.fronts import NAME, ROOT, Certificate
from tests.deploy.process import Program, free_port, running

BIN = Path(sys.executable).parent
PREFIX = "/claude"
UPSTREAM_KEY = "sk-upstream-secret"


@dataclass(frozen=True)
class Kind:
    """How a server is started, and what is known to differ (docs/servers.md has the same table).

    command: `{port}`, `{prefix}`, `{cert}` and `{key}` are put in.
    workers: processes that serve.
    told_client: it gives the app the client's address from a trusted front's header; told_scheme: the same for https.
    keeps_underscores: it passes on header names with an underscore.
    tls: what to add so that it speaks TLS and HTTP/2 itself.
    exit_code: after SIGTERM.
    """

    command: Sequence[str]
    workers: int = 1
    told_client: bool = True
    told_scheme: bool = True
    keeps_underscores: bool = True
    tls: Sequence[str] = ()
    exit_code: int = 0


KINDS = {
    "serve": Kind(["claude-proxy", "serve", "--port", "{port}"]),
    "serve-4": Kind(["claude-proxy", "serve", "--port", "{port}", "--workers", "4"], workers=4),
    "fastapi": Kind(
        ["fastapi", "run", "proxy.py", "--host", "127.0.0.1", "--port", "{port}", "--root-path", "{prefix}"], exit_code=-15
    ),
    "uvicorn-4": Kind(["uvicorn", "proxy:app", "--port", "{port}", "--workers", "4", "--root-path", "{prefix}"], workers=4),
    "gunicorn-uvicorn": Kind(
        ["gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-w", "2", "proxy:app", "-b", "127.0.0.1:{port}"],
        workers=2,
    ),
    "gunicorn-asgi": Kind(
        ["gunicorn", "-k", "asgi", "-w", "2", "proxy:app", "-b", "127.0.0.1:{port}", "--root-path", "{prefix}"],
        workers=2,
        told_client=False,
        keeps_underscores=False,
    ),
    "hypercorn": Kind(
        ["hypercorn", "proxy:app", "--bind", "127.0.0.1:{port}", "--root-path", "{prefix}"],
        told_client=False,
        told_scheme=False,
        tls=["--certfile", "{cert}", "--keyfile", "{key}"],
    ),
    "granian": Kind(
        ["granian", "--interface", "asgi", "proxy:app", "--port", "{port}", "--url-path-prefix", "{prefix}"],
        told_client=False,
        told_scheme=False,
    ),
}


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    kind: Kind
    port: int
    tls: bool
    program: Program
    folder: Path

    def workers(self) -> list[int]:
        """The process ids of its workers: its children that are not Python's own helpers."""
        children = Path(f"/proc/{self.program.process.pid}/task/{self.program.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]

    async def has_workers(self, count: int, *, without: int = 0) -> bool:
        """Whether `count` workers run, the process `without` not among them."""
        workers = self.workers()
        return len(workers) == count and without not in workers

    async def stops_answering(self) -> None:
        """Wait until a new request is not answered any more. (A parent process may still hold the listening socket.)

        Raises:
            AssertionError: it still answers after a while.
        """

        async def silent() -> bool:
            return not await answers(self.port)

        await self.program.until(silent)


async def answers(port: int) -> bool:
    """Whether GET /health is answered within half a second."""
    with anyio.move_on_after(0.5):
        try:
            async with await anyio.connect_tcp("127.0.0.1", port) as peer:
                await peer.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in await peer.receive()
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return False
    return False


def environment(folder: Path, base_url: str, settings: dict[str, str]) -> dict[str, str]:
    """What a server process gets to see; nothing of the tests' own environment but the path."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT / "src"),
        "DATA_DIR": str(folder / "data"),
        "LOG_FORMAT": "json",
        "BASE_URL": base_url,
        "ROOT_PATH": PREFIX,
        "FORWARDED_ALLOW_IPS": "127.0.0.1",
        "ALLOWED_HOSTS": NAME,
        "NO_PROXY": "127.0.0.1",
        **settings,
    }


async def all_ready(program: Program, workers: int) -> bool:
    """Whether so many workers have started."""
    return program.output.count('"event":"ready"') >= workers


@asynccontextmanager
async def server(
    name: str,
    folder: Path,
    base_url: str,
    *,
    certificate: Certificate | None = None,
    prefix: str = PREFIX,
    **settings: str,
) -> AsyncIterator[Server]:
    """Run a server in `folder` before the upstream `base_url`, over TLS if it can and a certificate is given."""
    kind = KINDS[name]
    port = free_port()
    tls = certificate is not None and bool(kind.tls)
    values = {"port": str(port), "prefix": prefix}
    if certificate is not None:
        values |= {"cert": str(certificate.cert), "key": str(certificate.key)}
    command = [part.format(**values) for part in (*kind.command, *(kind.tls if tls else ()))]
    (folder / "proxy.py").write_text((ROOT / "proxy.py").read_text())
    environ = environment(folder, base_url, {"ROOT_PATH": prefix, **settings})
    async with running([BIN / command[0], *command[1:]], folder, name, environ=environ, cwd=folder) as program:
        # Each worker logs `ready` when its application has started; until then the death of one fails the start.
        await program.until(lambda: all_ready(program, kind.workers))
        await program.until_listening(port)
        yield Server(name, kind, port, tls, program, folder)
