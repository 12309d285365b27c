"""Several workers of real servers: together they send no more than an account allows, however their number was given."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from claude_proxy.simulator import Scenario, Simulator, faults
from tests.deploy.process import Program, free_port, running
from tests.integration.leftovers import until
from tests.integration.messages import post
from tests.integration.wire import connect
from tests.observe.test_metrics_processes import BIN, ROOT

WORKERS = 3
CALLS = 12
UPSTREAM = """\
[[upstream]]
name = "simulated"
base_url = "{base_url}"
[[upstream.account]]
name = "only"
key_env = "KEY"
max_concurrency = {limit}
"""
SERVERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "serve": (["claude-proxy", "serve", "--workers", "3", "--port", "{port}"], {}),
    "serve, by the cores": (["claude-proxy", "serve", "--port", "{port}"], {"WORKERS_PER_CORE": "50", "MAX_WORKERS": "3"}),
    "uvicorn": (["uvicorn", "proxy:app", "--workers", "3", "--port", "{port}"], {}),
    "fastapi": (["fastapi", "run", "proxy.py", "--workers", "3", "--host", "127.0.0.1", "--port", "{port}"], {}),
    "gunicorn": (["gunicorn", "-k", "asgi", "-w", "3", "-b", "127.0.0.1:{port}", "proxy:app"], {}),
    "gunicorn, by the cores": (
        ["gunicorn", "-c", "gunicorn_conf.py", "proxy:app"],
        {"WORKERS_PER_CORE": "50", "MAX_WORKERS": "3", "PORT": "{port}"},
    ),
    "hypercorn": (["hypercorn", "proxy:app", "-w", "3", "--bind", "127.0.0.1:{port}"], {}),
    "granian": (["granian", "--interface", "asgi", "proxy:app", "--workers", "3", "--port", "{port}"], {}),
}
pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@asynccontextmanager
async def serving(name: str, folder: Path, base_url: str, *, limit: int) -> AsyncIterator[tuple[Program, int]]:
    """A server whose workers have all counted each other, and its port."""
    (folder / "claude-proxy.toml").write_text(UPSTREAM.format(base_url=base_url, limit=limit))
    port = free_port()
    command, more = SERVERS[name]
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT / "src"), "KEY": "sk-simulated",
        "CLAUDE_PROXY_CONFIG": str(folder / "claude-proxy.toml"), "DATA_DIR": str(folder / "data"), "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug", "PROXY_API_KEY": "",
        **{name: value.format(port=port) for name, value in more.items()},
    }  # fmt: skip
    arguments = [part.format(port=port) for part in command]
    async with running([BIN / arguments[0], *arguments[1:]], folder, "server", environ=environ, cwd=ROOT) as program:
        await program.until_listening(port)

        async def counted() -> bool:
            return (
                sum('"headcount"' in line and f'"workers":{WORKERS}' in line for line in program.output.splitlines()) >= WORKERS
            )

        await program.until(counted)
        yield program, port


async def exchanges(port: int) -> int:
    """How many run or wait in all workers."""
    async with httpx.AsyncClient(timeout=20) as client:
        return len((await client.get(f"http://127.0.0.1:{port}/api/v1/live")).json()["items"])


@pytest.mark.parametrize("name", list(SERVERS))
async def test_the_workers_of_any_server_share_the_limit_of_an_account(name: str, tmp_path: Path, simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 4))
    async with serving(name, tmp_path, simulator.base_url, limit=WORKERS) as (program, port), AsyncExitStack() as stack:
        for _ in range(CALLS):
            wire = await stack.enter_async_context(connect(port))
            wire.send(post())

        async def all_have_come() -> bool:
            return await exchanges(port) == CALLS

        await program.until(all_have_come)
        await until(lambda: len(simulator.requests) >= 1)
        assert len(simulator.requests) <= WORKERS
        await stack.aclose()


async def test_the_log_recommends_one_worker_where_an_account_allows_few(tmp_path: Path, simulator: Simulator) -> None:
    async with serving("serve", tmp_path, simulator.base_url, limit=4) as (program, _):

        async def advised() -> bool:
            return "Use one worker" in program.output

        await program.until(advised)
        assert program.output.count("simulated/only takes 4 at a time, too few for 3 workers") == 1
