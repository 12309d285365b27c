"""A stored conversation as parts, what they take of the context, and what differs between two of them. Nothing is served here."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from claude_proxy.ledger.capture.reading import Block
from claude_proxy.web.pages import conversation_diff as diff
from claude_proxy.web.pages.conversation_parts import Kind, Part, parts_of, search
from claude_proxy.web.pages.conversation_shares import MOST_OF_IMAGE, Shares, image_tokens, prompt_tokens
from tests.web.pages.talk import Json, assistant, call, coding, image, png, request, result, thinking, tool, user

KINDS = {"tools": "tool", "system": "system", "messages": "message"}


def blocks(body: Json, answer: Json | None = None) -> list[Block]:
    """The blocks of a body as capture cuts it."""
    pieces = [(kind, one) for name, kind in KINDS.items() for one in body.get(name, [])]
    pieces += [("answer", answer)] if answer is not None else []
    return [Block(kind, json.dumps(one).encode(), b"") for kind, one in pieces]


def parts(*messages: Json, answer: Json | None = None, **more: Any) -> tuple[Part, ...]:
    """The parts of a request with these messages."""
    return parts_of(blocks(request(messages, **more), answer))


def said(found: tuple[Part, ...]) -> list[Part]:
    """Those of messages."""
    return [part for part in found if part.kind not in (Kind.TOOL, Kind.SYSTEM)]


def test_a_result_stands_behind_its_call_with_its_name() -> None:
    found = said(parts(*coding()))
    assert [(part.kind.value, part.name, part.paired) for part in found] == [
        ("user", "", False),
        ("thinking", "", False),
        ("assistant", "", False),
        ("call", "Bash", False),
        ("result", "Bash", True),
        ("assistant", "", False),
        ("call", "Read", False),
        ("result", "Read", True),
        ("image", "image/png", True),
        ("call", "Bash", False),
        ("result", "Bash", True),
    ]
    assert [part.number for part in found] == list(range(3, 14)), "tools and system blocks come first"
    assert [part.error for part in found if part.kind is Kind.RESULT] == [True, False, False]


def test_what_the_model_answered_is_no_part_of_the_prompt() -> None:
    found = parts(user("hi"), answer={"role": "assistant", "content": [{"type": "text", "text": "hello"}]})
    assert [(part.role, part.text, part.asked) for part in found][-2:] == [("user", "hi", True), ("answer", "hello", False)]
    assert Shares(found, 100).tokens(found[-1]) is None


@pytest.mark.parametrize("content", ["plain", [{"type": "text", "text": "plain"}], ["plain"]], ids=["string", "block", "list"])
def test_a_string_is_one_text(content: Any) -> None:
    for role, kind in (("user", Kind.USER), ("assistant", Kind.ASSISTANT), ("system", Kind.USER)):
        [part] = said(parts({"role": role, "content": content}))
        assert (part.kind, part.role, part.text, part.size) == (kind, role, "plain", 5)


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        ({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": "x"}}, Kind.CALL, '{\n  "q": "x"\n}'),
        (
            {"type": "web_search_tool_result", "tool_use_id": "s9", "content": {"type": "error"}},
            Kind.RESULT,
            '{\n  "type": "error"\n}',
        ),
        ({"type": "mcp_tool_use", "id": "m1", "name": "get", "input": "half {"}, Kind.CALL, "half {"),
        ({"type": "redacted_thinking", "data": "c2VjcmV0"}, Kind.OTHER, None),
        (
            {"type": "image", "source": {"type": "url", "url": "https://pictures.example/a.png"}},
            Kind.IMAGE,
            "https://pictures.example/a.png",
        ),
        ({"type": "document", "source": {"type": "text", "data": "a note"}}, Kind.DOCUMENT, "a note"),
        ({"type": "of the future", "x": 1}, Kind.OTHER, None),
        ({}, Kind.OTHER, "{}"),
        ({"type": ["nonsense"]}, Kind.OTHER, None),
        ({"type": "text"}, Kind.ASSISTANT, ""),
        ({"type": "tool_result"}, Kind.RESULT, ""),
        ({"type": "image", "source": "nonsense"}, Kind.IMAGE, "?"),
    ],
)
def test_every_kind_of_block_is_shown(item: Json, kind: Kind, text: str | None) -> None:
    [part] = said(parts(assistant(item)))
    assert part.kind is kind
    assert text is None or part.text == text


@pytest.mark.parametrize("value", [[], "text", 7, None, {"role": 1, "content": 2}, {"content": [[1], None, "x"]}])
def test_nonsense_is_shown_and_breaks_nothing(value: Any) -> None:
    found = parts_of([Block(kind, json.dumps(value).encode(), b"") for kind in ("tool", "system", "message", "answer")])
    assert Shares(found, 10).by_kind()


@pytest.mark.parametrize("depth", [50, 300, 900, 5000])
@pytest.mark.parametrize("where", ["call", "result", "other", "tool"])
def test_content_that_is_nested_deeply_is_shown(where: str, depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    result_in_result = '{"type":"tool_result","tool_use_id":"x","content":[' * depth + "]}" * depth
    item = {
        "call": f'{{"type":"tool_use","id":"t","name":"n","input":{deep}}}',
        "result": result_in_result,
        "other": f'{{"type":"new","x":{deep}}}',
        "tool": f'{{"name":"n","input_schema":{deep}}}',
    }[where]
    text = item if where == "tool" else f'{{"role":"assistant","content":[{item}]}}'
    assert parts_of([Block("tool" if where == "tool" else "message", text.encode(), b"")])


def test_calls_with_one_id_do_not_lose_a_result() -> None:
    found = said(
        parts(assistant(call("t", a=1), call("t", a=2)), user(result("t", "one"), result("t", "two"), result("u", "alone")))
    )
    assert [(part.kind.value, part.text if part.kind is Kind.RESULT else "") for part in found] == [
        ("call", ""),
        ("result", "one"),
        ("result", "two"),
        ("call", ""),
        ("result", "alone"),
    ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
        (b"GIF89a" + bytes(20), "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(20), "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", None),
        (b"<html><script>alert(1)</script>", None),
        (b"", None),
    ],
    ids=["png", "jpeg", "gif", "webp", "svg", "html", "empty"],
)
def test_an_image_is_what_its_first_bytes_say(data: bytes, kind: str | None) -> None:
    [part] = said(parts(user(image(data, "image/png"))))
    assert part.image is not None
    assert part.image.media_type == kind
    assert part.image.size == pytest.approx(len(data), abs=2)
    assert part.text == ""


def test_a_body_that_was_not_cut_is_one_part() -> None:
    found = parts_of([Block("beginning", b'{"messages": [', b""), Block("error", b'{"type":"error"}', b"")])
    assert [(part.kind, part.role, part.text, part.asked) for part in found] == [
        (Kind.BODY, "request", '{"messages": [', True),
        (Kind.BODY, "answer", '{"type":"error"}', False),
    ]


# -- shares


def test_the_shares_are_those_of_the_reported_tokens() -> None:
    found = parts(*coding())
    shares = Shares(found, 10_000)
    by_kind = {share.kind: share for share in shares.by_kind()}
    assert sum(share.tokens or 0 for share in by_kind.values()) == pytest.approx(10_000, abs=10)
    assert sum(share.ratio for share in by_kind.values()) == pytest.approx(1.0)
    ratios = [share.ratio for share in shares.by_kind()]
    assert ratios == sorted(ratios, reverse=True)
    assert by_kind[Kind.RESULT].ratio > 0.8
    assert by_kind[Kind.CALL].count == 3
    assert shares.largest()[0].kind is Kind.RESULT


def test_without_reported_tokens_there_are_no_estimates() -> None:
    found = parts(*coding())
    shares = Shares(found, None)
    assert all(shares.tokens(part) is None for part in found)
    assert sum(share.ratio for share in shares.by_kind()) == pytest.approx(1.0)
    assert all(share.tokens is None for share in shares.by_kind())


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (png(300, 250), 100),
        (png(1, 1), 1),
        (png(5000, 5000), MOST_OF_IMAGE),
        (b"GIF89a" + b"\x2c\x01\xfa\x00" + bytes(9), 100),
        (b"\xff\xd8\xff\xe0" + bytes(20), MOST_OF_IMAGE),
        (b"nothing known", MOST_OF_IMAGE),
    ],
)
def test_an_image_takes_tokens_by_its_pixels_not_by_its_bytes(data: bytes, tokens: int) -> None:
    found = parts(user("x" * 2000, image(data)), system=[], tools=[])
    assert found[-1].image is not None
    assert image_tokens(found[-1].image) == tokens
    shares = Shares(found, 5000)
    assert shares.tokens(found[-1]) == tokens
    assert shares.tokens(found[0]) == 5000 - tokens


def test_images_never_take_more_than_was_reported() -> None:
    found = parts(user(*[image(png(2000, 2000)) for _ in range(4)]), system=[], tools=[])
    assert [Shares(found, 1000).tokens(part) for part in found] == [250] * 4


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"input_tokens": 5, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 20, "output_tokens": 900}, 35),
        ({"input_tokens": 5, "cache_read_input_tokens": None}, 5),
        ({"input_tokens": 0}, None),
        ({}, None),
        (None, None),
        ({"input_tokens": "many"}, None),
    ],
)
def test_the_prompt_is_what_was_read_written_and_new(usage: Any, prompt: int | None) -> None:
    assert prompt_tokens(usage) == prompt


# -- differences


def by_name(before: tuple[Part, ...], after: tuple[Part, ...]) -> dict[str, diff.Area]:
    """The areas of a difference."""
    return {area.name: area for area in diff.differences(before, after)}


def test_a_conversation_that_grew_has_only_new_parts() -> None:
    areas = by_name(parts(*coding()[:3]), parts(*coding()))
    assert (areas["tools"].same, areas["tools"].changes) == (2, [])
    assert (areas["system"].same, areas["system"].changes) == (1, [])
    assert areas["messages"].same == 5
    assert areas["messages"].grew
    assert {change.sign for change in areas["messages"].changes} == {"added"}
    assert diff.new_numbers(areas.values()) == set(range(8, 14))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("area", ["tools", "system", "messages"])
def test_only_what_is_added_at_the_end_lets_an_area_grow(area: str, place: int) -> None:
    """What is added before other parts makes a provider's cached prompt useless."""
    fields = {
        "tools": [tool("A"), tool("B")],
        "system": [{"type": "text", "text": words} for words in ("one", "two")],
        "messages": [user("first"), user("second")],
    }
    more = {"tools": tool("New"), "system": {"type": "text", "text": "new"}, "messages": user("new")}
    grown = {**fields, area: [*fields[area][:place], more[area], *fields[area][place:]]}
    before, after = (parts(*one["messages"], tools=one["tools"], system=one["system"]) for one in (fields, grown))
    found = by_name(before, after)
    assert found[area].grew == (place == 2)
    assert [change.sign for change in found[area].changes] == ["added"]


def test_markers_that_move_change_nothing() -> None:
    marked = msgspec.json.decode(json.dumps(coding()))
    for message in marked:
        message["content"][-1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    areas = by_name(
        parts(*coding()), parts(*marked, tools=[{**tool("Bash"), "cache_control": {"type": "ephemeral"}}, tool("Read")])
    )
    assert [area.changes for area in areas.values()] == [[], [], []]


def test_a_tool_is_the_same_by_its_name() -> None:
    before = parts(user("x"), tools=[tool("A"), tool("B", "one\ntwo\nthree"), tool("C")])
    after = parts(user("x"), tools=[tool("A"), tool("B", "one\n2\nthree"), tool("D")])
    area = by_name(before, after)["tools"]
    assert [(change.sign, (change.after or change.before).name) for change in area.changes if change.after or change.before] == [  # type: ignore[union-attr]
        ("changed", "B"),
        ("added", "D"),
        ("removed", "C"),
    ]
    assert not area.grew
    lines = diff.lines(area.changes[0], str.upper)
    assert [line.sign for line in lines if line.sign in "+-"] == ["-", "+"]
    assert "ONE\\NTWO\\NTHREE" in lines[1].text


def test_a_changed_message_in_the_middle_is_found_and_compared() -> None:
    before = parts(user("a"), assistant("b"), user("one\ntwo"), assistant("d"))
    after = parts(user("a"), assistant("b"), user("one\n2"), assistant("d"), user("new"))
    area = by_name(before, after)["messages"]
    assert area.same == 3
    assert [change.sign for change in area.changes] == ["changed", "added"]
    assert diff.lines(area.changes[0], str) == [diff.Line(" ", "one"), diff.Line("-", "two"), diff.Line("+", "2")]


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_a_compacted_conversation_lost_its_parts(count: int) -> None:
    before = parts(*[user(f"m{at}") for at in range(count)], user("last"))
    area = by_name(before, parts(user("summary"), user("last")))["messages"]
    removed = [change for change in area.changes if change.sign == "removed"]
    assert area.same == 1
    assert len(removed) == max(0, count - 1)


def test_long_texts_and_many_parts_are_not_compared_line_by_line() -> None:
    lines = "\n".join(map(str, range(diff.MAX_LINES + 1)))
    change = by_name(parts(user(lines)), parts(user(lines + "x")))["messages"].changes[0]
    assert diff.lines(change, str) == []
    many = [user(f"a{at}") for at in range(diff.MAX_MIDDLE + 1)]
    area = by_name(parts(*many), parts(*[user(f"b{at}") for at in range(diff.MAX_MIDDLE + 1)]))["messages"]
    assert [change.sign for change in area.changes].count("removed") == diff.MAX_MIDDLE + 1


def test_a_change_at_the_beginning_of_a_long_conversation_is_the_only_one() -> None:
    rest = [user(f"a{at}") for at in range(diff.MAX_MIDDLE + 500)]
    area = by_name(parts(user("old"), *rest), parts(user("new"), *rest))["messages"]
    assert area.same == len(rest)
    assert [change.sign for change in area.changes] == ["changed"]


def test_a_difference_has_a_bound() -> None:
    old, new = ("\n".join(f"{letter}{at}" for at in range(900)) for letter in "ab")
    change = by_name(parts(user(old)), parts(user(new)))["messages"].changes[0]
    assert len(diff.lines(change, str)) <= diff.MAX_SHOWN


# -- search


@pytest.mark.parametrize("wanted", ["parser", "PARSER", "ParSer"])
def test_a_search_finds_each_part_whatever_the_case(wanted: str) -> None:
    hits, count = search(parts(*coding()), wanted, str)
    assert count == len(hits) == 5
    assert {hit.found.lower() for hit in hits} == {"parser"}


@pytest.mark.parametrize(
    ("text", "wanted"), [("die Straße", "STRASSE"), ("İstanbul x", "x"), ("한국어 검색", "검색"), ("a\nb", "b")]
)
def test_a_search_knows_other_alphabets(text: str, wanted: str) -> None:
    hits, count = search(parts(user(text), system=[], tools=[]), wanted, str)
    assert count == len(hits) == 1


def test_a_search_is_bounded_counts_on_and_cleans_what_it_shows() -> None:
    found = parts(*[user("needle \x1b[31m " * 500) for _ in range(300)])
    hits, count = search(found, "needle", lambda text: text.replace("\x1b", "?"))
    assert (len(hits), count) == (100, 300)
    assert all(len(hit.before) + len(hit.found) + len(hit.after) < 300 for hit in hits)
    assert "\x1b" not in "".join(hit.before + hit.after for hit in hits)


def test_thinking_counts_by_its_text_not_by_its_signature() -> None:
    [part] = said(parts(assistant(thinking("hm"))))
    assert (part.text, part.size) == ("hm", 2)
