"""The blocks of the documents that are no commands: they parse, and mean something to us."""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
import yaml

from claude_proxy import settings
from claude_proxy.cli.rehearse import script as rehearsal
from claude_proxy.ledger import prices
from claude_proxy.ledger.tables import metadata
from claude_proxy.simulator.script import parse
from tests.docs.blocks import DOCUMENTS, ROOT, SHELLS, Block, blocks, blocks_of, commands_of

LANGUAGES = SHELLS | {"toml", "yaml", "json", "ini", "python", "sql", "text"}


def ask_an_empty_ledger(statement: str) -> bool:
    """Run a statement on the tables of the ledger, with nothing in them."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        assert connection.exec_driver_sql(statement).fetchall() == []
    engine.dispose()
    return True


PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "sql": ask_an_empty_ledger,
    "ini": lambda text: configparser.ConfigParser(strict=False).read_string(text) or True,
}
VALUES = ROOT / "deploy/kubernetes/claude-proxy/values.yaml"


def place(block: Block) -> str:
    return block.place


def written_in(*languages: str) -> list[Block]:
    return [block for block in blocks() if block.language in languages]


def test_each_block_says_its_language() -> None:
    assert [(block.place, block.language) for block in blocks() if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_fence_is_read(document: Path) -> None:
    fences = re.findall(r"^[ >]*(?:```|~~~)", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(document))


def test_both_readmes_hold_the_same_blocks() -> None:
    english, korean = ([(b.language, b.text) for b in blocks_of(ROOT / name)] for name in ("README.md", "README.ko.md"))
    assert english == korean
    assert english


@pytest.mark.parametrize("block", written_in(*PARSERS), ids=place)
def test_data_parses(block: Block) -> None:
    assert PARSERS[block.language](block.text)


@pytest.mark.parametrize("block", written_in("toml"), ids=place)
def test_toml_is_a_file_of_settings_or_of_prices(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "claude-proxy.toml"
    file.write_text(block.text, encoding="utf-8")
    if "[[price]]" in block.text:
        assert prices.load(file).problem is None
        return
    keys = dict.fromkeys(re.findall(r'key_env = "(\w+)"', block.text), "sk-1")
    for name in re.findall(r'key_file = "([\w.-]+)"', block.text):
        (tmp_path / name).write_text("sk-2", encoding="utf-8")
    loaded = settings.load(keys, config=file)
    assert any(source.startswith(str(file)) for source in loaded.sources.values())


@pytest.mark.parametrize("block", written_in("yaml"), ids=place)
def test_yaml_is_a_script_of_the_simulator_or_a_rehearsal_or_values_of_the_chart(block: Block) -> None:
    found = yaml.safe_load(block.text)
    if "clients" in found:
        assert rehearsal.parse(block.text).phases
        return
    if "rules" in found or "phases" in found:
        script = parse(block.text)
        assert script.rules or script.stage
        return
    known = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    for name, value in found.items():
        assert name in known
        if isinstance(value, dict) and name != "config":
            assert set(value) <= set(known[name])
    assert set(found.get("config", ())) <= {name.upper() for name in settings.Settings.model_fields}


@pytest.mark.parametrize("block", written_in("python"), ids=place)
async def test_python_runs(block: Block) -> None:
    """Its `...` is where the reader's client comes in."""
    assert block.text.count("...  #") == 1
    source = block.text.replace("...  #", "await ask(sim.base_url)  #")
    code = compile(source, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await types.FunctionType(code, {"ask": ask, "__builtins__": __builtins__})()


async def ask(base_url: str) -> None:
    body: dict[str, Any] = {"model": "x", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{base_url}/v1/messages", json=body, headers={"x-api-key": "..."})


def test_commands_are_told_from_prompts_comments_and_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ A=1 x \\\n    -d '# no comment'  # comment\nout 1\nout 2\n$ y#z\n```\n"
        "```sh\n# only a comment\n\nz # it\n```\n"
    )  # fmt: skip
    first, second = (Block(ROOT / "page.md", block.line, block.language, block.text) for block in blocks_of(page))
    assert (first.language, second.line) == ("console", 8)
    one, two, three = *commands_of(first), *commands_of(second)
    assert (one.text, one.output) == ("A=1 x -d '# no comment'", ("out 1", "out 2"))
    assert (one.environ, one.words) == ({"A": "1"}, ["x", "-d", "# no comment"])
    assert (two.text, two.output, three.text) == ("y#z", (), "z")
