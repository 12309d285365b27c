"""Scenarios by name and the YAML script: what they say, and what they say of mistakes."""

from pathlib import Path

import pytest

from claude_proxy.simulator import PRESETS, Recorded, Scenario, ScriptError, Simulator, ToolCall, Usage, load, named
from claude_proxy.simulator.presets import from_header, from_model
from claude_proxy.simulator.script import parse
from tests.simulator.talk import HELLO, get, post, say, talk


def request(
    path: str = "/api/anthropic/v1/messages", method: str = "POST", model: str = "glm-5.3", stream: bool = False, **headers: str
) -> Recorded:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Recorded(method, path.encode(), sent, 1, 0.0, model=model, stream=stream)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_named_in_each_way(name: str) -> None:
    assert named(name) == from_header(name) == from_model(f"sim-{name}") == PRESETS[name].scenario
    assert PRESETS[name].description


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("zai-") and name[-1].isdigit()])
async def test_the_habits_of_zai_carry_their_code(simulator: Simulator, name: str) -> None:
    answer = await say(simulator, post({**HELLO, "model": f"sim-{name}"}))
    code = name.removeprefix("zai-")
    assert answer.status in (400, 429, 529)
    assert answer.json["error"]["message"].startswith(f"[{code}][")
    assert answer.json["error"]["code"] == code
    assert answer.header("retry-after") is None


def test_options_change_scenario_fault_usage_and_headers() -> None:
    changed = from_header("cut; n=7; how=rst; text=a%3Bb; pace=0.5; encoding=br; input_tokens=9; retry_after=3; newline=crlf")
    assert changed.fault is not None
    assert (changed.fault.n, changed.fault.how) == (7, "rst")
    assert (changed.text, changed.pace, changed.encoding, changed.newline) == ("a;b", 0.5, "br", "\r\n")
    assert changed.usage == Usage(input_tokens=9)
    assert changed.headers == (("retry-after", "3"),)


def test_a_model_name_carries_options_too() -> None:
    changed = from_model("sim-cut-mid-event-n-9-how-rst")
    assert changed is not None
    assert changed.fault is not None
    assert (changed.fault.where, changed.fault.n, changed.fault.how) == ("mid-event", 9, "rst")
    assert from_model("claude-sim-cut") is None


def test_scripts_hold_what_headers_cannot() -> None:
    options = {
        "body": "<html>",
        "headers": {"x-a": 1, "set-cookie": ["a", "b"]},
        "tools": [{"name": "Read", "input": {"file_path": "x"}}],
        "trailers": {"x-t": "1"},
    }
    read = named("text", options)
    assert (read.body, read.tools) == (b"<html>", (ToolCall("Read", {"file_path": "x"}),))
    assert read.headers == (("x-a", "1"), ("set-cookie", "a"), ("set-cookie", "b"))
    assert read.trailers == (("x-t", "1"),)
    assert named("error", {"error_code": 1302, "text": 5}).error_code == "1302"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("nothing", {}, "no scenario 'nothing'"),
        ("cut", {"n": "x"}, "cut: n: Expected `int`"),
        ("cut", {"how": "softly"}, "cut: how: Invalid enum value 'softly'"),
        ("text", {"n": "3"}, "text: there is no option 'n'; known are body"),
        ("text", {"encoding": "rot13"}, "text: encoding"),
        ("text", {"newline": "x"}, "text: newline"),
        ("text", {"output_tokens": "many"}, "text: output_tokens"),
        ("tool", {"tools": [{"nome": "x"}]}, "tool: tools"),
        ("cut", {"kind": "stall"}, "cut: kind"),
    ],
)
def test_mistakes_in_options_are_named(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ScriptError) as caught:
        named(name, options)
    assert sentence in str(caught.value)


SCRIPT = """
rules:
  - match: {path: /v1/messages, model: "claude-*", nth: 1-2}
    answer: zai-1305
  - match: {header: {x-app: cli*}, method: post}
    sequence:
      - {use: error, status: 500, times: 2}
      - {use: text, text: fine}
  - match: {stream: true}
    sequence: [zai-1302, text]
    again: true
  - match: {path: "*/models", method: GET, nth: 2-}
    answer: no-endpoint
default: {use: text, text: default}
"""


def test_the_first_matching_rule_answers() -> None:
    script = parse(SCRIPT)
    claude = [script(request(model="claude-x")).status for _ in range(4)]
    cli = [script(request(x_app="cli-bg")) for _ in range(4)]
    streams = [script(request(stream=True)).kind for _ in range(4)]
    models = [script(request("/gw/v1/models", "GET")).status for _ in range(3)]
    assert claude == [529, 529, 200, 200]
    assert [one.status for one in cli] == [500, 500, 200, 200]
    assert cli[-1].text == "fine"
    assert streams == ["error", "text", "error", "text"]
    assert models == [200, 404, 404]
    assert script(request()).text == "default"


async def test_a_script_runs_the_simulator(tmp_path: Path) -> None:
    file = tmp_path / "script.yaml"
    file.write_text("rules:\n  - match: {model: glm-5.3}\n    sequence: [{use: overloaded, times: 2}, text]\n")
    async with Simulator(load(file)) as sim:
        assert [(await say(sim, post(HELLO))).status for _ in range(4)] == [529, 529, 200, 200]


async def test_a_script_that_needs_no_body_can_act_before_it() -> None:
    async with Simulator(parse("rules: [{match: {path: /v1/files}, answer: {use: cut-request, n: 2, how: rst}}]")) as sim:
        async with talk(sim) as line:
            line.say(b"POST /v1/files HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\nabc")
            assert await line.end() == "rst"
        assert (await say(sim, get("/v1/models"))).status == 200


def test_an_empty_script_is_the_default() -> None:
    assert parse("")(request()) == Scenario()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rules: [", "not YAML: "),
        ("- a", "the script: expected rules, default, provider, limits, phases, got ['a']"),
        ("rule: []", "the script: 'rule' is unknown; expected rules, default, provider, limits, phases"),
        ("rules: 5", "rules: expected a list of rules, got 5"),
        ("rules: [5]", "rule 1: expected match, answer, sequence, again, got 5"),
        ("rules: [{answer: text}, {match: {}}]", "rule 2: expected either `answer` or `sequence`"),
        ("rules: [{answer: text, sequence: [text]}]", "rule 1: expected either `answer` or `sequence`"),
        ("rules: [{sequence: []}]", "rule 1: sequence: expected a list of answers, got []"),
        ("rules: [{answer: nope}]", "rule 1: there is no scenario 'nope'"),
        ("rules: [{answer: {use: cut, n: x}}]", "rule 1: cut: n: Expected `int`"),
        ("rules: [{answer: 5}]", "rule 1: an answer is a name or {use: NAME, option: value}, got 5"),
        ("rules: [{sequence: [{use: text, times: 0}]}]", "rule 1: times: expected a number from 1, got 0"),
        ("rules: [{match: {modell: x}, answer: text}]", "rule 1: match: 'modell' is unknown; expected method, path"),
        ("rules: [{match: {model: 5}, answer: text}]", "rule 1: model: expected text, got 5"),
        ("rules: [{match: {stream: maybe}, answer: text}]", "rule 1: stream: expected true or false, got 'maybe'"),
        ("rules: [{match: {header: x}, answer: text}]", "rule 1: header: expected name: value, got 'x'"),
        ("rules: [{match: {header: {x: 1}}, answer: text}]", "rule 1: header: x: expected text, got 1"),
        ("rules: [{match: {nth: first}, answer: text}]", "rule 1: nth: expected 3, 1-2 or 3-, got 'first'"),
        ("rules: [{match: {nth: 0}, answer: text}]", "rule 1: nth: expected 3, 1-2 or 3-, got 0"),
        ("rules: [{match: {nth: true}, answer: text}]", "rule 1: nth: expected 3, 1-2 or 3-, got True"),
        ("default: [text]", "default: an answer is a name"),
    ],
)
def test_mistakes_in_a_script_are_named(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "script.yaml"
    file.write_text(text)
    with pytest.raises(ScriptError) as caught:
        load(file)
    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="cannot be read"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(("nth", "bounds"), [("3", (3, 3)), ("2-4", (2, 4)), ("2-", (2, float("inf")))])
def test_nth_is_a_number_or_a_range(nth: str, bounds: tuple[int, float]) -> None:
    assert parse(f"rules: [{{match: {{nth: {nth}}}, answer: text}}]").rules[0].nth == bounds
