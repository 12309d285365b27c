"""What the templates of *Conversation* are given: bounds, pages, bars, differences. Nothing is served here."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from claude_proxy.ledger.capture.preparing import Note
from claude_proxy.web.pages import conversation_diff as diff
from claude_proxy.web.pages import conversation_shown as shown
from claude_proxy.web.pages.conversation_kept import Since, Told, clean, cut
from claude_proxy.web.pages.conversation_parts import Part, search
from claude_proxy.web.pages.conversation_shares import Shares
from tests.web.pages.talk import Json, assistant, call, coding, result, thinking, tool, user
from tests.web.pages.test_conversation_parts import parts

SECRET = "sk-ant-" + "Zq7x" * 8


def told(*messages: Json, prompt: int | None = 10_000, **more: Any) -> Told:
    """A conversation that was read."""
    found = parts(*messages, **more)
    return Told(Note(), True, found, Shares(found, prompt))


def since(before: tuple[Part, ...], after: Told) -> Since:
    """What is new in it."""
    return Since("cp_before", diff.differences(before, after.parts), {})


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250, 1000])
def test_the_last_page_is_full_and_every_part_is_on_one(count: int) -> None:
    writer = shown.Writer(told(*[user(f"m{at}") for at in range(count)]))
    _, pages, last = writer.page("")
    assert len(last) == min(count, shown.PARTS)
    found = [part.number for page in range(1, pages + 1) for part in writer.page(str(page))[2]]
    assert found == [part.number for part in writer.said]
    assert pages == max(1, -(-count // shown.PARTS))


@pytest.mark.parametrize("count", [3, 100, 101, 250])
def test_a_part_knows_the_page_it_stands_on(count: int) -> None:
    writer = shown.Writer(told(*[user(f"m{at}") for at in range(count)]))
    for page in range(1, writer.page("")[1] + 1):
        for part in writer.page(str(page))[2]:
            assert writer.part(part)["page"] == page - 1
    tools = [part for part in told(user("x")).parts if part.kind == "tool"]
    assert [writer.part(part)["page"] for part in tools] == [None, None], "they stand before the pages"


@pytest.mark.parametrize("wanted", ["", "x", "-1", "0.5", "²", "٣", "1" * 400, "99", None])
def test_a_page_that_is_none_is_one_that_is(wanted: str | None) -> None:
    writer = shown.Writer(told(*[user(f"m{at}") for at in range(250)]))
    number, pages, found = writer.page(wanted or "0")
    assert 1 <= number <= pages
    assert found


def test_a_page_of_long_parts_is_cut_shorter_and_shorter() -> None:
    found = told(*[user("x" * 20_000) for _ in range(shown.PARTS)])
    written = shown.Writer(found).within_budget(found.parts[3:])
    lengths = [len(one["text"]) for one in written]
    assert set(lengths) == {shown.CUT, shown.SHORT}
    assert sum(lengths) < shown.FULL + shown.CUT + shown.PARTS * shown.SHORT
    assert lengths == sorted(lengths, reverse=True)
    assert all(one["more"] for one in written)


@pytest.mark.parametrize(("length", "more"), [(shown.CUT - 1, False), (shown.CUT, False), (shown.CUT + 1, True)])
def test_only_what_is_longer_has_more(length: int, more: bool) -> None:
    found = told(user("x" * length))
    part = shown.Writer(found).part(found.parts[-1], shown.CUT)
    assert part["more"] == more
    assert len(part["text"]) == min(length, shown.CUT)


def test_what_is_new_is_marked() -> None:
    after = told(*coding())
    context = shown.conversation(after, since(parts(*coding()[:3]), after), "")
    assert [one["new"] for one in context["parts"]] == [False] * 5 + [True] * 6
    assert context["since"]["id"] == "cp_before"
    assert [(area["name"], area["same"], area["count"], area["grew"]) for area in context["since"]["areas"]] == [
        ("tools", 2, 0, True),
        ("system", 1, 0, True),
        ("messages", 5, 6, True),
    ]


def test_without_a_turn_before_nothing_is_new() -> None:
    context = shown.conversation(told(*coding()), None, "")
    assert context["since"] is None
    assert not any(one["new"] for one in context["parts"])


def test_the_changes_of_an_area_are_counted_beyond_those_that_are_listed() -> None:
    after = told(user("go"), *[user(f"new {at}") for at in range(200)])
    [area] = [one for one in shown.conversation(after, since(parts(user("go")), after), "")["since"]["areas"] if one["count"]]
    assert area["count"] == 200
    assert len(area["changes"]) == shown.MAX_CHANGES


def test_the_bars_fill_their_line_without_a_gap() -> None:
    shares = told(*coding()).shares.by_kind()
    bars = shown.bars(shares)
    assert len(bars) == len(shares)
    assert sum(width for _, _, width in bars) == pytest.approx(1000, abs=0.1)
    for (_, start, width), (_, following, _) in itertools.pairwise(bars):
        assert start + width == pytest.approx(following, abs=0.1)


def test_an_empty_conversation_has_a_page() -> None:
    context = shown.conversation(told(system=[], tools=[], prompt=None), None, "")
    assert (context["parts"], context["shares"], context["bars"], context["pages"]) == ([], [], [], 1)
    assert context["answered"] is False


def test_messages_are_counted_without_the_answer() -> None:
    answer = {"role": "assistant", "content": [{"type": "text", "text": "done"}]}
    context = shown.conversation(told(*coding(), answer=answer), None, "")
    assert context["messages"] == len(coding())
    assert context["answered"] is True


def test_a_search_gives_places_with_their_pages() -> None:
    found = told(*[user(f"m{at} needle" if at in (3, 240) else f"m{at}") for at in range(250)])
    context = shown.hits(found, search(found.parts, "needle", clean))
    assert [(hit["part"]["page"], hit["found"]) for hit in context["hits"]] == [(0, "needle"), (2, "needle")]
    assert context["hit_count"] == 2


@pytest.mark.parametrize("where", ["text", "thinking", "call", "result", "system", "tool"])
@pytest.mark.parametrize("most", [shown.PREVIEW, shown.SHORT, shown.CUT, shown.WHOLE])
def test_a_credential_is_shown_nowhere(where: str, most: int) -> None:
    text = f"key {SECRET} " * 1500
    message = {
        "text": user(text),
        "thinking": assistant(thinking(text)),
        "call": assistant(call("t", command=text)),
        "result": user(result("t", text)),
    }.get(where, user("x"))
    more: Json = {"system": [{"type": "text", "text": text}]} if where == "system" else {}
    more |= {"tools": [tool("Bash", text)]} if where == "tool" else {}
    found = told(message, **more)
    for part in found.parts:
        written = shown.Writer(found).part(part, most)
        assert "Zq7xZq7x" not in written["text"] + written["preview"]
    hits, count = search(found.parts, "key", clean)
    assert count >= 1
    assert "Zq7xZq7x" not in "".join(hit.before + hit.found + hit.after for hit in hits)


@pytest.mark.parametrize("wanted", ["Zq7xZq7x", SECRET, SECRET[3:20]])
def test_a_search_for_a_credential_shows_none(wanted: str) -> None:
    hits, _ = search(parts(user(f"key {SECRET} end")), wanted, clean)
    assert [(hit.before, hit.found, hit.after) for hit in hits] == [("", "", "")]


@pytest.mark.parametrize("at", range(shown.SHORT - len(SECRET) - 2, shown.SHORT + 3, 3))
def test_a_credential_at_the_edge_of_a_cut_is_not_shown_in_part(at: int) -> None:
    text = cut("x " * (at // 2) + SECRET + " end", shown.SHORT)
    assert "sk-" not in text
    assert "Zq7x" not in text


@pytest.mark.parametrize(
    ("text", "seen"), [("\x1b[31m", "\\x1b[31m"), ("a\u202eb", "a\\u202eb"), ("a\n\tb", "a\n\tb"), ("한국어 🎉", "한국어 🎉")]
)
def test_what_cannot_be_seen_is_written_out(text: str, seen: str) -> None:
    assert clean(text) == seen
    assert cut(text, 100) == seen
