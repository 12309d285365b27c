"""`env`: what it prints is what a shell then has."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.cli.env import default_shell, into_pipe, render
from claude_proxy.protocol.claude_code import Variable
from tests.cli.conftest import Invoke, process_environ

NASTY = ["a'b", 'a"b', "a\\b", "a$HOME`id`b", "a b", "#x", "a;b", "!x", "*", "~", "\\'", "-n", "%s", "a\nb"]
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)
COMMAND = f"{shlex.quote(sys.executable)} -m claude_proxy env"
GLM = {"opus": "glm-5.3", "sonnet": "glm-5.3", "haiku": "glm-5.3-flash"}


def test_a_shell_that_evaluates_it_points_at_the_proxy() -> None:
    assert in_bash(f'eval "$({COMMAND} 2>/dev/null)"') == "http://127.0.0.1:3000/api/anthropic glm-5.3"


def test_forgotten_quotes_do_no_harm() -> None:
    assert in_bash(f"eval $({COMMAND} 2>/dev/null)") == "http://127.0.0.1:3000/api/anthropic glm-5.3"


def test_a_file_with_comments_can_be_sourced() -> None:
    assert in_bash(f"{COMMAND} >env.sh 2>/dev/null; grep -q '^# ' env.sh && . ./env.sh").endswith(" glm-5.3")


def test_unset_undoes_it() -> None:
    assert (
        in_bash(f'eval "$({COMMAND} 2>/dev/null)"; eval "$({COMMAND} --unset)"; env | grep -c ANTHROPIC_ | tr "\\n" " "') == "0"
    )


def in_bash(script: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", f'{script}; echo "${{ANTHROPIC_BASE_URL-}}" "${{ANTHROPIC_DEFAULT_OPUS_MODEL-}}"'],
        env=process_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("value", NASTY)
def test_bash_reads_back_any_value(value: str) -> None:
    assert run(["bash", "-c", render([Variable("X", value, "why")], "bash") + ' printf %s "$X"']) == value


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("value", NASTY)
def test_zsh_reads_back_any_value(value: str) -> None:
    assert run(["zsh", "-c", render([Variable("X", value, "why")], "zsh") + ' printf %s "$X"']) == value


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("value", NASTY)
def test_fish_reads_back_any_value(value: str) -> None:
    assert run(["fish", "--no-config", "-c", render([Variable("X", value, "why")], "fish") + "\nprintf %s $X"]) == value


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="PowerShell is not installed")
@pytest.mark.parametrize("value", [*NASTY, "a\u2019b"])
def test_powershell_reads_back_any_value(value: str) -> None:
    script = render([Variable("X", value, "why")], "powershell") + "\n[Console]::Out.Write($env:X)"
    assert run(["pwsh", "-NoProfile", "-Command", script]) == value


def run(command: list[str]) -> str:
    return subprocess.run(command, env=process_environ(), capture_output=True, text=True, check=True).stdout


@given(PRINTABLE)
def test_bash_lines_are_one_word_whatever_the_value(value: str) -> None:
    words = shlex.split(render([Variable("X", value, "")], "bash", comments=False).removesuffix(";"))
    assert words == ["export", f"X={value}"]


@given(PRINTABLE)
def test_fish_escapes_what_is_special_within_its_quotes(value: str) -> None:
    line = render([Variable("X", value, "")], "fish", comments=False)
    quoted = line.removeprefix("set -gx X '").removesuffix("';")
    assert quoted.replace("\\\\", "\0").replace("\\'", "'").replace("\0", "\\") == value
    assert "'" not in quoted.replace("\\\\", "").replace("\\'", "")


@given(st.text("ab'\u2018\u2019\u201a\u201b\"$`", min_size=1))
def test_powershell_doubles_every_kind_of_quote(value: str) -> None:
    quoted = render([Variable("X", value, "")], "powershell", comments=False).removeprefix("$env:X = '").removesuffix("';")
    marks = "'\u2018\u2019\u201a\u201b"
    assert len(quoted) == len(value) + sum(value.count(mark) for mark in marks)
    for mark in marks:
        assert quoted.count(mark) == 2 * value.count(mark)


@pytest.mark.parametrize(
    ("shell", "line"),
    [("bash", "unset X;"), ("fish", "set -e X;"), ("powershell", "Remove-Item Env:X -ErrorAction SilentlyContinue;")],
)
def test_a_variable_without_value_is_removed(shell: str, line: str) -> None:
    assert render([Variable("X", None, "why")], shell) == f"# why\n{line}"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("/usr/bin/fish", "fish"),
        ("/usr/bin/pwsh", "powershell"),
        ("/bin/zsh", "bash"),
        ("/bin/bash", "bash"),
        ("", "bash"),
    ],
)
def test_the_shell_is_the_users(shell: str, expected: str) -> None:
    assert default_shell({"SHELL": shell}) == expected


def test_json_is_a_mapping_for_scripts(invoke: Invoke) -> None:
    found = json.loads(invoke("env", "--json", ANTHROPIC_AUTH_TOKEN="k").stdout)
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:3000/api/anthropic"
    assert found["API_TIMEOUT_MS"] == "3000000"
    assert {name: found[f"ANTHROPIC_DEFAULT_{name.upper()}_MODEL"] for name in GLM} == GLM
    assert "ANTHROPIC_AUTH_TOKEN" not in found


def test_settings_are_a_file_for_claude_code(invoke: Invoke) -> None:
    found = json.loads(invoke("env", "--settings", ANTHROPIC_AUTH_TOKEN="k").stdout)
    assert found["env"] == json.loads(invoke("env", "--json").stdout)
    rows = found["modelPicker"]["options"]
    assert {row["model"]: row["behavesAs"] for row in rows} == dict.fromkeys(GLM.values(), "claude-sonnet-5-5")


def test_settings_for_claudes_own_models_need_no_picker(invoke: Invoke) -> None:
    found = json.loads(invoke("env", "--settings", BASE_URL="https://api.anthropic.com").stdout)
    assert found.keys() == {"env", "statusLine"}
    left = invoke("env", "--settings", BASE_URL="https://api.anthropic.com", ANTHROPIC_DEFAULT_OPUS_MODEL="glm-5.3").stdout
    assert "glm" not in left
    assert "null" not in left


def test_settings_have_a_status_line_that_also_runs_in_silence(invoke: Invoke) -> None:
    line = json.loads(invoke("env", "--settings").stdout)["statusLine"]
    assert (line["type"], line["refreshInterval"]) == ("command", 2)
    assert shlex.split(line["command"]) == [sys.executable, "-P", "-E", "-m", "claude_proxy", "statusline"]
    assert "statusLine" not in json.loads(invoke("env", "--settings", "--no-statusline").stdout)


@pytest.mark.parametrize("other", ["--unset", "--json"])
def test_settings_are_a_form_of_their_own(invoke: Invoke, other: str) -> None:
    result = invoke("env", "--settings", other)
    assert result.exit_code == 2
    assert "--settings" in result.stderr


def test_comments_say_why_and_plain_leaves_them_out(invoke: Invoke) -> None:
    explained = invoke("env", "--comments").stdout.splitlines()
    assert explained[0] == "# Claude Code talks to the proxy."
    plain = invoke("env", "--plain").stdout.splitlines()
    assert [line for line in explained if not line.startswith("#")] == plain


def test_a_missing_credential_is_said_beside_the_output(invoke: Invoke) -> None:
    bare = invoke("env", "--plain")
    assert "No credential for api.z.ai" in bare.stderr
    assert "No credential" not in bare.stdout
    assert invoke("env", "--plain", ANTHROPIC_AUTH_TOKEN="k").stderr == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://proxy.example", "https://proxy.example/api/anthropic"),
        ("https://proxy.example/api/anthropic/", "https://proxy.example/api/anthropic"),
        ("proxy.lan:3000", "http://proxy.lan:3000/api/anthropic"),
        ("https://example.com/gw", "https://example.com/gw/api/anthropic"),
    ],
)
def test_a_proxy_elsewhere_can_be_named(invoke: Invoke, url: str, expected: str) -> None:
    assert json.loads(invoke("env", "--json", "--url", url).stdout)["ANTHROPIC_BASE_URL"] == expected


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://a b", "http://x:notaport", "http://ü.example"])
def test_an_address_that_is_none_is_refused(invoke: Invoke, url: str) -> None:
    result = invoke("env", "--url", url)
    assert result.exit_code == 2
    assert "--url" in result.stderr


def test_a_free_port_has_no_address_yet(invoke: Invoke) -> None:
    result = invoke("env", PORT="0")
    assert result.exit_code == 2
    assert "--url" in result.stderr


def test_a_closed_stdout_is_no_pipe(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with (home / "out").open("w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert not into_pipe()
    assert not into_pipe()
