"""A request cut into blocks: what counts as the same prompt, and what does not."""

import copy
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.protocol.blocks import HASH, MAX_BODY, MAX_PARTS, Prompt, cut
from tests.protocol.prompts import Json, encode, marked, request, text, tool, turn, unmarked

GONE = object()


def prompt(body: Json | bytes) -> Prompt:
    found = cut(body if isinstance(body, bytes) else encode(body))
    assert found is not None
    return found


def first_change(one: Json, other: Json) -> int | None:
    """The index of the first block that differs; None if the prompts are equal."""
    a, b = prompt(one).hashes, prompt(other).hashes
    for at in range(0, max(len(a), len(b)), HASH):
        if a[at : at + HASH] != b[at : at + HASH]:
            return at // HASH
    return None


def changed(body: Json, path: list[str | int], value: Any) -> Json:
    """A deep copy with one place set to another value, or removed."""
    body = copy.deepcopy(body)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return body


def test_the_blocks_of_a_request_come_in_the_order_of_the_prompt() -> None:
    found = prompt(request())
    assert (found.tools, found.system, [*found.ends]) == (3, 3, [9, 10])
    assert len(found) == len(found.lengths) == 10
    assert len(found.hashes) == 80
    assert [found.message_of(block) for block in (6, 8, 9)] == [0, 0, 1]
    assert found.model == "claude-opus-5-5"


def test_the_order_of_the_bodys_keys_does_not_matter() -> None:
    body = request()
    keys = list(body)
    random.Random(1).shuffle(keys)
    assert first_change(body, {key: body[key] for key in keys}) is None


@pytest.mark.parametrize("spaced", [{"separators": (", ", ": ")}, {"indent": 2}])
def test_how_the_client_writes_spaces_does_not_matter_for_markers_and_strings(spaced: Any) -> None:
    """Python writes spaces, and a block with its marker taken out must equal one that never had it."""
    body = request()
    plain = copy.deepcopy(unmarked(body))
    plain["messages"][1]["content"] = plain["messages"][1]["content"][0]["text"]
    assert prompt(json.dumps(body, **spaced).encode()).hashes == prompt(json.dumps(plain, **spaced).encode()).hashes


@pytest.mark.parametrize(
    "change",
    [
        (["metadata", "user_id"], "another"),
        (["metadata"], GONE),
        (["safeguards"], [{"a": "longer one"}]),
        (["safeguards"], GONE),
        (["max_tokens"], 1),
        (["stream"], False),
        (["system", 1, "cache_control"], GONE),
        (["system", 2, "cache_control"], {"type": "ephemeral", "ttl": "1h"}),
        (["system", 0, "cache_control"], {"type": "ephemeral"}),
        (["tools", 2, "cache_control"], {"type": "ephemeral"}),
        (["tools", 2, "cache_control"], None),
        (["messages", 0, "content", 0, "cache_control"], {"ttl": "5m", "type": "ephemeral"}),
        (["messages", 1, "content"], "# Environment\nPrimary working directory: /w"),
    ],
)
def test_what_takes_no_part_in_the_prefix_is_left_out(change: tuple[list[str | int], Any]) -> None:
    body = request()
    assert first_change(body, changed(body, *change)) is None


@pytest.mark.parametrize(
    ("path", "value", "block"),
    [
        (["tools", 0, "description"], "does more", 0),
        (["tools", 1, "input_schema", "properties", "path"], {"type": "number"}, 1),
        (["tools", 2], GONE, 2),
        (["tools", 1, "type"], "custom", 1),
        (["system", 0, "text"], "another", 3),
        (["system", 2], GONE, 5),
        (["messages", 0, "content", 1, "text"], "git status: dirty", 7),
        (["messages", 1, "role"], "user", 9),
        (["messages", 1, "content", 0, "text"], "# Environment", 9),
    ],
)
def test_every_other_change_shows_at_its_block(path: list[str | int], value: Any, block: int) -> None:
    body = request()
    assert first_change(body, changed(body, path, value)) == block


def test_a_string_as_system_equals_one_text_block() -> None:
    assert first_change(request(system="be brief"), request(system=[text("be brief")])) is None


def test_a_request_without_tools_and_system_has_only_messages() -> None:
    found = prompt({"messages": [{"role": "user", "content": "hi"}]})
    assert (found.tools, found.system, [*found.ends], found.model) == (0, 0, [1], None)


@pytest.mark.parametrize("where", ["inside", "beside", "document"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_marker_deeper_in_a_block_is_left_out_as_well(where: str, separators: tuple[str, str]) -> None:
    def body(mark: bool) -> bytes:
        inner = text("deep") | ({"cache_control": {"type": "ephemeral"}} if mark else {})
        block = {
            "inside": {"type": "tool_result", "tool_use_id": "t", "content": [text("one"), inner]},
            "beside": {"type": "search_result", "title": "t", "content": [inner], "citations": {"enabled": True}},
            "document": {"type": "document", "source": {"type": "content", "content": [inner, text("two")]}},
        }[where]
        return json.dumps(request(messages=[{"role": "user", "content": [block, text("now")]}]), separators=separators).encode()

    assert prompt(body(True)).hashes == prompt(body(False)).hashes


def test_a_tool_result_as_a_string_equals_one_with_a_text_block() -> None:
    def body(content: Any) -> Json:
        block = {"type": "tool_result", "tool_use_id": "t", "content": content}
        return request(messages=[{"role": "user", "content": [block]}])

    assert first_change(body("done"), body([text("done")])) is None
    assert first_change(body("done"), body([text("done"), text("")])) == 6
    assert first_change(body([]), body([text("")])) == 6


@pytest.mark.parametrize("words", ['"cache_control": {"type": "ephemeral"}', ',"cache_control":null', '\\"cache_control"'])
def test_text_that_looks_like_a_marker_is_text(words: str) -> None:
    """Also where another block makes us search for markers in depth."""
    deep = {"type": "document", "source": {"content": [text("x") | {"cache_control": {"type": "ephemeral"}}]}}
    bodies = [request(messages=[{"role": "user", "content": [deep, text(start + words)]}]) for start in ("a", "b")]
    same = request(messages=[{"role": "user", "content": [deep, text("a")]}])
    assert first_change(*bodies) == 7
    assert first_change(bodies[0], same) == 7


@pytest.mark.parametrize("key", ["input_schema", "input"])
def test_a_parameter_named_cache_control_is_data(key: str) -> None:
    """Of a tool whose own parameter has that name."""

    def body(value: str) -> Json:
        own = {"cache_control": {"type": value}}
        if key == "input_schema":
            return request(tools=[{"name": "T", "input_schema": own}])
        call = {"type": "tool_use", "id": "t", "name": "T", "input": own}
        return request(messages=[{"role": "assistant", "content": [call]}], tools=[])

    assert first_change(body("string"), body("object")) is not None


def test_consecutive_messages_of_one_role_equal_one_message() -> None:
    two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    one = [{"role": "user", "content": [text("a"), text("b")]}]
    assert first_change(request(messages=two), request(messages=one)) is None


def test_the_keys_of_a_block_may_come_in_any_order_but_not_those_inside() -> None:
    """The API builds the prompt from the parsed block; the inside of a schema it writes out as it came."""
    body = request()
    turned = changed(body, ["tools", 0], dict(reversed(tool("Bash").items())))
    inside = changed(body, ["tools", 0, "input_schema"], dict(reversed(tool("Bash")["input_schema"].items())))
    assert first_change(body, turned) is None
    assert first_change(body, inside) == 0


def test_the_same_text_in_other_escapes_counts_as_changed() -> None:
    """Bytes are compared, not what they stand for: no client writes a text in two ways."""
    plain = encode(request(system="caf\u00e9"))
    escaped = plain.replace("caf\u00e9".encode(), rb"caf\u00e9")
    assert plain != escaped
    assert prompt(plain).hashes != prompt(escaped).hashes


@pytest.mark.parametrize(
    ("mark", "found"),
    [
        ({"type": "ephemeral"}, (True, 300)),
        ({"type": "ephemeral", "ttl": "5m"}, (True, 300)),
        ({"type": "ephemeral", "ttl": "1h"}, (True, 3600)),
    ],
)
def test_markers_say_how_long_the_cache_lives(mark: Json, found: tuple[bool, int]) -> None:
    asked = prompt(marked(request(), mark))
    assert (asked.marked, asked.ttl) == found


def test_the_shortest_marker_counts() -> None:
    body = marked(request(), {"type": "ephemeral", "ttl": "1h"})
    body["messages"][-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    assert prompt(body).ttl == 300


@pytest.mark.parametrize(("mark", "asked"), [({"type": "ephemeral"}, True), (None, False)])
def test_a_marker_for_the_whole_request_counts(mark: Json | None, asked: bool) -> None:
    assert prompt(unmarked(request()) | {"cache_control": mark}).marked is asked
    assert prompt(unmarked(request())).marked is False


@pytest.mark.parametrize("setting", ["thinking", "tool_choice"])
def test_settings_that_divide_the_cache_are_kept_apart(setting: str) -> None:
    one, other = prompt(request()), prompt(request(**{setting: {"type": "none"}}))
    assert one.hashes == other.hashes
    assert one.settings != other.settings


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"messages"',
        b"not json",
        b'{"messages": "hi"}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"content": "hi"}]}',
        b'{"messages": [{"role": 1, "content": "hi"}]}',
        b'{"messages": [{"role": "user", "content": ["hi"]}]}',
        b'{"messages": [{"role": "user", "content": [[]]}]}',
        b'{"messages": [], "tools": {}}',
        b'{"messages": [{"role": "user", "content": "\xff"}], "model": "\xff"}',
        b'{"messages": [{"role": "user", "content": [{"type": "text", "\xff": 1}]}]}',
        b'{"messages": [{"role": "\\ud800", "content": "hi"}]}',
        b'{"messages": [{"role": "user", "content": ' + b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "cut off',
    ],
)
def test_what_is_no_messages_request_has_no_prompt(body: bytes) -> None:
    assert cut(body) is None


@pytest.mark.parametrize("content", ["null", "1", "true", "{}"])
def test_content_of_an_unknown_kind_is_no_block(content: str) -> None:
    found = cut(b'{"messages": [{"role": "user", "content": %b}]}' % content.encode())
    assert found is not None
    assert len(found) == 0


def test_a_body_over_the_limit_is_not_cut() -> None:
    largest = b'{"messages":[{"role":"user","content":"' + b"x" * (MAX_BODY - 43) + b'"}]}'
    assert len(largest) == MAX_BODY
    assert cut(largest) is not None
    assert cut(largest + b" ") is None


@pytest.mark.parametrize(
    ("start", "part", "end", "each"),
    [
        ('{"messages":[{"role":"user","content":[', '{"type":"text"}', "]}]}", 2),
        ('{"messages":[{"role":"user","content":[{"content":[', "{}", "]}]}]}", 1),
        ('{"messages":[', '{"role":"user","content":""}', "]}", 1),
        ('{"messages":[],"tools":[', '{"name":"T"}', "]}", 2),
        ('{"messages":[],"system":[', "{}", "]}", 1),
    ],
)
def test_a_prompt_in_too_many_parts_is_not_cut(start: str, part: str, end: str, each: int) -> None:
    """A real one has far fewer; each takes microseconds."""

    def body(count: int) -> bytes:
        return (start + ",".join([part] * count) + end).encode()

    assert json.loads(body(2))
    assert cut(body(MAX_PARTS // each - 10)) is not None
    assert cut(body(MAX_PARTS // each + 10)) is None


def nested(depth: int) -> bytes:
    return b'{"type":"tool_result","content":[' * depth + b'{"type":"text","text":"x"}' + b"]}" * depth


@pytest.mark.parametrize("depth", [3, 10, 400])
def test_blocks_nested_deeply_cost_no_more(depth: int) -> None:
    body = b'{"messages":[{"role":"user","content":[' + b",".join([nested(depth)] * (4000 // depth)) + b"]}]}"
    started = time.process_time()
    found = cut(body)
    assert found is not None
    assert time.process_time() - started < 2


@given(st.lists(st.sampled_from(["grow", "mark", "string", "keys"]), max_size=5))
def test_turns_and_notations_in_any_order_leave_the_prefix_intact(steps: list[str]) -> None:
    body = request()
    for number, step in enumerate(steps):
        before = prompt(body)
        if step == "grow":
            body = turn(body, number)
        elif step == "mark":
            body = unmarked(body)
        elif step == "string":
            body = changed(unmarked(body), ["messages", 1, "content"], "# Environment\nPrimary working directory: /w")
        else:
            body = dict(reversed(body.items()))
        assert prompt(body).hashes.startswith(before.hashes)
