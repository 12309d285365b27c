"""A captured conversation as a person sees it, as JSON and as a command; nothing in it moves the terminal."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from claude_proxy import ids
from claude_proxy.cli.conversation import print_conversation
from claude_proxy.exchange import Failure, Outcome
from claude_proxy.ledger.capture.options import CaptureOptions, Parcel
from claude_proxy.ledger.capture.preparing import Preparer
from claude_proxy.ledger.capture.repeating import json_visible
from claude_proxy.ledger.capture.store import Opener
from tests.ledger.capture.captured import WALL, parcel, turn

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(3000)).decode()
SVG = base64.b64encode(b"<svg onload='alert(1)'/>").decode()
TOOL_RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "a.py\nb.py"}]}
REQUEST: dict[str, Any] = {
    "model": "glm-5.3",
    "max_tokens": 100,
    "tools": [
        {"name": "Bash", "description": "Run a command", "input_schema": {}},
        {"type": "web_search_20250305", "name": "web_search"},
    ],
    "system": [{"type": "text", "text": "You are Claude Code.\n" + "Be brief. " * 50}],
    "messages": [
        {"role": "user", "content": "list the files"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should use ls.", "signature": "s"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
            ],
        },
        {"role": "user", "content": [TOOL_RESULT]},
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/svg+xml", "data": SVG}},
                {"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}},
                {"type": "tool_result", "tool_use_id": "toolu_9", "is_error": True, "content": "no such call"},
                {"type": "new_block", "x": 1},
            ],
        },
    ],
}
ANSWER = {"type": "message", "role": "assistant", "stop_reason": "end_turn", "content": [{"type": "text", "text": "Two files."}]}
EXPECTED = """\
{id}  2026-09-21 14:13:20+00:00  glm-5.3  200  completed

── Tools: 2, 113 bytes ──
  Bash (63 bytes)
  web_search (50 bytes)

── System: 1, 547 bytes ──
  You are Claude Code. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief.… (547 bytes)

── user ──
list the files

── assistant ──
thinking: I should use ls.
Let me look.
→ Bash {{"command": "ls"}}
← a.py
    b.py

── user ──
[image image/png, 2.9 KiB]
[image image/svg+xml, 24 bytes]
[document from https://h/a.pdf]
← error: no such call
[new_block, 29 bytes]

── answer ──
Two files.
[end_turn]
"""


def keep(folder: Path, one: Parcel) -> str:
    """Put an exchange into the file; returns its id."""
    store = Opener(CaptureOptions(folder, reserve=0))()
    store.write(Preparer()(one))
    store.close()
    return ids.encode(one.number)


def test_a_conversation_reads_from_top_to_bottom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = keep(tmp_path, parcel(REQUEST, json.dumps(ANSWER).encode(), at=WALL, model="glm-5.3"))
    print_conversation(name, tmp_path)
    assert capsys.readouterr().out == EXPECTED.format(id=name)


def test_a_failure_says_what_came_and_what_did_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("upstream", "overloaded_error", "Overloaded")
    one = parcel(REQUEST, b'{"error":"x"}', status=529, failure=failure)
    print_conversation(keep(tmp_path, one), tmp_path)
    said = capsys.readouterr().out
    assert "failed: overloaded_error: Overloaded" in said
    assert '── error, 13 bytes ──\n{"error":"x"}' in said

    stream = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half an ans"}}\n\n'
    one = parcel(REQUEST, stream, answer_type=b"text/event-stream", outcome=Outcome.CUT)
    print_conversation(keep(tmp_path, one), tmp_path)
    assert "── answer, incomplete ──\nhalf an ans\n" in capsys.readouterr().out

    print_conversation(keep(tmp_path, parcel(b"no JSON \x1b[2J", b"", outcome=Outcome.CANCELLED)), tmp_path)
    said = capsys.readouterr().out
    assert "no JSON \\x1b[2J" in said
    assert "── no answer ──" in said


HOSTILE = "\x1b]52;c;aGk=\x07\x9b2J\u202e\u2028\0<script>"
WHERE = {
    "text": {"messages": [turn(HOSTILE)]},
    "role": {"messages": [turn("a", HOSTILE)]},
    "tool": {"tools": [{"name": HOSTILE}]},
    "system": {"system": HOSTILE},
    "thinking": {"messages": [{"role": "a", "content": [{"type": "thinking", "thinking": HOSTILE}]}]},
    "call": {
        "messages": [
            {"role": "a", "content": [{"type": "tool_use", "id": HOSTILE, "name": HOSTILE, "input": {HOSTILE: HOSTILE}}]}
        ]
    },
    "result": {"messages": [{"role": "a", "content": [{"type": "tool_result", "tool_use_id": "x", "content": HOSTILE}]}]},
    "type": {"messages": [{"role": "a", "content": [{"type": HOSTILE}]}]},
    "image": {
        "messages": [
            {"role": "a", "content": [{"type": "image", "source": {"type": "base64", "media_type": HOSTILE, "data": HOSTILE}}]}
        ]
    },
    "url": {"messages": [{"role": "a", "content": [{"type": "image", "source": {"type": "url", "url": HOSTILE}}]}]},
    "wrong types": {
        "messages": [5, None, "x", {"role": 5, "content": 7}, {"content": [1, None, {"type": 5}]}],
        "tools": [1],
        "system": [2],
    },
}


@pytest.mark.parametrize("how", ["", "raw", "curl"])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("escaped", [True, False])
def test_nothing_in_it_moves_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, how: str, escaped: bool
) -> None:
    body = json.dumps(WHERE[where], ensure_ascii=escaped).encode()
    name = keep(tmp_path, parcel(body, headers=[(b"anthropic-beta", HOSTILE.encode())]))
    print_conversation(name, tmp_path, **({how: True} if how else {}))
    said = capsys.readouterr().out
    assert all(char.isprintable() or char in "\n\t" for char in said)
    if how == "raw":
        assert json.loads(said) == json.loads(body)


def test_a_credential_that_json_had_hidden_is_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"messages":[{"role":"user","content":"\\u0073k-ant-api03-abcdef123456"}]}'
    print_conversation(keep(tmp_path, parcel(body)), tmp_path)
    assert "sk-ant" not in capsys.readouterr().out


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_the_curl_command_sends_the_same_body_with_the_credential_of_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str
) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"it's"),
        (b"cookie", b"c=1"),
    ]
    body = json.dumps({"messages": [turn("BODY\n$HOME `id` 'x'")]}, indent=1).encode()
    name = keep(tmp_path, parcel(body, headers=[*headers, (header.encode(), b"Bearer my-own-credential-1")]))
    print_conversation(name, tmp_path, curl=True)
    command = capsys.readouterr().out
    assert "my-own-credential-1" not in command
    assert "cookie" not in command
    fake = tmp_path / "curl"
    fake.write_text("#!/bin/sh\nfor one; do printf '%s\\n' \"$one\"; done\nprintf -- '---\\n'\ncat\n")
    fake.chmod(0o700)
    environ = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "ANTHROPIC_API_KEY": "key",
        "ANTHROPIC_AUTH_TOKEN": "token",
        "ANTHROPIC_BASE_URL": "http://p",
    }
    done = subprocess.run(["/bin/sh", "-c", command], env=environ, capture_output=True, text=True, check=True)
    arguments, _, sent = done.stdout.partition("---\n")
    assert json.loads(sent) == json.loads(body)
    credential = "x-api-key: key" if header == "x-api-key" else "authorization: Bearer token"
    fields = [credential, "content-type: application/json", "anthropic-version: 2023-06-01", "anthropic-beta: it's"]
    expected = ["-N", "http://p/v1/messages", *(part for field in fields for part in ("-H", field)), "--data-binary", "@-"]
    assert arguments.splitlines() == expected
    assert shlex.split(command.split(" \\\n")[0])[0] == "curl"


@pytest.mark.parametrize(
    ("exchange", "sentence"), [("nonsense", "is not an exchange id"), ("cp_0000000000001", "CAPTURE was off")]
)
def test_what_is_not_there_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exchange: str, sentence: str
) -> None:
    keep(tmp_path, parcel(REQUEST))
    with pytest.raises(typer.Exit) as caught:
        print_conversation(exchange, tmp_path)
    assert caught.value.exit_code == 1
    assert sentence in capsys.readouterr().err
    with pytest.raises(typer.Exit):
        print_conversation(1, tmp_path / "none")
    assert "With CAPTURE=all the proxy keeps new ones." in capsys.readouterr().err


def test_damage_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = keep(tmp_path, parcel(REQUEST))
    store = Opener(CaptureOptions(tmp_path, reserve=0))()
    store._connection.execute("DELETE FROM node WHERE parent IS NULL")
    store.close()
    print_conversation(name, tmp_path)
    assert "is damaged" in capsys.readouterr().out


def test_json_stays_the_same_json() -> None:
    for text in ('"\U000e0001 \u202e \x85 ü"', '"plain"', '{\n\t"a": 1}'):
        assert json.loads(json_visible(text)) == json.loads(text)
