"""Content that means harm, or is just very large, is kept and read like any other."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import msgspec
import pytest

from claude_proxy.ledger.capture import cutting
from claude_proxy.ledger.capture.assembling import Answer, events
from claude_proxy.ledger.capture.cutting import cut, decode_layout
from claude_proxy.ledger.capture.images import image_type
from claude_proxy.ledger.capture.preparing import Preparer, cut_back
from claude_proxy.simulator import Simulator
from tests.integration.messages import MESSAGES
from tests.integration.wire import ask
from tests.ledger.capture.captured import capturing, only, parcel, turn

TEXTS = {
    "a script": "<script>alert(1)</script>",
    "escape sequences": "\x1b[2J\x1b]52;c;aGk=\x07\x9b31m",
    "turned text": "\u202eabc\u2066\u2028\ufeff",
    "half a pair": "\ud800",
    "NUL": "a\0b",
    "SQL": "'; DROP TABLE blob; --",
    "our own words": '"messages":[{"role":"user"}],"tools":[],"system":"x"',
}


@pytest.mark.parametrize("name", TEXTS)
async def test_hostile_text_is_read_back_as_it_was_sent(simulator: Simulator, tmp_path: Path, name: str) -> None:
    request = {"model": TEXTS[name], "messages": [turn(TEXTS[name])], "system": TEXTS[name], "tools": [{"name": TEXTS[name]}]}
    sent = json.dumps(request).encode()
    headers = [(b"x-claude-code-session-id", TEXTS[name].encode("utf-8", "replace").replace(b"\0", b""))] if name == "SQL" else []
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, headers, body=sent)
    assert only(tmp_path).request == sent


async def test_a_conversation_of_two_thousand_messages(simulator: Simulator, tmp_path: Path) -> None:
    sent = json.dumps({"model": "m", "messages": [turn(f"message {n}") for n in range(2001)]}).encode()
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=sent)
    found = only(tmp_path)
    assert found.request == sent
    assert len(found.of("message")) == 2001


async def test_a_request_beyond_what_the_path_keeps_is_kept_as_its_beginning(simulator: Simulator, tmp_path: Path) -> None:
    """An image of 20 MB in base64: the path keeps 8 MiB of a body."""
    image = base64.b64encode(random.Random(1).randbytes(15_000_000)).decode()
    content = [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": image}},
    ]
    sent = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    async with capturing(simulator.base_url, tmp_path) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=sent)  # more than the simulator takes: it says so
    found = only(tmp_path)
    assert found.note.request == "beginning"
    assert 7_000_000 < len(found.request or b"") < len(sent)
    assert sent.startswith(found.request or b"-")


def test_a_large_image_that_is_kept_whole_stays_as_it_is() -> None:
    image = base64.b64encode(random.Random(1).randbytes(15_000_000)).decode()
    message = {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": image}}]}
    transcript = Preparer()(parcel({"messages": [turn("a"), message]}))
    assert msgspec.json.decode(transcript.pieces[1].content) == message


def test_the_end_of_a_text_that_was_cut_is_left_out() -> None:
    """It may be the beginning of a credential, which would not be known as one."""
    assert cut_back(b'{"a":"one two thr') == b'{"a":"one two '
    assert cut_back(b"x" * 10_000) == b"x" * (10_000 - 4096)
    one = parcel(
        b'{"key":"my-own-cred', b'{"said":"my-own-cred', whole=False, cut=True, headers=[(b"x-api-key", b"my-own-credential")]
    )
    assert [piece.content for piece in Preparer()(one).pieces] == [b'{"key":"', b'{"said":"']


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b'{"messages":[' + b"{}," * (cutting.MAX_SLICES + 1) + b"{}]}",
        b'{"messages":[' + b'{"a":{}},' * cutting.MAX_OBJECTS + b"{}]}",
        b'{"messages":[',
        b"[]",
        b"",
        b'{"messages":[1],"tools":[1]}'[:-1],
        b'{"tools":[{}],"messages":[{"a":[{}]}]}',
    ],
    ids=["deep", "too many", "too many objects", "cut", "a list", "empty", "no end", "the same bytes"],
)
def test_what_cannot_be_cut_is_not_and_what_can_is_put_together_again(body: bytes) -> None:
    found = cut(body)
    if found is not None:
        slices, layout = found
        by_kind: dict[str, list[bytes]] = {}
        for piece in slices:
            by_kind.setdefault(piece.kind, []).append(piece.data)
        assert decode_layout(layout.encode()).body(by_kind) == body


def test_random_requests_are_put_together_again() -> None:
    dice = random.Random(5)
    values = [[], [1], [{}], "text", None, {"a": [1]}, [{"a": 1}, {"b": 2}], [{"messages": [{}]}], "[1]", [{}, {}, {}]]
    cuts = 0
    for _ in range(3000):
        fields = {
            key: dice.choice(values) for key in dice.sample(["tools", "system", "messages", "model", "x"], k=dice.randint(1, 5))
        }
        body = json.dumps(fields, indent=dice.choice([None, None, 1]), separators=dice.choice([None, (",", ":")])).encode()
        found = cut(body)
        cuts += found is not None
        if found is not None:
            by_kind: dict[str, list[bytes]] = {}
            for piece in found[0]:
                by_kind.setdefault(piece.kind, []).append(piece.data)
            assert found[1].body(by_kind) == body
    assert cuts > 1000


STREAMS = {
    "nothing": b"",
    "no JSON": b"event: content_block_delta\ndata: {\n\n",
    "lists": b'event: message_start\ndata: []\n\nevent: content_block_start\ndata: {"index":[],"content_block":{}}\n\n',
    "wrong types": b'event: content_block_delta\ndata: {"index":0,"delta":{"type":["x"],"text":5}}\n\n',
    "a text where a list was": (
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":[1],"citations":5}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":1}}\n\n'
    ),
    "usage of another kind": b'data: {"type":"message_delta","usage":5,"delta":7}\n\n',
    "deep": b"data: " + b"[" * 100_000 + b"\n\n",
    "a negative index": b'data: {"type":"content_block_delta","index":-1,"delta":{"type":"text_delta","text":"a"}}\n\n',
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_makes_no_sense_is_no_error_of_ours(name: str) -> None:
    answer = Answer()
    for event in events([STREAMS[name]]):
        answer.feed(event)
    message = answer.message()
    assert message is None or isinstance(message["content"], list)
    assert Preparer()(parcel(b"{}", STREAMS[name], answer_type=b"text/event-stream")).pieces


def test_a_streams_deltas_of_every_kind_end_up_in_their_blocks() -> None:
    def event(kind: str, **fields: object) -> bytes:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())

    def delta(index: int, **fields: object) -> bytes:
        return event("content_block_delta", index=index, delta=fields)

    data = b"".join([
        event("message_start", message={"id": "m", "usage": {"input_tokens": 5, "output_tokens": 0}, "content": []}),
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        delta(0, type="thinking_delta", thinking="so "), event("ping"), delta(0, type="thinking_delta", thinking="so"),
        delta(0, type="signature_delta", signature="sig"), event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        delta(1, type="text_delta", text="hi"), delta(1, type="citations_delta", citation={"a": 1}),
        delta(1, type="new_delta", x=1),
        event("content_block_start", index=2, content_block={"type": "tool_use", "id": "t", "name": "n", "input": {}}),
        delta(2, type="input_json_delta", partial_json='{"a"'), delta(2, type="input_json_delta", partial_json=":1}"),
        event("content_block_start", index=3, content_block={"type": "tool_use", "id": "u", "name": "n", "input": {}}),
        delta(3, type="input_json_delta", partial_json='{"a'),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 7, "input_tokens": 0}),
        event("message_stop"),
    ])  # fmt: skip
    for size in (1, 7, len(data)):
        answer = Answer()
        for one in events(data[at : at + size] for at in range(0, len(data), size)):
            answer.feed(one)
        assert answer.stopped
        assert answer.message() == {
            "id": "m",
            "usage": {"input_tokens": 5, "output_tokens": 7},
            "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "so so", "signature": "sig"},
                {"type": "text", "text": "hi", "citations": [{"a": 1}], "deltas": [{"type": "new_delta", "x": 1}]},
                {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
                {"type": "tool_use", "id": "u", "name": "n", "input": '{"a'},
            ],
        }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"\xff\xd8\xff\xe0....", "image/jpeg"),
        (b"GIF87a..", "image/gif"),
        (b"GIF89a..", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", None),
        (b"<html>", None),
        (b"GIF", None),
        (b" \x89PNG\r\n\x1a\n", None),
        (b"", None),
    ],
)
def test_only_images_that_are_no_scripts_may_be_served(data: bytes, expected: str | None) -> None:
    assert image_type(data) == expected
