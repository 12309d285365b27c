"""The group: lazy, helpful, and silent about its own insides when a user is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy import __version__
from claude_proxy.cli.arguments import split_own
from claude_proxy.cli.commands import COMMANDS
from tests.cli.conftest import Invoke, Program, process_environ


def test_the_version_is_printed(program: Program) -> None:
    done = program("--version")
    assert (done.returncode, done.stdout) == (0, f"claude-proxy {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_examples(invoke: Invoke, name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0, result.output
    for example in COMMANDS[name].examples:
        assert f"\n    {example}" in result.stdout


def test_help_lists_every_command_without_importing_one(program: Program) -> None:
    modules = ", ".join(repr(entry.target.split(":")[0]) for entry in COMMANDS.values())
    script = f"""
import sys
from claude_proxy.cli import main
sys.argv = ["claude-proxy", "--help"]
try:
    main()
finally:
    found = [name for name in ({modules}) if name in sys.modules]
    assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", script], env=process_environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


# What this app prints is what a serving process has loaded, after requests to what may load more.
PROBE = """
import asyncio, sys
from claude_proxy.app import create_app

async def ask(path):
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 3000),
        "headers": [(b"host", b"127.0.0.1:3000"), (b"accept", b"text/html")],
    }
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        if message["type"] == "http.response.start":
            print(path, message["status"])
    await app(scope, receive, send)

async def main():
    for path in ("/health", "/", "/api/v1/live", "/api/v1/exchanges", "/nothing"):
        await ask(path)

app = create_app()
asyncio.run(main())
print("loaded", *sys.modules)
raise SystemExit(0)
"""
UNUSED = {"pydantic.v1", "pygments", "rich", "typer", "watchfiles", "claude_proxy.simulator", "claude_proxy.cli.commands"}


def test_serve_pays_for_no_other_command_and_nothing_that_its_libraries_could_do(program: Program, home: Path) -> None:
    (home / "proxy.py").write_text(PROBE, encoding="utf-8")
    done = program("serve", "--app", "proxy.py", environ={"PORT": "0", "LOG_LEVEL": "error"})
    *answers, loaded = done.stdout.splitlines()
    assert answers[:3] == ["/health 200", "/ 200", "/api/v1/live 200"], done.stderr
    assert not UNUSED & set(loaded.split())


@pytest.mark.parametrize(
    "words", [["--port", "70000"], ["--app", "missing.py"], ["--help"], ["--app", "proxy.py", "--workers", "0"]]
)
def test_other_arguments_of_serve_are_read_as_those_of_every_command(program: Program, home: Path, words: list[str]) -> None:
    (home / "proxy.py").touch()
    done = program("serve", *words)
    assert done.returncode == (0 if words == ["--help"] else 2)
    assert "serve" in done.stdout + done.stderr or "PORT" in done.stderr


def test_a_misspelt_command_gets_a_suggestion(invoke: Invoke) -> None:
    result = invoke("docter")
    assert result.exit_code == 2
    assert "Did you mean 'doctor'?" in result.stderr


@pytest.mark.parametrize("words", [["serve"], ["env"], ["code"], ["config", "show"], ["test-ntfy"]])
def test_a_bad_setting_ends_with_its_sentence_and_no_traceback(program: Program, words: list[str]) -> None:
    done = program(*words, environ={"STREAM_IDLE_TIMEOUT": "soon"})
    assert done.returncode == 2
    assert done.stderr.startswith("STREAM_IDLE_TIMEOUT=soon (env STREAM_IDLE_TIMEOUT): ")
    assert "Traceback" not in done.stderr


def test_a_secret_in_a_bad_setting_is_not_repeated(program: Program) -> None:
    done = program("config", "show", environ={"UPSTREAM_API_KEY": "sk-secret-ü"})
    assert done.returncode == 2
    assert "sk-secret" not in done.stdout + done.stderr


def test_the_config_option_names_another_file(invoke: Invoke, home: Path) -> None:
    other = home / "other.toml"
    other.write_text("port = 3999\n", encoding="utf-8")
    shown = json.loads(invoke("config", "show", "--json", "--config", str(other)).stdout)
    assert (shown["PORT"]["value"], shown["PORT"]["source"]) == (3999, str(other))


def test_a_config_file_that_is_not_there_is_refused(invoke: Invoke) -> None:
    result = invoke("env", "--config", "nowhere.toml")
    assert result.exit_code == 2
    assert "nowhere.toml" in result.stderr


@pytest.mark.parametrize(
    ("words", "own", "rest"),
    [
        ([], [], []),
        (["-p", "hi"], [], ["-p", "hi"]),
        (["--start", "-p", "--start"], ["--start"], ["-p", "--start"]),
        (["--config", "a.toml", "--", "--config", "b"], ["--config", "a.toml"], ["--config", "b"]),
        (["--config=a.toml", "--continue"], ["--config=a.toml"], ["--continue"]),
        (["--", "--", "x"], [], ["--", "x"]),
        (["--config"], ["--config"], []),
        (["hi", "--start"], [], ["hi", "--start"]),
    ],
)
def test_own_options_end_at_the_first_other_word(words: list[str], own: list[str], rest: list[str]) -> None:
    assert split_own(words, {"--start": False, "--config": True}) == (own, rest)
