"""What docs/simulator.md says is what the code knows."""

import re
from pathlib import Path

from claude_proxy.simulator import REFUSALS
from claude_proxy.simulator.phases import KEYS
from claude_proxy.simulator.presets import PRESETS, named
from claude_proxy.simulator.script import parse

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
EXAMPLES = {"how": "fin", "until": "left", "newline": "lf", "framing": "auto", "writes": "whole", "encoding": "br"}
EXAMPLES |= {"body": "x", "headers": {}, "trailers": {}, "tools": []}


def test_every_option_of_the_table_exists() -> None:
    table = PAGE.partition("| option | meaning |")[2].partition("\n\n")[0]
    options = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(options) > 20
    for option in options:
        named("cut", {option: EXAMPLES.get(option, 1 if option not in ("text", "message") else "x")})


def test_the_script_of_the_page_is_one() -> None:
    rules, phases = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(parse(rules).rules) == 3
    stage = parse(phases).stage
    assert stage is not None


def test_every_key_of_a_phase_is_told() -> None:
    table = PAGE.partition("| key | meaning |")[2].partition("\n\n")[0]
    assert {row.split("`")[1] for row in table.splitlines()[2:]} == set(KEYS)
    assert all(f"`{kind}`" in table for kind in REFUSALS)


def test_the_names_that_the_page_uses_exist() -> None:
    used = re.findall(r"--model sim-([a-z]+(?:-\d{4})?)", PAGE) + re.findall(r"x-simulate: ([a-z][\w-]+)", PAGE)
    assert len(used) >= 4
    assert set(used) <= set(PRESETS)
