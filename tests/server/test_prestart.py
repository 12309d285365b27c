"""The prestart script: runs once before the first worker, and its failure stops the start."""

import signal
from pathlib import Path

import pytest

from tests.server.process import serving, start


def script(folder: Path, text: str, mode: int = 0o644) -> str:
    path = folder / "prestart.sh"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("#!/bin/sh\necho prepared", 0o755),
        ("#!/bin/sh\necho prepared", 0o644),
        ("#! /usr/bin/env bash\n[[ a == a ]] && echo prepared", 0o644),
        ("echo prepared", 0o644),
        ("echo prepared", 0o755),
    ],
)
async def test_it_runs_once_before_the_first_worker(tmp_path: Path, text: str, mode: int) -> None:
    path = script(tmp_path, text, mode)
    async with serving(PRE_START_PATH=path, WEB_CONCURRENCY="2", LOG_LEVEL="debug") as process:
        await process.event("worker_ready", 2)
        process.signal(signal.SIGTERM)
        code, out = await process.end()
        assert code == 0
        assert out.splitlines()[0] == "prepared"
        assert out.count("prepared") == 1


async def test_its_failure_stops_the_start_with_its_code(tmp_path: Path) -> None:
    path = script(tmp_path, "echo no database >&2\nexit 7")
    async with start(PRE_START_PATH=path) as process:
        assert await process.end() == (7, "")
        assert process.words == [
            "no database",
            f"claude-proxy: The prestart script {path} failed with exit code 7; the proxy does not start.",
        ]
        assert process.events("listening") == []


async def test_a_script_that_a_signal_ends_stops_the_start(tmp_path: Path) -> None:
    async with start(PRE_START_PATH=script(tmp_path, "kill -KILL $$")) as process:
        assert (await process.end())[0] == 137


@pytest.mark.parametrize("text", [None, "#!/no/such/interpreter\n"])
async def test_a_script_that_cannot_run_stops_the_start(tmp_path: Path, text: str | None) -> None:
    path = str(tmp_path / "missing.sh") if text is None else script(tmp_path, text, 0o755)
    async with start(PRE_START_PATH=path) as process:
        assert (await process.end())[0] == 1
        assert process.words[-1].startswith(f"claude-proxy: The prestart script {path} cannot be run:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_reaches_the_script_and_then_us(tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "fifo"
    path = script(tmp_path, f"trap 'echo told; exit 0' TERM INT\nmkfifo {fifo}\necho ready >&2\nread x <> {fifo}\n")
    async with start(PRE_START_PATH=path) as process:
        await process.word("ready")
        process.signal(number)
        assert await process.end() == (128 + number, "told\n")
