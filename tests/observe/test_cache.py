"""Cache verdicts on sessions through the real proxy, and what they may cost."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import CacheVerdict, Exchange, Kind, Usage
from claude_proxy.observe.cache import IN_THREAD, MAX_WAITING, MIN_BODY, CacheObserver
from claude_proxy.simulator import Scenario, error
from tests.ledger.books import names, rows
from tests.ledger.places import Place
from tests.observe.conversation import FILL, conversation, eventually, first_turn, grown
from tests.protocol.prompts import Json, encode, marked, text, tool, turn, unmarked


async def test_a_session_that_only_grows() -> None:
    async with conversation() as session:
        body = first_turn()
        verdicts = [await session.verdict(body, write=9000)]
        for number in range(3):
            body = turn(body, number)
            verdicts.append(await session.verdict(body, read=9000 + number * 100, write=100))
    assert verdicts == ["first", "grew", "grew", "grew"]


async def test_nothing_changed() -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        assert await session.verdict(first_turn(), read=9000) == "grew"


async def test_a_marker_that_moved_is_no_change() -> None:
    async with conversation() as session:
        body = grown(first_turn(), 2)
        await session.send(body, write=9000)
        moved = unmarked(body)
        moved["system"][0]["cache_control"] = {"type": "ephemeral"}
        assert await session.verdict(moved, read=9000) == "grew"


def add_tool(body: Json) -> None:
    body["tools"].insert(1, tool("Glob"))


def drop_tool(body: Json) -> None:
    del body["tools"][2]


def edit_tool(body: Json) -> None:
    body["tools"][1]["description"] += "!"


def edit_system(body: Json) -> None:
    body["system"][1]["text"] += "!"


def edit_first_message(body: Json) -> None:
    body["messages"][0]["content"][2]["text"] += "!"


def edit_middle(body: Json) -> None:
    body["messages"][3]["content"][0]["content"] = "another file's text"


def drop_middle(body: Json) -> None:
    del body["messages"][2:4]


EDITS = {
    "a tool added": (add_tool, "changed at block 1 (tools)"),
    "a tool gone": (drop_tool, "changed at block 2 (tools)"),
    "a tool edited": (edit_tool, "changed at block 1 (tools)"),
    "system edited": (edit_system, "changed at block 4 (system)"),
    "the first message edited": (edit_first_message, "changed at block 8 (message 0)"),
    "a message in the middle edited": (edit_middle, "changed at block 12 (message 3)"),
    "messages in the middle gone": (drop_middle, "changed at block 11 (message 2)"),
}


@pytest.mark.parametrize("what", EDITS)
async def test_the_block_that_changed_is_named(what: str) -> None:
    edit, expected = EDITS[what]
    async with conversation() as session:
        body = grown(first_turn(), 3)
        await session.send(body, write=9000)
        changed = copy.deepcopy(body)
        edit(changed)
        exchange = await session.send(marked(turn(changed, 9)), write=9000)
    assert str(exchange.cache) == expected
    assert exchange.cache is not None
    assert 0 < exchange.cache.lost <= 9000


async def test_another_model_has_another_cache() -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        assert await session.verdict(first_turn(model="claude-sonnet-5-5"), write=9000) == "changed: model, lost 9000"


async def test_settings_that_messages_are_cached_under() -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        changed = first_turn(thinking={"type": "disabled"})
        assert await session.verdict(changed, read=3000, write=6000) == "changed: settings, lost 6000"


@pytest.mark.parametrize(("after", "expected"), [(299, "provider, lost 9000"), (301, "expired, lost 9000")])
async def test_a_time_to_live_that_is_over_is_nobodys_fault(after: float, expected: str) -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        assert await session.verdict(turn(first_turn(), 1), write=9000, rest=600, after=after) == expected


async def test_an_hour_is_an_hour() -> None:
    async with conversation() as session:
        body = marked(first_turn(), {"type": "ephemeral", "ttl": "1h"})
        await session.send(body, write=9000)
        assert await session.verdict(body, write=9000, after=3500) == "provider, lost 9000"
        assert await session.verdict(body, write=9000, after=3700) == "expired, lost 9000"


async def test_a_miss_with_an_intact_prefix_is_the_providers() -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        assert await session.verdict(turn(first_turn(), 1), write=9500) == "provider, lost 9000"


async def test_agents_and_sessions_are_conversations_of_their_own() -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        session.headers |= {"x-claude-code-agent-id": "a1"}
        assert await session.verdict(first_turn(), write=9000) == "first"
        session.headers |= {"x-claude-code-session-id": "session-2"}
        assert await session.verdict(first_turn(), write=9000) == "first"
        session.headers.pop("x-claude-code-agent-id")
        session.headers["x-claude-code-session-id"] = "session-1"
        assert await session.verdict(first_turn(), read=9000) == "grew"


async def test_a_side_call_under_the_sessions_id_is_left_out() -> None:
    async with conversation() as session:
        session.headers["x-claude-code-request-class"] = "auxiliary"
        assert await session.verdict(first_turn(), write=9000) == "none"
        session.headers.pop("x-claude-code-request-class")
        assert await session.verdict(first_turn(), write=9000) == "first"


async def test_without_a_session_a_credential_and_its_first_message_tell_the_conversation() -> None:
    async with conversation() as session:
        del session.headers["x-claude-code-session-id"]
        one, other = first_turn(), first_turn()
        other["messages"][0]["content"][0]["text"] = "another question"
        assert await session.verdict(one, write=9000) == "first"
        assert await session.verdict(other, write=9000) == "first"
        assert await session.verdict(turn(one, 1), read=9000) == "grew"
        edit_system(other)
        assert (await session.verdict(other, write=9000)).startswith("changed at block 4 (system)")
        session.headers["x-api-key"] = "anothers"
        theirs = turn(one, 2)
        assert await session.verdict(theirs, write=9000) == "first"
        session.headers["authorization"] = f"Bearer {session.headers.pop('x-api-key')}"
        assert await session.verdict(turn(theirs, 3), read=9000) == "grew"


@pytest.mark.parametrize("failing", [error(529), error(400)], ids=["529", "400"])
async def test_only_what_the_upstream_took_is_remembered(failing: Scenario) -> None:
    async with conversation() as session:
        await session.send(first_turn(), write=9000)
        broken = first_turn()
        edit_system(broken)
        assert await session.verdict(broken, scenario=failing) == "none"
        assert await session.verdict(turn(first_turn(), 1), read=9000) == "grew"


@pytest.mark.parametrize("size", [IN_THREAD - 50_000, IN_THREAD + 50_000, 900_000])
async def test_a_large_body_has_a_verdict_too(size: int) -> None:
    async with conversation() as session:
        body = first_turn()
        body["messages"][0]["content"][0] = text("x" * size)
        slow = {"scenario": Scenario("text", text="ok", delay=0.5)} if size > IN_THREAD else {}
        assert await session.verdict(body, write=9000, **slow) == "first"
        assert await session.verdict(turn(body, 1), read=9000, **slow) == "grew"


async def test_an_answer_that_is_quicker_than_the_thread_only_costs_its_own_verdict() -> None:
    observer, exchange = CacheObserver(), ended(session="s")
    tap = observer.tap(exchange)
    assert tap is not None
    body = first_turn()
    body["messages"][0]["content"][0] = text("x" * 500_000)
    tap.on_request([], encode(body), whole=True)
    assert observer.waiting > 0
    tap.on_end(exchange)
    assert exchange.cache is None
    await eventually(lambda: observer.waiting == 0)
    assert len(observer.watch) == 1


async def test_bodies_do_not_pile_up_before_the_thread() -> None:
    observer = CacheObserver()
    body = encode(first_turn()) + b" " * 3_000_000
    for _ in range(20):
        tap = observer.tap(ended(session="s"))
        assert tap is not None
        tap.on_request([], body, whole=True)
        assert observer.waiting <= MAX_WAITING
    await eventually(lambda: observer.waiting == 0)


async def test_a_body_over_4_mib_is_not_cut() -> None:
    observer = CacheObserver()
    tap = observer.tap(ended(session="s"))
    assert tap is not None
    tap.on_request([], encode(first_turn()) + b" " * 4 * 1024 * 1024, whole=True)
    assert observer.waiting == 0


async def test_another_upstream_has_another_cache() -> None:
    observer, said = CacheObserver(), []
    for upstream in ("one", "two", "one"):
        exchange = ended(session="s", upstream=upstream)
        tap = observer.tap(exchange)
        assert tap is not None
        tap.on_request([], encode(first_turn()), whole=True)
        tap.on_end(exchange)
        said.append(str(exchange.cache))
    assert said == ["first", "first", "grew"]


async def test_a_second_attempt_is_compared_with_what_its_own_upstream_was_sent() -> None:
    observer = CacheObserver()
    earlier = ended(session="s", upstream="two")
    for exchange in (earlier, later := ended(session="s", upstream="one")):
        tap = observer.tap(exchange)
        assert tap is not None
        tap.on_request([], encode(first_turn()), whole=True)
        if exchange is earlier:
            tap.on_end(exchange)
    later.upstream = "two"
    tap.on_request([], encode(first_turn()), whole=True)
    tap.on_end(later)
    assert [str(one.cache) for one in (earlier, later)] == ["first", "grew"]


def ended(**values: Any) -> Exchange:
    """An exchange that an upstream answered, all of whose prompt is in its cache now."""
    usage = Usage(input=1, output=1, cache_read=5000, cache_write=1000)
    fields = {"kind": Kind.MESSAGES, "bytes_in": 9000, "status": 200, "usage": usage, **values}
    return Exchange("x", "POST", "/v1/messages", "c", 0.0, 0.0, **fields)


NO_REQUESTS = {
    "nothing": b"",
    "half an object": encode(first_turn())[:-9],
    "another object": b'{"messages": 5, "x": "' + b"y" * 5000 + b'"}',
    "words": b"no json at all " * 400,
    "depth": b"[" * 10_000,
    "bytes": bytes(range(256)) * 30,
}


@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS)
async def test_what_is_no_request_has_no_verdict(body: bytes) -> None:
    async with conversation() as session:
        exchange = await session.raw(body)
    assert exchange.cache is None
    assert session.proxy.app.state.listeners.errors == 0


async def test_a_prompt_too_short_to_be_cached_is_not_cut() -> None:
    async with conversation() as session:
        short = first_turn()
        short["system"][2]["text"] = ""
        assert len(encode(short)) < MIN_BODY
        assert await session.verdict(short, write=9000) == "none"


async def test_the_verdict_and_what_it_cost_are_in_the_books(tmp_path: Path) -> None:
    async with conversation(observing=False, ledger="on", data_dir=tmp_path) as session:
        await session.send(first_turn(), write=9000)
        changed = first_turn()
        add_tool(changed)
        exchange = await session.send(changed, write=9000)
        assert exchange.cache is not None
        lost = exchange.cache.lost
        assert exchange.cache == CacheVerdict("changed", "tools", 1, None, lost)
        writer = session.proxy.app.state.ledger.writer
        await eventually(lambda: writer.written == 2)
        engine = Place(tmp_path).engine()
        with engine.connect() as connection:
            texts = names(connection)
            first, second = rows(connection)
    assert texts[first["verdict"]] == "first"
    assert (texts[second["verdict"]], texts[second["verdict_area"]], second["verdict_block"]) == ("changed", "tools", 1)
    assert second["verdict_lost"] == lost > 0


async def test_without_a_ledger_nothing_is_cut() -> None:
    async with conversation(observing=False) as session:
        assert await session.verdict(first_turn(), write=9000) == "none"


async def test_the_observer_does_not_make_the_relay_look_at_each_chunk() -> None:
    observer = CacheObserver()
    tap = observer.tap(ended())
    assert tap is not None
    assert not tap.wants_data


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.MESSAGES}))
def test_other_calls_have_no_tap(kind: Kind) -> None:
    assert CacheObserver().tap(ended(kind=kind)) is None


def test_a_prompt_too_short_to_be_cached_has_no_tap() -> None:
    assert CacheObserver().tap(ended(bytes_in=MIN_BODY - 1)) is None
    assert CacheObserver().tap(ended(bytes_in=MIN_BODY)) is not None


def test_a_body_of_200_kb_costs_less_than_its_budget() -> None:
    """1.5 ms of CPU (docs/design.md); the best of some, because the machine does other things too."""
    observer, body = CacheObserver(), grown(first_turn(), 60)
    body["messages"] += [{"role": "user", "content": [text(FILL[:1200]) for _ in range(140)]}]
    data = encode(body)
    assert 190_000 < len(data) < 230_000
    best = 1.0
    for _ in range(15):
        exchange = ended(session="s")
        tap = observer.tap(exchange)
        assert tap is not None
        start = time.process_time()
        tap.on_request([], data, whole=True)
        tap.on_end(exchange)
        best = min(best, time.process_time() - start)
    assert str(exchange.cache) == "grew"
    assert best < 0.006, "four times the budget, for slow machines and coverage"
