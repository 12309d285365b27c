"""Publishing with the `ntfy` command: a small script of ours on PATH."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.command import Command, failed, sent
from claude_proxy.notify.notice import Notice
from tests.notify.exchanges import settings

NOTICE = Notice("-title ü", "-line one\nline two 한글", 4, ("warning", "zap"), "cp-1")
RECORD = """
import json, os, sys
json.dump({"arguments": sys.argv[1:], "environ": dict(os.environ)}, open(os.path.join(os.environ["HOME"], "run.json"), "w"))
"""


@pytest.fixture
def install(tmp_path: Path):  # type: ignore[no-untyped-def]  # a factory
    """Puts an `ntfy` on a PATH of its own; returns the environment to run it with."""

    def write(program: str) -> dict[str, str]:
        script = tmp_path / "ntfy"
        script.write_text(f"#!{sys.executable} -S\n{program}")
        script.chmod(0o755)
        return {"PATH": str(tmp_path), "HOME": str(tmp_path)}

    return write


async def test_the_command_is_told_everything_and_the_secrets_by_environment(install, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    environ = install(RECORD) | {"UPSTREAM_API_KEY": "hush", "NTFY_TITLE": "old", "NTFY_USER": "me:pw", "HTTPS_PROXY": "http://p"}
    command = Command(settings(ntfy_server="http://ntfy.example", ntfy_token="tk_secret"), environ=environ)
    answer = await command.send(NOTICE)
    assert answer.verdict is Verdict.SENT
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["arguments"] == [
        "publish",
        "--title=-title ü",
        "--priority=4",
        "--tags=warning,zap",
        "--message=-line one\nline two 한글",
    ]
    assert run["environ"]["NTFY_TOPIC"] == "http://ntfy.example/topic-1"
    assert run["environ"]["NTFY_TOKEN"] == "tk_secret"
    assert run["environ"]["NTFY_SEQUENCE_ID"] == "cp-1"
    assert run["environ"]["NTFY_USER"] == "me:pw"
    assert run["environ"]["HTTPS_PROXY"] == "http://p"
    assert "NTFY_TITLE" not in run["environ"]
    assert "UPSTREAM_API_KEY" not in run["environ"]


@pytest.mark.parametrize(
    ("printed", "id", "replaces"),
    [
        ('{"id":"a1","sequence_id":"cp-1","event":"message"}', "a1", True),
        ('{"id":"a1","event":"message"}\n', "a1", False),
        ('DEBUG sending\n{"id":"a1","sequence_id":"cp-1","event":"message"}\n\n', "a1", True),
        ("", "", None),
        ("Published.", "", None),
        ('{"id":7,"event":"message"}', "", None),
    ],
)
async def test_what_a_good_run_prints_shows_whether_messages_replace_each_other(  # type: ignore[no-untyped-def]
    install, printed: str, id: str, replaces: bool | None
) -> None:
    answer = await Command(settings(), environ=install(f"print({printed!r})")).send(NOTICE)
    assert answer == Answer(Verdict.SENT, id=id, replaces=replaces)


async def test_a_missing_command_is_one_clear_sentence(tmp_path: Path) -> None:
    answer = await Command(settings(), environ={"PATH": str(tmp_path)}).send(NOTICE)
    assert answer.verdict is Verdict.REFUSED
    assert "not installed" in answer.sentence
    assert "NTFY_VIA=http" in answer.sentence


async def test_a_command_that_cannot_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "ntfy").touch(0o644)
    answer = await Command(settings(), environ={"PATH": str(tmp_path)}).send(NOTICE)
    assert answer.verdict is Verdict.REFUSED
    assert "cannot be run" in answer.sentence


async def test_a_failing_command_says_why_and_is_tried_again(install) -> None:  # type: ignore[no-untyped-def]
    environ = install("import sys; sys.exit('warming up\\ndial tcp: no route, token tk_secret99')")
    answer = await Command(settings(), environ=environ).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert answer.sentence == "The ntfy command failed: dial tcp: no route, token [redacted]."


@pytest.mark.parametrize(
    ("code", "status", "verdict"), [(42908, 429, Verdict.QUOTA), (40301, 403, Verdict.REFUSED), (42901, 429, Verdict.AGAIN)]
)
async def test_a_servers_reply_is_found_in_what_the_command_prints(install, code: int, status: int, verdict: Verdict) -> None:  # type: ignore[no-untyped-def]
    reply = json.dumps({"code": code, "http": status, "error": "no"}, separators=(",", ":"))
    answer = await Command(settings(), environ=install(f"import sys; sys.exit({reply!r})")).send(NOTICE)
    assert answer.verdict is verdict


async def test_a_web_page_that_the_command_prints_is_not_ntfys_word(install) -> None:  # type: ignore[no-untyped-def]
    environ = install("import sys; sys.exit('<!DOCTYPE html>\\n<title>Just a moment</title>\\n</html>')")
    answer = await Command(settings(), environ=environ).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert answer.sentence.startswith("NTFY_SERVER answered with a web page.")


@pytest.mark.parametrize("filler", [b'{"code":1,"http":403', b'{"code":', b'{"code":\n', b"{", b"\n", b"<html\n", b" ", b"a"])
def test_endless_output_takes_no_time(filler: bytes) -> None:
    said, spent = filler * ((1 << 20) // len(filler)), []
    for _ in range(3):
        started = time.thread_time()
        assert failed(said).verdict is Verdict.AGAIN
        assert sent(said) == Answer(Verdict.SENT)
        spent.append(time.thread_time() - started)
    assert min(spent) < 0.05


async def test_a_hanging_command_is_ended(install) -> None:  # type: ignore[no-untyped-def]
    environ = install("import signal; signal.pause()")
    answer = await Command(settings(), environ=environ, timeout=0.2).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert "did not end" in answer.sentence
