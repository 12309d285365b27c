"""What commands print: nothing that a terminal would obey, whoever wrote it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from claude_proxy.cleaning import visible
from claude_proxy.cli import simulate
from claude_proxy.cli.output import console, say, write_json
from claude_proxy.simulator import Simulator, error
from tests.cli.conftest import SOURCE, Invoke, Program
from tests.cli.servers import answering, listening, saying

NASTY = {
    "erase the screen": "\x1b[2J",
    "write the clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "bell": "\x07",
    "C1 control sequence": "\x9b2J",
    "C1 string": "\x9d0;title\x9c",
    "carriage return": "\rfail",
    "backspace": "\x08\x08",
    "delete": "\x7f",
    "right-to-left override": "\u202egnp.exe",
    "isolate": "\u2066x\u2069",
    "zero width": "\u200b\u200d\ufeff",
    "line separator": "\u2028",
    "tag": "\U000e0041",
}
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_control_character_is_written_out(text: str) -> None:
    assert not OBEYED.search(visible(text))
    assert visible(text).encode("ascii").decode("unicode_escape") == text


@pytest.mark.parametrize("text", ["", "plain", "한국어 · 日本語", "é ñ", "😀", "C:\\path"])
def test_what_can_be_read_stays(text: str) -> None:
    assert visible(text) == text


def test_line_breaks_stay_only_where_they_are_kept() -> None:
    assert (visible("a\nb\tc"), visible("a\nb\tc", keep="\n\t")) == ("a\\nb\\tc", "a\nb\tc")


@given(st.text())
def test_nothing_obeyed_is_left_of_any_text(text: str) -> None:
    found = visible(text)
    assert not OBEYED.search(found)
    assert "\n" not in found


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_every_way_to_print_is_clean(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"it says {text}")
    say(f"it says {text}", err=True)
    console().print(f"it says {text}", Text.assemble(("styled ", "red"), text))
    table = Table.grid()
    table.add_row("cell", text)
    console().print(table)
    write_json({text: [text]})
    out, err = capsys.readouterr()
    assert not OBEYED.search(out + err)


@given(st.dictionaries(st.text(), st.text()))
def test_json_says_the_same_after_the_escapes(value: dict[str, str]) -> None:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        write_json(value)
    assert json.loads(file.getvalue()) == value
    assert not OBEYED.search(file.getvalue())


def test_colours_of_our_own_still_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    file = io.StringIO()
    screen = console()
    screen.file, screen._force_terminal = file, True
    screen._color_system = screen._detect_color_system()
    screen.print(Text("red", "red"))
    assert file.getvalue() == "\x1b[31mred\x1b[0m\n"


# the commands, each with a foreign text


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
async def test_the_doctor_prints_no_control_character_of_an_upstream(program: Program, text: str, as_json: bool) -> None:
    async with Simulator(error(401, "authentication_error", f"no {text} key")) as simulator:
        environ = {"BASE_URL": simulator.base_url, "UPSTREAM_API_KEY": "k", "PORT": "0"}
        words = ["doctor", *(["--json"] if as_json else [])]
        done = await anyio.to_thread.run_sync(lambda: program(*words, environ=environ))
    assert "was refused" in done.stdout
    assert not OBEYED.search(done.stdout + done.stderr)


LATIN = {name: text for name, text in NASTY.items() if text.isascii() or max(text) < "\u0100"}
FOREIGN = {
    "title": lambda text: answering(f"<title>{text}</title>".encode(), "403 Forbidden", "content-type: text/html\r\n"),
    "text": lambda text: answering(f"hello {text}".encode()),
    "location": lambda text: saying(f"HTTP/1.1 302 Found\r\nlocation: http://x/{text}\r\n\r\n".encode("latin-1", "ignore")),
    "login": lambda text: saying(f"HTTP/1.1 401 No\r\nwww-authenticate: B{text}\r\n\r\n".encode("latin-1", "ignore")),
    "status line": lambda text: saying(f"HTTP/1.1 {text}\r\n\r\n".encode()),
    "no HTTP": lambda text: saying(f"{text}\r\n".encode()),
}


@pytest.mark.parametrize("place", FOREIGN)
@pytest.mark.parametrize("text", LATIN.values(), ids=LATIN)
async def test_nor_one_of_whatever_stands_in_its_place(invoke: Invoke, place: str, text: str) -> None:
    async with listening(FOREIGN[place](text)) as server:
        result = await anyio.to_thread.run_sync(lambda: invoke("doctor", BASE_URL=server.url, PORT="0", PATH=""))
    assert "fail upstream" in result.output or "warn upstream" in result.output
    assert not OBEYED.search(result.output)


async def test_code_prints_none_of_a_project_file_or_another_program(invoke: Invoke, home: Path) -> None:
    evil = "\x1b]0;owned\x07\u202e"
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": f"http://x/{evil}\nok"}}), "utf-8")
    (home / "claude").write_text("#!/bin/sh\n")
    (home / "claude").chmod(0o755)
    async with listening(answering(b"", headers="server: \x1b[2J\r\n")) as server:
        result = await anyio.to_thread.run_sync(lambda: invoke("code", PORT=str(server.port), PATH=str(home)))
    assert "sets ANTHROPIC_BASE_URL" in result.output
    assert "another program answers there" in result.output
    assert not OBEYED.search(result.output)
    assert "\nok" not in result.output


async def test_the_simulator_prints_none_of_a_client() -> None:
    told: dict[str, Any] = dict.fromkeys(("input_tokens", "output_tokens", "seconds"), 0) | {"outcome": "answered", "status": 200}
    line = simulate.line(told | {"method": "POST", "path": "/\x9b2J", "model": "m\x1b[2J\n", "stream": True})
    assert not OBEYED.search(line.plain)
    assert "\n" not in line.plain


def test_only_exports_for_a_shell_are_printed_as_they_are() -> None:
    """Everything else goes through this room; what is named here prints words of our own."""
    ours = {"output.py", "env.py", "settings_docs.py", "commands.py", "config.py", "service.py", "simulate.py", "conversation.py"}
    found = {
        file.name
        for file in (SOURCE / "claude_proxy/cli").rglob("*.py")
        if re.search(r"typer\.echo\(|(?<![.\w])print\(|sys\.std(out|err)\.write", file.read_text(encoding="utf-8"))
    }
    assert found <= ours
