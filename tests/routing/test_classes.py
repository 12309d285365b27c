"""In which class a request queues, and how long it may wait."""

from __future__ import annotations

import json

import pytest

from claude_proxy.protocol.shape import Shape, read_shape
from claude_proxy.routing.classes import Urgency, classify, patience

SESSION = {b"x-claude-code-session-id": b"s"}
TOOLS = [{"name": f"tool {number}"} for number in range(12)]
SYSTEM = [{"type": "text", "text": "cc_version=2.1.332.abc; cc_entrypoint=cli;"}, {"type": "text", "text": "You are"}]
SUBAGENT = [{"type": "text", "text": "cc_version=2.1.332.abc; cc_entrypoint=cli; cc_is_subagent=true;"}]


def never() -> Shape:
    raise AssertionError("the body was read although the headers say enough")


@pytest.mark.parametrize(
    ("hint", "first_party", "expected"),
    [
        (b"main", b"main", Urgency.MAIN),
        (b"main", None, Urgency.MAIN),
        (b"main", b"background-task", Urgency.BACKGROUND),
        (b"subagent", b"blocking-subagent", Urgency.SUBAGENT),
        (b"workflow", b"background-task", Urgency.WORKFLOW),
        (b"compaction", b"main", Urgency.BLOCKING),
        (b"auxiliary", b"main", Urgency.BLOCKING),
        (b"auxiliary", b"summary-extraction", Urgency.BACKGROUND),
        (b"auxiliary", b"followup-generation", Urgency.BACKGROUND),
        (b"auxiliary", None, Urgency.BACKGROUND),
        (b"side_reply", None, Urgency.MAIN),
    ],
)
def test_hints_decide(hint: bytes, first_party: bytes | None, expected: Urgency) -> None:
    fields = {**SESSION, b"x-claude-code-request-class": hint}
    if first_party is not None:
        fields[b"x-claude-1p-request-class"] = first_party
    assert classify(fields, never) is expected


def test_a_background_session_waits_behind_everybody() -> None:
    fields = {**SESSION, b"x-app": b"cli-bg", b"x-claude-code-request-class": b"main"}
    assert classify(fields, never) is Urgency.BACKGROUND


def test_an_agent_id_makes_a_subagent() -> None:
    assert classify({**SESSION, b"x-claude-code-agent-id": b"a"}, never) is Urgency.SUBAGENT


def test_another_client_is_a_main_agent() -> None:
    assert classify({}, never) is Urgency.MAIN


def test_an_unknown_hint_leaves_it_to_the_body() -> None:
    fields = {**SESSION, b"x-claude-code-request-class": b"tomorrows"}
    assert classify(fields, lambda: Shape(stream=True, subagent=True)) is Urgency.SUBAGENT


@pytest.mark.parametrize(
    ("body", "timeout", "expected"),
    [
        ({"stream": True, "tools": TOOLS, "system": SYSTEM}, b"600", Urgency.MAIN),
        ({"stream": True, "tools": TOOLS, "system": SUBAGENT}, b"600", Urgency.SUBAGENT),
        ({"tools": TOOLS, "system": SYSTEM, "max_tokens": 64000}, b"300", Urgency.MAIN),  # the unstreamed fallback
        ({"max_tokens": 2112, "system": SYSTEM}, b"60", Urgency.BLOCKING),  # the check of a tool call
        ({"stream": True, "output_config": {"format": {"type": "json_schema"}}}, b"600", Urgency.BACKGROUND),  # a title
        ({"stream": True, "output_config": {"effort": "high"}, "tools": TOOLS}, b"600", Urgency.MAIN),
        ({"stream": True, "tools": TOOLS[:1]}, b"600", Urgency.BLOCKING),  # web search
        ({"stream": True}, b"600", Urgency.BLOCKING),  # web fetch, prompt hook
        ({"stream": True, "tools": TOOLS, "system": "cc_is_subagent=true said the user"}, b"600", Urgency.MAIN),
        ({"stream": True, "tools": TOOLS, "system": [], "output_config": None}, b"", Urgency.MAIN),
    ],
)
def test_without_hints_the_body_decides(body: dict[str, object], timeout: bytes, expected: Urgency) -> None:
    fields = {**SESSION, b"x-stainless-timeout": timeout}
    raw = json.dumps({"model": "m", "messages": [{"role": "user", "content": "cc_is_subagent=true"}], **body}).encode()
    assert classify(fields, lambda: read_shape(raw)) is expected


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tools": 3}', b"\xff", b"[" * 100_000, b'{"system": {"a": 1}}'])
def test_a_body_that_cannot_be_read_is_a_main_agents(body: bytes) -> None:
    assert read_shape(body) is None
    assert classify(SESSION, lambda: read_shape(body)) is Urgency.MAIN


@pytest.mark.parametrize(
    ("stated", "bound", "seconds"),
    [
        (b"600", None, 288.0),
        (b"60", None, 48.0),
        (b"300", None, 240.0),
        (b"3000", None, 288.0),
        (None, None, 288.0),
        (b"", None, 288.0),
        (b"-1", None, 288.0),
        (b"nan", None, 288.0),
        (b"inf", None, 288.0),
        (b"soon", None, 288.0),
        (b"600", 30.0, 30.0),
        (b"60", 900.0, 900.0),
        (None, 0.0, 0.0),
    ],
)
def test_it_waits_for_four_fifths_of_the_clients_deadline(stated: bytes | None, bound: float | None, seconds: float) -> None:
    fields = {} if stated is None else {b"x-stainless-timeout": stated}
    assert patience(fields, bound) == seconds
