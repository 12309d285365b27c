"""`rehearse`, played against the real proxy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.cli.demo.proxy import NotStarted
from claude_proxy.cli.rehearse.play import serving
from claude_proxy.cli.rehearse.script import names
from tests.cli.conftest import Invoke, Program, process_environ

pytestmark = pytest.mark.system  # each starts processes of its own

QUICK = """
title: a quick one
length: 1.5
clients: {main: 1, subagents: 2, subagents_from: 0}
limits: {max_concurrency: 2}
phases:
  - {at: 0.2, say: the window is used up, refuse: window, resets: 1.3}
  - {at: 1.3, say: back again}
"""
SETTINGS = """
[[upstream]]
name = "mine"
base_url = "https://api.z.ai/api/anthropic"
[[upstream.account]]
name = "one"
key_env = "MY_KEY"
"""


@pytest.fixture(autouse=True)
def source_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the proxy that the rehearsal starts."""
    monkeypatch.setenv("PYTHONPATH", process_environ()["PYTHONPATH"])


@pytest.fixture
def script(home: Path) -> str:
    file = home / "quick.yaml"
    file.write_text(QUICK, encoding="utf-8")
    return str(file)


def played(program: Program, *words: str, **environ: str) -> dict[str, Any]:
    done = program("rehearse", *words, "--json", environ=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_used_up_window_is_seen_pushed_and_booked(program: Program, script: str, home: Path) -> None:
    file = home / "own.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    told = played(program, script, "--speed", "20", "--config", str(file), MY_KEY="the-real-key", NTFY_TOPIC="the-real-topic")
    assert told["upstreams"] == [{"name": "mine", "provider": "zai", "accounts": 1}]
    assert any("1308" in error for error in told["errors_seen"])
    assert any("1308" in push["title"] for push in told["pushes"])
    assert told["upstream"]["refusals"] >= 1
    assert told["books"]["exchanges"] == sum(one["attempts"] for one in told["clients"].values())
    assert told["books"]["output_tokens"] <= told["upstream"]["reported"]["output_tokens"]
    assert told["clients"]["main"]["calls"] >= 1
    assert {line["kind"] for line in told["timeline"]} >= {"script", "saw", "push"}
    assert "the-real" not in json.dumps(told)
    assert not list(home.glob("**/ledger.db"))


def test_a_person_gets_a_timeline_and_sums(program: Program, script: str) -> None:
    done = program("rehearse", script, "--speed", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Rehearsal: a quick one (1.5 minutes at 60x, about 2 s)\n")
    for words in (
        "script  the window is used up",
        "What clients saw",
        "Upstreams ",
        "Pushes ",
        "NTFY_TOPIC",
        "Books ",
        "--speed 1",
    ):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_without_books_there_are_no_sums_of_them(program: Program, script: str) -> None:
    assert played(program, script, "--speed", "60", LEDGER="off")["books"] is None


def test_the_proxys_own_key_is_asked_of_the_clients_too(program: Program, script: str) -> None:
    told = played(program, script, "--speed", "60", UPSTREAM_API_KEY="a", PROXY_API_KEY="b")
    assert not [error for error in told["errors_seen"] if error.startswith("401")]
    assert told["clients"]["title"]["calls"] == 1


def test_the_shipped_scripts_are_listed(invoke: Invoke) -> None:
    assert [line.split()[0] for line in invoke("rehearse", "--list").stdout.splitlines()] == names()
    assert list(json.loads(invoke("rehearse", "--list", "--json").stdout)) == names()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Name a script"),
        (("nope",), "there is no script 'nope': name a .yaml file, or one of burst, night, noon"),
        (("nope.yaml",), "cannot be read"),
    ],
)
def test_a_wrong_script_is_told_in_a_sentence(invoke: Invoke, words: tuple[str, ...], sentence: str) -> None:
    done = invoke("rehearse", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr


async def test_a_proxy_that_does_not_start_names_the_users_own_file(home: Path) -> None:
    """The file that it was given is a temporary one, of which the user knows nothing."""
    file = home / "adapted.toml"
    file.write_text("nonsense = 1\n", encoding="utf-8")
    with pytest.raises(NotStarted, match=r"/own\.toml: unknown setting 'nonsense'") as caught:
        async with serving(file, process_environ(), home / "own.toml"):
            pass
    assert "adapted" not in str(caught.value)


def test_wrong_settings_are_told_as_by_serve(invoke: Invoke, script: str) -> None:
    done = invoke("rehearse", script, BASE_URL="nonsense")
    assert done.exit_code == 2
    assert "BASE_URL" in done.stderr
