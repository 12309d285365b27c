"""Several workers of real servers, scraped as Prometheus would: any worker answers for all of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from claude_proxy.simulator import Simulator
from tests.deploy.process import Program, free_port, running
from tests.observe.finished import samples

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.system  # each starts a server with several workers

WORKERS = 3
BODY = {"model": "glm-5.3", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
SERVERS = {
    "alone": ["claude-proxy", "serve", "--port", "{port}"],
    "serve": ["claude-proxy", "serve", "--workers", "{workers}", "--port", "{port}"],
    "uvicorn": ["uvicorn", "proxy:app", "--workers", "{workers}", "--port", "{port}"],
    "gunicorn": ["gunicorn", "-k", "asgi", "-w", "{workers}", "-b", "127.0.0.1:{port}", "proxy:app"],
    "gunicorn with its file": ["gunicorn", "-c", "gunicorn_conf.py", "proxy:app"],
}


class Server:
    """A running server with several workers."""

    def __init__(self, program: Program, port: int, data: Path) -> None:
        self.program = program
        self.origin = f"http://127.0.0.1:{port}"
        self.data = data

    async def call(self, headers: dict[str, str] | None = None) -> None:
        """One Messages call on a connection of its own, so that any worker may get it."""
        async with httpx.AsyncClient(timeout=20) as client:
            answer = await client.post(f"{self.origin}/api/anthropic/v1/messages", json=BODY, headers=headers)
        assert answer.status_code == 200

    async def scrape(self) -> dict[str, float]:
        """The sums over all labels, by metric; nothing while there is no answer."""
        try:
            async with httpx.AsyncClient(timeout=20) as client:
                answer = await client.get(f"{self.origin}/metrics")
        except httpx.HTTPError:
            return {}
        totals: dict[str, float] = {}
        if answer.status_code == 200:
            for (name, _), value in samples(answer.content).items():
                totals[name] = totals.get(name, 0) + value
        return totals

    async def says(self, **expected: float) -> bool:
        """Whether this many scrapes in a row, of whichever workers, say so."""
        for _ in range(2 * WORKERS):
            found = await self.scrape()
            if any(found.get(f"claude_proxy_{name}") != value for name, value in expected.items()):
                return False
        return True

    async def until(self, **expected: float) -> None:
        """Wait until they say so: workers report once a second."""
        await self.program.until(lambda: self.says(**expected))

    def leader(self) -> int:
        """The pid of the worker that keeps the sums, by its log line."""
        lines = [json.loads(line) for line in self.program.output.splitlines() if '"metrics_leader"' in line]
        return int(lines[-1]["pid"])


@asynccontextmanager
async def serving(name: str, folder: Path, base_url: str, *, data: Path | None = None) -> AsyncIterator[Server]:
    port = free_port()
    command = [part.format(port=port, workers=WORKERS) for part in SERVERS[name]]
    data = data or folder / "data"
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT / "src"),
        "BASE_URL": base_url, "DATA_DIR": str(data), "LOG_FORMAT": "json", "LOG_LEVEL": "debug",
    }  # fmt: skip
    if "-c" in command:
        environ |= {"PORT": str(port), "WEB_CONCURRENCY": str(WORKERS)}
    async with running([BIN / command[0], *command[1:]], folder, "server", environ=environ, cwd=ROOT) as program:
        await program.until_listening(port)
        yield Server(program, port, data)


async def test_a_single_process_makes_no_socket(tmp_path: Path, simulator: Simulator) -> None:
    async with serving("alone", tmp_path, simulator.base_url) as server:
        await server.call()
        assert await server.says(workers=1, exchanges_total=1)
        assert not (server.data / "workers").exists()


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "alone"])
async def test_any_worker_answers_for_all(name: str, tmp_path: Path, simulator: Simulator) -> None:
    async with serving(name, tmp_path, simulator.base_url) as server:
        await server.until(workers=WORKERS)
        for _ in range(12):
            await server.call()
        tokens = simulator.reported
        total = tokens.input_tokens + tokens.output_tokens + tokens.cache_creation_input_tokens + tokens.cache_read_input_tokens
        assert total > 0
        await server.until(exchanges_total=12, tokens_total=total, workers=WORKERS, in_flight=0)
    assert list((tmp_path / "data/workers").iterdir()) == []


async def test_a_killed_leader_is_replaced(tmp_path: Path, simulator: Simulator) -> None:
    async with serving("serve", tmp_path, simulator.base_url) as server:
        await server.until(workers=WORKERS)
        await server.call()
        await server.until(exchanges_total=1)
        killed = server.leader()
        os.kill(killed, signal.SIGKILL)
        await server.until(workers=WORKERS)
        assert server.leader() != killed
        for _ in range(5):
            await server.call()
        await server.until(exchanges_total=5)


async def test_without_a_folder_to_meet_in_each_worker_says_so_and_serves(tmp_path: Path, simulator: Simulator) -> None:
    (tmp_path / "data").write_text("not a folder")
    async with serving("serve", tmp_path, simulator.base_url, data=tmp_path / "data") as server:
        await server.call()
        await server.until(workers=1)
        await server.program.until(lambda: said_by_each(server.program))
        await server.call()
        assert await said_by_each(server.program)  # and not again


async def said_by_each(program: Program) -> bool:
    return program.output.count('"metrics_not_shared"') == WORKERS
