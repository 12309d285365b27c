"""Answers that need no client library: paths, bodies that are no requests, recorded streams, codings."""

import sys
import zlib

import brotli
import pytest

from claude_proxy.simulator import Recorded, Scenario, Simulator, faults
from claude_proxy.simulator.codecs import decoded, encoded
from claude_proxy.simulator.script import parse
from tests.simulator.talk import HELLO, events, get, post, say, talk

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.mark.parametrize("prefix", ["", "/api/anthropic", "/gw/any/thing"])
async def test_any_prefix_is_accepted(simulator: Simulator, prefix: str) -> None:
    assert (await say(simulator, post(HELLO, path=f"{prefix}/v1/messages?beta=true"))).status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/v1/unknown"), 404),
        (get("/v1/messages"), 405),
        (get("/api/anthropic"), 200),
        (post(path="/api/anthropic"), 404),
        (post({"model": "m"}), 400),
        (post({"messages": []}), 400),
        (post({"model": "m", "messages": [{"content": 5}]}), 400),
        (post({"model": "m", "messages": 5}, path="/v1/messages/count_tokens"), 200),
        (get("/v1/files/none"), 404),
        (get("/v1/messages/batches"), 200),
    ],
)
async def test_what_it_has_no_answer_for_gets_the_envelope(simulator: Simulator, request_bytes: bytes, status: int) -> None:
    answer = await say(simulator, request_bytes)
    assert answer.status == status
    assert status == 200 or answer.json["type"] == "error"


@pytest.mark.parametrize("name", ["cut-heads", "cut;n=many", "cut;n", "text;colour=red"])
async def test_a_header_that_names_no_scenario_gets_a_sentence(simulator: Simulator, name: str) -> None:
    answer = await say(simulator, post(None, f"X-Simulate: {name}"))
    assert answer.status == 400
    assert answer.json["error"]["message"].startswith("simulator: ")


async def test_a_model_that_names_no_scenario_gets_a_sentence(simulator: Simulator) -> None:
    answer = await say(simulator, post({**HELLO, "model": "sim-nothing"}))
    assert "'sim-nothing' names no scenario" in answer.json["error"]["message"]


async def test_header_goes_before_model_and_model_before_the_scenario_set(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="set")
    by_model = {**HELLO, "model": "sim-text-text-model"}
    asked = [post(by_model, "x-simulate: text;text=header"), post(by_model), post(HELLO)]
    texts = [(await say(simulator, request)).json["content"][0]["text"] for request in asked]
    assert texts == ["header", "model", "set"]
    assert [one.chosen_by for one in simulator.requests] == ["header", "model", "scenario"]
    simulator.scenario = parse("default: {use: text, text: script}")
    texts = [(await say(simulator, request)).json["content"][0]["text"] for request in asked]
    assert texts == ["header", "model", "script"]


async def test_a_function_can_choose_with_the_whole_request_at_hand(simulator: Simulator) -> None:
    def choose(recorded: Recorded) -> Scenario | None:
        return Scenario("text", text="found") if b"needle" in recorded.body else None

    simulator.scenario = choose
    needle = {**HELLO, "messages": [{"role": "user", "content": "needle"}]}
    texts = [(await say(simulator, post(body))).json["content"][0]["text"] for body in (needle, HELLO)]
    assert texts[0] == "found"
    assert texts[1].endswith("hello")


async def test_the_scenario_can_change_between_requests(simulator: Simulator) -> None:
    for text in ("one", "two", "one"):
        simulator.scenario = Scenario("text", text=text)
        assert (await say(simulator, post(HELLO))).json["content"][0]["text"] == text


async def test_a_recorded_stream_is_sent_event_by_event(simulator: Simulator) -> None:
    recording = b"event: message_start\ndata: {}\n\n: comment\n\nevent: ping\r\ndata: {}\r\n\r\nevent: cut off"
    simulator.scenario = Scenario("raw", body=recording, content_type="text/event-stream")
    answer = await say(simulator, post())
    assert answer.body == recording
    assert len(answer.chunks) == 4
    simulator.scenario = simulator.scenario.but(fault=faults.error_event(2))
    assert events((await say(simulator, post())).body) == ["message_start", "error"]


async def test_kinds_of_other_paths_can_be_asked_of_messages(simulator: Simulator) -> None:
    simulator.scenario = Scenario("models")
    assert (await say(simulator, post(HELLO))).json["data"]
    simulator.scenario = Scenario("count_tokens")
    assert (await say(simulator, post(HELLO))).json["input_tokens"] > 0


async def test_deltas_are_exactly_as_many_as_asked_for(simulator: Simulator) -> None:
    for count, text in ((1, "abc"), (7, "abc"), (7, "가나다라마바사아자차카타파하"), (47, "x" * 1000)):
        simulator.scenario = Scenario("text", text=text, deltas=count)
        assert events((await say(simulator, post())).body).count("content_block_delta") == count


async def test_a_body_too_large_to_keep_cannot_be_answered_as_a_message() -> None:
    async with Simulator(keep_body=50) as sim:
        answer = await say(sim, post())
        assert answer.status == 400
        assert "more than this simulator keeps" in answer.json["error"]["message"]
        upload = await say(sim, post(HELLO, path="/v1/files"))
        assert upload.json["size_bytes"] == sim.requests[1].body_size


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_each_encoded_part_can_be_decoded_when_it_arrives(encoding: str) -> None:
    parts = [b"event one\n\n", b"event two\n\n" * 50, b""]
    readers = {
        "gzip": lambda: zlib.decompressobj(31).decompress,
        "deflate": lambda: zlib.decompressobj(15).decompress,
        "br": lambda: brotli.Decompressor().process,
        "zstd": lambda: zstd.ZstdDecompressor().decompress,
    }
    read = readers[encoding]()
    coded = list(encoded(parts, encoding))
    assert [read(part) for part in coded] == parts
    assert decoded(b"".join(coded), encoding) == b"".join(parts)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "rot13"])
def test_a_body_that_is_not_so_encoded_is_named(encoding: str) -> None:
    with pytest.raises(ValueError, match=encoding):
        decoded(b"plain text", encoding)


async def test_an_encoded_stream_decodes_to_the_same_events(simulator: Simulator) -> None:
    plain = (await say(simulator, post())).body
    simulator.scenario = Scenario(encoding="br")
    answer = await say(simulator, post())
    assert answer.header("content-encoding") == "br"
    assert events(brotli.decompress(answer.body)) == events(plain)
    assert len(answer.chunks) == len(events(plain))


async def test_more_different_answers_than_are_kept_are_all_right(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        for number in (*range(300), 0):
            line.say(post({**HELLO, "messages": [{"role": "user", "content": f"number {number}"}]}))
            assert (await line.answer()).json["content"][0]["text"].endswith(f" number {number}")


async def test_the_same_text_to_another_model_is_not_the_same_answer(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="same")
    models = [(await say(simulator, post({**HELLO, "model": model}))).json["model"] for model in ("a", "b", "a")]
    assert models == ["a", "b", "a"]
