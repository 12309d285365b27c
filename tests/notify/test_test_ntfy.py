"""`claude-proxy test-ntfy`, run as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.notify.fake_ntfy import FakeNtfy, Reply

SOURCE = Path(__file__).parents[2] / "src"


async def run(tmp_path: Path, *arguments: str, **environ: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of the command in an empty directory."""
    clean = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(SOURCE)}
    if "COVERAGE_PROCESS_START" in os.environ:
        clean["COVERAGE_PROCESS_START"] = os.environ["COVERAGE_PROCESS_START"]
    program = "from claude_proxy.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "test-ntfy", *arguments),
        env=clean | environ,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_it_pushes_one_notice_and_says_where_to_look(tmp_path: Path) -> None:
    async with FakeNtfy() as ntfy:
        code, out, err = await run(tmp_path, NTFY_TOPIC="t-1", NTFY_SERVER=ntfy.url, NTFY_TOKEN="tk_secret")
    assert (code, err) == (0, "")
    assert f"Sent. Look at {ntfy.url}/t-1" in out
    (message,) = ntfy.messages
    assert message["topic"] == "t-1"
    assert message["title"] == "claude-proxy: test"
    assert "tk_secret" not in out


async def test_as_json_for_scripts(tmp_path: Path) -> None:
    async with FakeNtfy() as ntfy:
        code, out, _ = await run(tmp_path, "--json", NTFY_TOPIC="t-1", NTFY_SERVER=ntfy.url)
    assert code == 0
    report = json.loads(out)
    assert report["sent"] is True
    assert report["where"] == f"{ntfy.url}/t-1"
    assert report["id"] == "msg1"
    assert report["replaces"] is True


@pytest.mark.parametrize(
    ("old", "updates", "said"),
    [
        (False, "on", "Sent. Look at {url}/t-1, or subscribe to it in the ntfy app.\n"
         "The app for iPhones shows each update of a notice as one more message: set NTFY_UPDATES=off if you use it.\n"),
        (False, "off", "Sent. Look at {url}/t-1, or subscribe to it in the ntfy app.\n"),
        (True, "on", "Sent. Look at {url}/t-1, or subscribe to it in the ntfy app.\n"
         "The ntfy server is older than 2.16 and keeps every message: an outage is two, when it begins and when it is over.\n"),
    ],
)  # fmt: skip
async def test_it_says_what_an_outage_will_look_like_where_that_may_surprise(
    tmp_path: Path, old: bool, updates: str, said: str
) -> None:
    async with FakeNtfy(old=old) as ntfy:
        _, out, _ = await run(tmp_path, NTFY_TOPIC="t-1", NTFY_SERVER=ntfy.url, NTFY_UPDATES=updates)
    assert out == said.format(url=ntfy.url)


async def test_a_refusal_is_a_sentence_and_exit_1(tmp_path: Path) -> None:
    async with FakeNtfy(Reply(401, {"code": 40101, "http": 401, "error": "unauthorized"})) as ntfy:
        code, out, err = await run(tmp_path, NTFY_TOPIC="t-1", NTFY_SERVER=ntfy.url, NTFY_TOKEN="tk_secret")
    assert (code, out) == (1, "")
    assert err.startswith("Not sent: ntfy refused the login: set NTFY_TOKEN")
    assert "tk_secret" not in err


async def test_without_a_topic_it_suggests_a_random_one(tmp_path: Path) -> None:
    first = await run(tmp_path)
    second = await run(tmp_path, "--json")
    assert (first[0], second[0]) == (1, 1)
    topics = [re.search(r"NTFY_TOPIC=(claude-proxy-[0-9a-f]{16})", text) for text in (first[2], second[1])]
    assert None not in topics
    assert topics[0] != topics[1]


async def test_by_the_ntfy_command(tmp_path: Path) -> None:
    record = 'import os, sys\nopen("ran", "w").write(os.environ["NTFY_TOPIC"] + " " + sys.argv[1])\n'
    (tmp_path / "ntfy").write_text(f"#!{sys.executable} -S\n{record}")
    (tmp_path / "ntfy").chmod(0o755)
    code, out, _ = await run(tmp_path, NTFY_TOPIC="t-1", NTFY_VIA="cli")
    assert code == 0
    assert "https://ntfy.sh/t-1" in out
    assert (tmp_path / "ran").read_text() == "https://ntfy.sh/t-1 publish"


async def test_a_missing_ntfy_command_is_told(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, NTFY_TOPIC="t-1", NTFY_VIA="cli")
    assert code == 1
    assert "The ntfy command is not installed" in err


async def test_a_bad_setting_is_a_sentence_and_exit_2(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, NTFY_TOPIC="no spaces please")
    assert code == 2
    assert err.startswith("NTFY_TOPIC=no spaces please")
    assert "Traceback" not in err
