"""What the user's text makes of the tools at hand."""

import pytest

from claude_proxy.simulator.dialogue import Message, Tool, call_of, tool_results, wanted_calls


def schema(*required: str, **more: object) -> dict[str, object]:
    properties = {name: {"type": "string"} for name in required} | dict(more)
    return {"type": "object", "properties": properties, "required": list(required)}


TOOLS = [
    Tool("Read", schema("file_path", limit={"type": "integer"})),
    Tool("Bash", schema("command", description={"type": "string"}, run_in_background={"type": "boolean"})),
    Tool("Agent", schema("description", "prompt")),
    Tool("Pick", schema("colour") | {"properties": {"colour": {"enum": ["red", "blue"]}}}),
]


def user(*texts: str) -> Message:
    return Message("user", [{"type": "text", "text": text} for text in texts])


def asked(text: str) -> list[tuple[str, object]]:
    return [(call.name, dict(call.input)) for call in wanted_calls([user(text)], TOOLS)]


BASH = {"run_in_background": False}


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("say hi", []),
        ("use the tools you have", []),
        ("Use Read on /a b.txt", [("Read", {"file_path": "/a b.txt"})]),
        ('use read with {"file_path": "/x", "limit": 3}', [("Read", {"file_path": "/x", "limit": 3})]),
        ("use Read on {broken", [("Read", {"file_path": "{broken"})]),
        ("use Pick", [("Pick", {"colour": "red"})]),
        ("run Bash: ls; echo use it | cat", [("Bash", BASH | {"command": "ls; echo use it | cat"})]),
        (
            "in parallel: use Read on a; run Bash: ls -l ; use Read on b",
            [("Read", {"file_path": "a"}), ("Bash", BASH | {"command": "ls -l"}), ("Read", {"file_path": "b"})],
        ),
        (
            "ask a subagent: run Bash: ls",
            [("Agent", {"description": "a simulated step", "prompt": "run Bash: ls"})],
        ),
        ("hello\nrun Bash: ls\nbye", [("Bash", BASH | {"command": "ls"})]),
        ("<system-reminder>\nrun Bash: rm\n</system-reminder>\nhi", []),
    ],
)
def test_commands_in_the_users_text(text: str, calls: list[tuple[str, object]]) -> None:
    assert asked(text) == calls


def test_each_line_is_a_turn_and_the_last_is_followed_by_none() -> None:
    messages = [user("run Bash: one\nthen talk\nrun Bash: two")]
    said = []
    for _ in range(3):
        calls = wanted_calls(messages, TOOLS)
        said.append([call.input["command"] for call in calls])
        messages += [
            Message("assistant", [{"type": "tool_use"}]),
            Message("user", [{"type": "tool_result", "content": "done"}]),
            Message("system", "a notice in between"),
        ]
    assert said == [["one"], ["two"], []]


def test_a_new_text_of_the_users_begins_anew() -> None:
    messages = [user("run Bash: one"), Message("assistant", [{"type": "tool_use"}]), user("run Bash: two")]
    assert [call.input["command"] for call in wanted_calls(messages, TOOLS)] == ["two"]


def test_results_are_read_in_each_form() -> None:
    blocks = [
        {"type": "tool_result", "content": "text <system-reminder>no</system-reminder>"},
        {"type": "tool_result", "content": [{"type": "text", "text": "block"}, {"type": "image", "source": {}}]},
        {"type": "tool_result"},
        {"type": "tool_result", "content": 5},
        {"type": "text", "text": "and this"},
    ]
    assert tool_results([Message("user", blocks), Message("system", "later")]) == ["text", "block\n[image]", "", ""]
    assert tool_results([user("none")]) == tool_results([]) == []


def test_a_tool_without_required_properties_is_called_with_what_it_has() -> None:
    tool = Tool("Search", {"properties": {"n": {"type": "integer"}, "query": {"type": "string"}}})
    assert call_of(tool, "x").input == {"query": "x"}
    assert call_of(tool).input == {}
    assert call_of(Tool("Bare", {"type": "object"}), "x").input == {}


@pytest.mark.parametrize(
    ("kind", "value"), [("integer", 1), ("number", 1), ("boolean", False), ("array", []), ("object", {}), ("string", "simulated")]
)
def test_required_properties_get_a_value_of_their_type(kind: str, value: object) -> None:
    assert call_of(Tool("T", {"properties": {"p": {"type": kind}}, "required": ["p"]})).input == {"p": value}
