"""`config`, and the page that is made from the definition."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy.cli.config import text
from claude_proxy.cli.settings_docs import choices, render
from claude_proxy.settings import GunicornSettings, Settings
from tests.cli.conftest import SOURCE, Invoke, process_environ

SECRET = "sk-never-shown"


def test_every_setting_is_shown_with_its_source(invoke: Invoke, own_file: Path) -> None:
    own_file.write_text("ping_interval = 7.5\n", encoding="utf-8")
    lines = invoke("config", "show", PORT="3001").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [name.upper() for name in Settings.model_fields]
    found = {line.split("\t")[0]: line.split("\t")[1:3] for line in lines}
    assert found["PORT"] == ["3001", "env PORT"]
    assert found["PING_INTERVAL"] == ["7.5", str(own_file)]
    assert found["BASE_URL"] == ["https://api.z.ai/api/anthropic", "default"]
    assert all(line.split("\t")[3] for line in lines)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_secrets_are_only_shown_as_set(invoke: Invoke, home: Path, words: list[str]) -> None:
    (home / "key").write_text(SECRET, encoding="utf-8")
    result = invoke("config", "show", *words, UPSTREAM_API_KEY=SECRET, PROXY_API_KEY_FILE=str(home / "key"))
    assert SECRET not in result.output
    assert result.stdout.count("env UPSTREAM_API_KEY") == 1
    assert result.stdout.count("env PROXY_API_KEY_FILE") == 1


TABLES = """
[[upstream]]
name = "zai"
base_url = "https://api.z.ai/api/anthropic"
map = { "claude-*" = "glm-5.3" }
[[upstream.account]]
name = "one"
key_env = "ONE"
max_concurrency = 2
[[upstream]]
name = "side"
base_url = "https://side.example"
[[upstream.account]]
name = "two"
key_file = "two.key"
[[route]]
match = { class = "subagent" }
upstreams = ["side", "zai"]
"""


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_upstreams_and_accounts_are_listed_with_the_source_of_each_key(invoke: Invoke, own_file: Path, words: list[str]) -> None:
    own_file.write_text(TABLES, encoding="utf-8")
    (own_file.parent / "two.key").write_text(f"{SECRET}-2")
    result = invoke("config", "show", *words, ONE=SECRET)
    assert SECRET not in result.output
    if words:
        rows = [
            [name, *(json.loads(result.stdout)[name][key] for key in ("value", "source"))] for name in json.loads(result.stdout)
        ]
    else:
        rows = [line.split("\t")[:3] for line in result.stdout.splitlines()]
    file, both = str(own_file), ["side", "zai"] if words else "side,zai"
    assert rows[len(Settings.model_fields) :] == [
        ["[[upstream]] zai", "https://api.z.ai/api/anthropic", file],
        ["[[upstream.account]] zai/one", "set", "env ONE"],
        ["[[upstream]] side", "https://side.example", file],
        ["[[upstream.account]] side/two", "set", str(own_file.parent / "two.key")],
        ["[[route]] 1", both, file],
    ]


def test_json_says_what_is_a_secret(invoke: Invoke) -> None:
    shown = json.loads(invoke("config", "show", "--json", UPSTREAM_API_KEY=SECRET, ALLOWED_HOSTS="a.example, b.example").stdout)
    assert shown["UPSTREAM_API_KEY"] | {"description": ""} == {
        "name": "UPSTREAM_API_KEY",
        "value": "set",
        "source": "env UPSTREAM_API_KEY",
        "description": "",
        "secret": True,
    }
    assert shown["ALLOWED_HOSTS"]["value"] == ["a.example", "b.example"]
    assert shown["DATA_DIR"]["value"].endswith("claude-proxy")


@pytest.mark.parametrize(("colours", "expected"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_it_is_coloured_unless_no_color_is_set(colours: dict[str, str], expected: bool) -> None:
    output = on_terminal(["config", "show"], {"PORT": "3001", "UPSTREAM_API_KEY": SECRET, "TERM": "xterm-256color", **colours})
    assert "3001" in output
    assert SECRET not in output
    assert ("\x1b[1;36m" in output) is expected


def on_terminal(words: list[str], environ: dict[str, str]) -> str:
    """Run a command whose output is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "claude_proxy", *words], env=process_environ(environ), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:  # Linux: the other side is closed
            pass
        finally:
            os.close(ours)
        assert process.wait(30) == 0, seen
    return seen.decode()


def test_the_path_of_the_file_is_printed(invoke: Invoke, home: Path, own_file: Path) -> None:
    (home / "claude-proxy.toml").touch()
    (home / "proxy.py").touch()
    missing = invoke("config", "path")
    assert (missing.exit_code, missing.stdout) == (1, f"{own_file}\n")
    assert invoke("config", "path", "--app", "proxy.py").stdout == f"{home / 'claude-proxy.toml'}\n"
    own_file.touch()
    assert (invoke("config", "path").exit_code, invoke("config", "path", "--app", "proxy.py").stdout) == (0, f"{own_file}\n")
    named = invoke("config", "path", CLAUDE_PROXY_CONFIG=str(home / "mine.toml"))
    assert (named.exit_code, named.stdout) == (1, f"{home / 'mine.toml'}\n")


def test_every_file_that_was_looked_for_is_named(invoke: Invoke, home: Path, own_file: Path) -> None:
    for name in ("proxy.py", "other.toml", "claude-proxy.toml"):
        (home / name).touch()
    assert invoke("config", "show", "--app", "proxy.py").stderr.splitlines() == [
        f"not there {own_file} (user's folder)",
        f"read      {home / 'claude-proxy.toml'} (beside proxy.py)",
    ]
    own_file.touch()
    shown = invoke("config", "show", "--json", "--config", "other.toml", "--app", "proxy.py")
    assert json.loads(shown.stdout)["PORT"]["source"] == "default"
    note, *files = shown.stderr.splitlines()
    assert note.startswith(f"Note: {home / 'claude-proxy.toml'} is not read")
    assert files == [
        f"read      {home / 'other.toml'} (--config)",
        f"not read  {own_file} (user's folder)",
        f"not read  {home / 'claude-proxy.toml'} (beside proxy.py)",
    ]


def test_the_page_in_docs_is_current(invoke: Invoke) -> None:
    page = SOURCE.parent / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == render(), "run: claude-proxy config show --docs > docs/settings.md"
    assert invoke("config", "show", "--docs").stdout == render()


def test_the_page_names_every_setting_and_every_word() -> None:
    page = render()
    for name, field in GunicornSettings.model_fields.items():
        assert f"| `{name.upper()}`" in page
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name.upper()}`"))
        assert all(word in row for word in choices(field.annotation))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), ([], "-"), (True, "true"), (600.0, "600"), (0.5, "0.5"), (["a", "b"], "a,b"), (3000, "3000"), ("x", "x")],
)
def test_values_are_spelled_as_the_environment_would(value: object, expected: str) -> None:
    assert text(value) == expected
