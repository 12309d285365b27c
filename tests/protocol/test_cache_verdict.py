"""The verdict on each turn of scripted sessions: which block broke the prompt's cache, and who is to blame."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.exchange import CacheVerdict, Usage
from claude_proxy.protocol.blocks import HASH, cut
from claude_proxy.protocol.cache_verdict import CacheWatch, common
from tests.protocol.prompts import Json, encode, marked, request, text, tool, turn, unmarked

MAIN = ("session", None)
GREW = CacheVerdict("grew")
FIRST = CacheVerdict("first")


class Session:
    """A client and a provider with a cache: each request reads what the provider is told to have, and writes the rest.

    A thousand tokens a block keep sums readable.
    """

    def __init__(self) -> None:
        self.watch = CacheWatch()
        self.now = 1000.0

    def send(self, body: Json, *, read: int = 0, write: int = 0, rest: int = 0, after: float = 10, key: Any = MAIN) -> str:
        """Send a request `after` seconds; counts in thousands of tokens. The verdict in words, with what was lost."""
        verdict = self.verdict(body, Usage(rest * 1000, 50, read * 1000, write * 1000), after=after, key=key)
        assert verdict is not None
        return f"{verdict}, lost {verdict.lost // 1000}k" if verdict.lost else str(verdict)

    def verdict(self, body: Json, usage: Usage | None, *, after: float = 10, key: Any = MAIN) -> CacheVerdict | None:
        self.now += after
        prompt = cut(encode(body))
        assert prompt is not None
        return self.watch.settle(self.watch.compare(key, prompt, self.now), usage)


def edited(body: Json, edit: Callable[[Json], Any]) -> Json:
    body = copy.deepcopy(body)
    edit(body)
    return marked(body)


def test_a_session_that_only_grows() -> None:
    session, body = Session(), request()
    verdicts = [session.send(body, write=10)]
    for number in range(1, 6):
        body = turn(body, number)
        verdicts.append(session.send(body, read=8 + 2 * number, write=2))
    assert verdicts == ["first", *["grew"] * 5]


def test_the_same_request_again_grew_by_nothing() -> None:
    session = Session()
    session.send(request(), write=10)
    assert session.send(request(), read=10) == "grew"
    assert session.send(unmarked(request()), read=10) == "grew"


ONE, TWO = request(), turn(request(), 1)
EDITS: dict[str, tuple[Callable[[Json], Any], str]] = {
    "tool added at the end": (lambda b: b["tools"].append(tool("New")), "changed at block 3 (tools)"),
    "tool added in front": (lambda b: b["tools"].insert(0, tool("New")), "changed at block 0 (tools)"),
    "tool removed at the end": (lambda b: b["tools"].pop(), "changed at block 2 (tools)"),
    "first tool removed": (lambda b: b["tools"].pop(0), "changed at block 0 (tools)"),
    "all tools removed": (lambda b: b.update(tools=[]), "changed at block 0 (tools)"),
    "tools reordered": (lambda b: b["tools"].reverse(), "changed at block 0 (tools)"),
    "tool described anew": (lambda b: b["tools"][1].update(description="new"), "changed at block 1 (tools)"),
    "system edited": (lambda b: b["system"][1].update(text="new"), "changed at block 4 (system)"),
    "system block added": (lambda b: b["system"].append(text("new")), "changed at block 6 (system)"),
    "system block removed": (lambda b: b["system"].pop(), "changed at block 5 (system)"),
    "first message edited": (lambda b: b["messages"][0]["content"][1].update(text="new"), "changed at block 7 (message 0)"),
    "message in the middle edited": (
        lambda b: b["messages"][1]["content"][0].update(text="new"),
        "changed at block 9 (message 1)",
    ),
    "thinking taken out": (lambda b: b["messages"][2]["content"].pop(0), "changed at block 10 (message 2)"),
    "last tool result cleared": (lambda b: b["messages"][3]["content"][0].update(content="-"), "changed at block 12 (message 3)"),
    "first message dropped": (lambda b: b["messages"].pop(0), "changed at block 6 (message 0)"),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("grown", [False, True])
def test_a_change_is_named_with_its_block(name: str, grown: bool) -> None:
    edit, said = EDITS[name]
    session = Session()
    session.send(ONE, write=10)
    session.send(TWO, read=10, write=3)
    after = turn(TWO, 2) if grown else TWO
    verdict = session.verdict(edited(after, edit), Usage(0, 1, 0, 15_000))
    assert str(verdict) == said
    assert verdict is not None
    assert 4_000 <= verdict.lost <= 13_000


def test_after_a_change_the_changed_prompt_is_what_is_compared_with() -> None:
    session = Session()
    session.send(ONE, write=10)
    other = edited(TWO, lambda b: b["tools"].append(tool("New")))
    assert session.send(other, write=14).startswith("changed at block 3 (tools), lost")
    assert session.send(turn(other, 2), read=14, write=2) == "grew"


def test_what_is_lost_is_what_was_cached_and_is_still_in_the_prompt() -> None:
    """Long blocks weigh more; what the edit brought is no loss, and what was read neither."""
    long, short = text("x" * 90_000), text("y" * 10_000)
    session = Session()
    session.send(request(system=[long], messages=[{"role": "user", "content": [short]}], tools=[]), write=100)
    found = session.verdict(
        request(system=[long], messages=[{"role": "user", "content": [text("z"), short]}], tools=[]), Usage(0, 1, 60_000, 40_000)
    )
    assert found is not None
    assert (found.area, found.message) == ("message", 0)
    assert found.lost == pytest.approx(40_000, rel=0.01)


def test_a_change_that_cost_nothing_is_said_without_a_loss() -> None:
    session = Session()
    session.send(ONE, write=10)
    assert session.send(edited(ONE, lambda b: b["tools"].append(tool("New"))), read=10) == "changed at block 3 (tools)"


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3600), (None, 300)])
def test_a_prompt_older_than_its_markers_ask_for_has_expired(ttl: str | None, seconds: float) -> None:
    mark = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
    for pause, said in ((seconds, "provider, lost 10k"), (seconds + 1, "expired, lost 10k")):
        session = Session()
        session.send(marked(ONE, mark), write=10)
        assert session.send(marked(TWO, mark), write=12, after=pause) == said


def test_each_use_keeps_the_prompt_alive() -> None:
    session = Session()
    session.send(ONE, write=10)
    for _ in range(3):
        assert session.send(ONE, read=10, after=200) == "grew"
    assert session.send(ONE, write=10, after=301) == "expired, lost 10k"


def test_a_provider_that_keeps_a_prompt_for_longer_makes_it_grow() -> None:
    session = Session()
    session.send(ONE, write=10)
    assert session.send(TWO, read=10, write=2, after=4000) == "grew"


def test_a_change_after_the_time_to_live_is_nobodys_fault() -> None:
    session = Session()
    session.send(ONE, write=10)
    assert session.send(edited(TWO, lambda b: b["tools"].pop()), write=12, after=301) == "expired, lost 10k"


@pytest.mark.parametrize(("read", "said"), [(0, "provider, lost 20k"), (9, "provider, lost 11k"), (10, "grew"), (20, "grew")])
def test_an_intact_prompt_that_was_hardly_read_is_the_providers_miss(read: int, said: str) -> None:
    session = Session()
    session.send(ONE, write=20)
    assert session.send(TWO, read=read, write=30 - read) == said


def test_a_long_addition_is_no_miss() -> None:
    """What can be read is what was sent before, not this prompt's size."""
    session = Session()
    session.send(ONE, write=20)
    assert session.send(TWO, read=20, write=300) == "grew"


def test_a_short_prompt_after_a_long_one_is_measured_by_its_own_size() -> None:
    """A rewind: what is sent now is the beginning of what was sent before."""
    session = Session()
    session.send(TWO, write=120)
    assert session.send(ONE, read=18, write=2) == "grew"
    assert session.send(ONE, read=2, write=18) == "provider, lost 18k"


def test_an_upstream_that_never_caches_is_not_blamed() -> None:
    session = Session()
    assert [session.send(body, rest=30) for body in (ONE, TWO, turn(TWO, 2))] == ["first", "grew", "grew"]


def test_a_provider_that_reports_reads_but_no_writes() -> None:
    """z.ai caches by itself: after a miss, the whole prompt is on offer again."""
    session, bodies = Session(), [ONE]
    for number in range(1, 5):
        bodies.append(turn(bodies[-1], number))
    counts = [{"rest": 30}, {"read": 29, "rest": 2}, {"rest": 33}, {"rest": 34}, {"read": 33, "rest": 2}]
    verdicts = [session.send(body, **count) for body, count in zip(bodies, counts, strict=True)]
    assert verdicts == ["first", "grew", "provider, lost 29k", "provider, lost 33k", "grew"]


def test_a_prompt_that_nobody_asked_to_be_cached_is_not_missed() -> None:
    session = Session()
    session.send(ONE, write=10)
    session.send(unmarked(TWO), read=10, rest=2)
    session.send(unmarked(turn(TWO, 2)), rest=14, after=20)
    assert session.send(unmarked(turn(turn(TWO, 2), 3)), rest=16) == "grew"


def test_without_counts_an_old_prompt_has_expired_and_a_change_is_named() -> None:
    session = Session()
    session.send(ONE)
    assert session.send(TWO, after=301) == "expired"
    assert session.send(edited(TWO, lambda b: b["system"].pop())) == "changed at block 5 (system)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "claude-haiku-5-5"}, "changed: model, lost 10k"),
        ({"thinking": {"type": "disabled"}}, "changed: settings, lost 10k"),
        ({"tool_choice": {"type": "any"}}, "changed: settings, lost 10k"),
        ({"max_tokens": 1, "temperature": 0.5}, "provider, lost 10k"),
    ],
)
def test_what_providers_cache_apart_is_named_when_the_cache_was_missed(change: Json, said: str) -> None:
    """`/model` leaves every block as it was. An upstream that maps both names to one model still has them."""
    for read, expected in ((0, said), (10, "grew")):
        session = Session()
        session.send(ONE, write=10)
        assert session.send({**TWO, **change}, read=read, write=12 - read) == expected


def test_a_model_that_needs_other_messages_is_the_cause_of_a_miss() -> None:
    """Claude Code writes its own messages differently for older models; their cache was apart anyway."""
    other = edited(TWO, lambda b: b.update(model="claude-haiku-4-5", messages=b["messages"][1:]))
    for read, said in ((0, "changed: model, lost 6k"), (9, "changed at block 6 (message 0)")):
        session = Session()
        session.send(ONE, write=10)
        assert session.send(other, read=read, write=10 - read) == said


def test_compaction_is_a_change_of_the_first_message_without_a_loss() -> None:
    """The history is a new, short one: that it is not read is the point of it."""
    session, body = Session(), request()
    session.send(body, write=10)
    for number in range(1, 20):
        body = turn(body, number)
        session.send(body, read=8 + 2 * number, write=2)
    asked = marked({**body, "messages": [*body["messages"], {"role": "user", "content": "summarise"}]})
    assert session.send(asked, read=48, write=1) == "grew"
    summary = request(messages=[{"role": "user", "content": [text("a summary of it all " * 50), text("go on")]}])
    assert session.send(summary, read=8, write=3) == "changed at block 6 (message 0)"
    assert session.send(turn(summary, 1), read=11, write=2) == "grew"


def test_subagents_side_by_side_are_conversations_of_their_own() -> None:
    session = Session()
    main, first, second = ONE, request(system=[text("agent")]), request(system=[text("agent")], tools=[tool("Read")])
    bodies = {MAIN: main, ("session", "a"): first, ("session", "b"): second}
    said = []
    for number in range(3):
        for key, body in bodies.items():
            said.append(session.send(body, read=10 if number else 0, write=0 if number else 10, key=key))
            bodies[key] = turn(body, number)
    assert said == ["first"] * 3 + ["grew"] * 6


def test_sessions_do_not_know_of_each_other() -> None:
    session = Session()
    session.send(ONE, write=10, key=("one", None))
    assert session.send(ONE, write=10, key=("other", None)) == "first"


def test_side_calls_of_a_session_do_not_disturb_its_main_line() -> None:
    """Claude Code's titles: under the session's id, with the main line's identity, and an attribution of their own each time."""
    session, body = Session(), request()
    session.send(body, write=10)
    for number in range(1, 5):
        system = [text(f"attribution {number}"), text("identity"), text("name this session")]
        title = marked(
            {"model": "m", "system": system, "messages": [{"role": "user", "content": f"<session>{number}</session>"}]}
        )
        assert session.send(title, rest=1) == "first"
        body = turn(body, number)
        assert session.send(body, read=8 + 2 * number, write=2) == "grew"


def test_a_long_addition_to_a_prompt_that_was_forked_is_no_new_one() -> None:
    session = Session()
    session.send(ONE, write=10)
    session.send({**ONE, "messages": [*ONE["messages"], {"role": "user", "content": "suggest"}]}, read=10, write=1)
    much = [{"role": "user", "content": [text(f"file {number}") for number in range(100)]}]
    assert session.send(marked({**ONE, "messages": [*ONE["messages"], *much]}), read=10, write=90) == "grew"


USER, OTHER = {"role": "user", "content": "hello"}, {"role": "user", "content": "another"}
REPLY = [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "go on"}]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"system": "a", "messages": [USER]}, {"system": "a", "messages": [USER, *REPLY]}, "grew"),
        ({"system": "a", "messages": [USER]}, {"system": "b", "messages": [USER, *REPLY]}, "changed at block 0 (system)"),
        ({"system": "a", "messages": [USER]}, {"system": "b", "messages": [USER]}, "changed at block 0 (system)"),
        ({"system": "a", "messages": [USER]}, {"system": "a", "messages": [OTHER]}, "changed at block 1 (message 0)"),
        ({"system": "a", "messages": [USER, *REPLY]}, {"system": "a", "messages": [OTHER]}, "changed at block 1 (message 0)"),
        ({"messages": [USER]}, {"messages": [USER, *REPLY]}, "grew"),
        ({"messages": [USER, *REPLY]}, {"messages": [OTHER, *REPLY]}, "changed at block 0 (message 0)"),
        ({"messages": [USER]}, {"messages": [OTHER]}, "first"),
        ({"system": "a", "messages": [USER]}, {"system": "b", "messages": [OTHER]}, "first"),
        ({"tools": [tool("A")], "messages": [USER]}, {"messages": [USER]}, "changed at block 0 (tools)"),
        ({"messages": [USER]}, {"tools": [tool("A")], "messages": [USER]}, "changed at block 0 (tools)"),
        ({"messages": []}, {"messages": [USER]}, "first"),
    ],
)
def test_short_prompts_are_told_apart_too(before: Json, after: Json, said: str) -> None:
    session = Session()
    assert session.send(before) == "first"
    assert session.send(after) == said


def test_a_fork_does_not_disturb_the_main_line() -> None:
    """A suggestion or a summary is asked for on top of the main prompt; the main line then goes on without it."""
    session = Session()
    session.send(ONE, write=10)
    fork = marked({**ONE, "messages": [*ONE["messages"], {"role": "user", "content": "suggest"}]})
    assert session.send(fork, read=10, write=1) == "grew"
    assert session.send(TWO, read=10, write=2) == "grew"


def test_an_edit_is_not_taken_for_a_fork_of_an_earlier_turn() -> None:
    session = Session()
    session.send(ONE, write=10)
    session.send(TWO, read=10, write=3)
    third = edited(turn(TWO, 2), lambda b: b["messages"][2]["content"].pop(0))
    assert session.send(third, read=10, write=5).startswith("changed at block 10 (message 2)")


def test_requests_that_overlap_are_compared_with_what_was_there_when_they_were_sent() -> None:
    watch = CacheWatch()
    one, two = cut(encode(ONE)), cut(encode(TWO))
    assert one is not None
    assert two is not None
    first, second = watch.compare(MAIN, one, 0), watch.compare(MAIN, two, 1)
    assert watch.settle(second, Usage(0, 1, 0, 12_000)) == FIRST
    assert watch.settle(first, Usage(0, 1, 0, 10_000)) == FIRST
    assert watch.settle(watch.compare(MAIN, two, 2), Usage(0, 1, 12_000, 0)) == GREW


def test_what_the_upstream_refused_is_neither_judged_nor_remembered() -> None:
    session = Session()
    session.send(ONE, write=10)
    changed = edited(TWO, lambda b: b["tools"].pop())
    assert session.verdict(changed, None) is None
    assert session.send(changed, write=12).startswith("changed at block 2 (tools)")
    assert session.send(turn(changed, 2), read=12, write=1) == "grew"


def test_a_verdict_reads_as_a_sentence() -> None:
    found = [
        GREW,
        CacheVerdict("changed", "tools", 3),
        CacheVerdict("changed", "message", 14, 3),
        CacheVerdict("changed", "model"),
    ]
    assert [str(one) for one in found] == [
        "grew",
        "changed at block 3 (tools)",
        "changed at block 14 (message 3)",
        "changed: model",
    ]


def test_the_conversations_used_last_are_kept() -> None:
    session = Session()
    session.watch = CacheWatch(conversations=2)
    for key in ("a", "b", "a", "c"):
        session.send(ONE, write=10, key=key)
    assert len(session.watch) == 2
    assert [session.send(ONE, read=10, key=key) for key in ("a", "c", "b")] == ["grew", "grew", "first"]


def test_memory_is_bounded_in_bytes_whatever_clients_send() -> None:
    session, one = Session(), cut(encode(ONE))
    assert one is not None
    session.watch = CacheWatch(max_bytes=3 * one.size)
    for number in range(50):
        session.send(request(system=[text(str(number))] * 3), write=10, key=number % 7)
        assert session.watch.size <= 3 * one.size
    assert session.watch.size == 3 * one.size
    big = request(messages=[{"role": "user", "content": [text(str(n)) for n in range(100)]}])
    session.send(big, write=10, key="big")
    assert len(session.watch) == 1, "the one in use stays, however long it is"


def test_a_conversation_keeps_its_last_prompts_only() -> None:
    session, one = Session(), cut(encode(ONE))
    assert one is not None
    for number in range(40):
        session.send(request(system=[text(str(number))] * 3), write=10)
    assert session.watch.size == 6 * one.size


def test_a_prompt_that_is_sent_again_is_remembered_once() -> None:
    session, one = Session(), cut(encode(ONE))
    assert one is not None
    for _ in range(5):
        session.send(ONE, read=10)
    assert session.watch.size == one.size


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_the_common_start_is_what_a_plain_loop_finds(one: list[int], other: list[int]) -> None:
    a, b = (b"".join(bytes([n]) * HASH for n in numbers) for numbers in (one, other))
    plain = next((n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    assert common(a, b) == plain


@given(st.data())
def test_any_single_edit_is_found_at_its_block(data: st.DataObject) -> None:
    body = request()
    for number in range(data.draw(st.integers(1, 6))):
        body = turn(body, number)
    places = [("tools", n, "description") for n in range(3)] + [("system", n, "text") for n in range(3)]
    place = data.draw(st.sampled_from(places))
    session = Session()
    session.send(body, write=20)
    other = copy.deepcopy(body)
    other[place[0]][place[1]][place[2]] = "edited"
    verdict = session.verdict(turn(other, 9), Usage(0, 1, 0, 20_000))
    assert verdict is not None
    assert (verdict.kind, verdict.area, verdict.block) == ("changed", place[0], places.index(place))
