"""Rehearsal scripts: what they say, what the shipped ones are, and how a mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from claude_proxy.cli.rehearse.script import SHIPPED, Clients, Script, find, load, names, parse
from claude_proxy.simulator import Phase, ScriptError
from claude_proxy.simulator.phases import KEYS

PAGE = (Path(__file__).parents[3] / "docs" / "rehearse.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", names())
def test_a_shipped_script_is_found_by_its_name(name: str) -> None:
    script = find(name)
    assert script.title
    assert script.phases
    assert all(phase.say for phase in script.phases if phase.refuse or phase.answer)
    assert script.length <= 30


def test_the_shipped_scripts_are_packaged() -> None:
    assert names() == ["burst", "night", "noon"]
    assert SHIPPED.is_relative_to(Path(__file__).parents[3] / "src" / "claude_proxy")


def test_a_script_of_the_user_is_found_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("title: mine\nphases: [{at: 1, refuse: rate}]\n", encoding="utf-8")
    assert find(str(file)) == load(file) == Script("mine", 10.0, (Phase(1.0, refuse="rate"),))


def test_what_is_left_out_has_a_default() -> None:
    assert parse("") == Script("a rehearsal", 10.0, (), Clients(1, 4, 0.5, True, True, 1), 1)
    assert parse("phases: [{at: 60}]").length == 61


def test_clients_are_as_the_script_says() -> None:
    text = "clients: {main: 2, subagents: 0, subagents_from: 3, classifier: false, titles: false, keys: 2}"
    assert parse(text).clients == Clients(2, 0, 3.0, False, False, 2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mood: bad", "'mood' is unknown; expected title, length, seed, clients, limits, phases"),
        ("title: 5", "title: expected text, got 5"),
        ("length: soon", "length: expected a number from 0.1 to 1440, got 'soon'"),
        ("{length: 3, phases: [{at: 4}]}", "length: a phase begins at minute 4, after the end at 3"),
        ("seed: x", "seed: expected a whole number from 0, got 'x'"),
        ("clients: 5", "clients: expected main, subagents"),
        ("clients: {main: 0}", "clients: main: expected a whole number from 1, got 0"),
        ("clients: {classifier: maybe}", "clients: classifier: expected true or false, got 'maybe'"),
        ("phases: [{refuse: nope}]", "phase 1: refuse: expected concurrency"),
        ("phases: [", "not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "script.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScriptError, match=re.escape(sentence)) as caught:
        find(str(file))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["nope", "../night", "nope.yaml", ""])
def test_a_script_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(ScriptError):
        find(name)


def test_the_page_shows_a_script_and_every_key() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert parse(example).phases
    assert all(f"`{key}`" in PAGE for key in KEYS)
    assert all(f"`{name}`" in PAGE for name in names())
    assert all(f"`{name}`" in PAGE for name in Clients.__slots__)
