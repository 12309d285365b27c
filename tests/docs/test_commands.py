"""Commands of the documents that are looked at: what they name has to exist."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
import typer
import yaml

from claude_proxy.cli.commands import COMMANDS, load
from claude_proxy.settings import SECRETS, Settings
from claude_proxy.simulator.presets import from_header, from_model
from tests.docs.blocks import ROOT, Command, commands, inline
from tests.docs.kinds import EXCEPTIONS, RULES, kind, of_kind

NAMES = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}


def text(command: Command) -> str:
    return command.text[:70]


@pytest.mark.parametrize("command", commands(), ids=text)
def test_somebody_has_said_what_becomes_of_each_command(command: Command) -> None:
    assert kind(command), f"{command.place}: give it a rule, or an exception with its reason, in tests/docs/kinds.py"


@pytest.mark.parametrize("name", [name for name, _ in RULES])
def test_no_rule_and_no_exception_outlives_its_commands(name: str) -> None:
    assert of_kind(name, commands())
    assert set(EXCEPTIONS) <= {command.text for command in commands()}


def examples() -> list[Command]:
    """The examples of `--help`, as far as they are ours."""
    found = (re.search(r"claude-proxy [^|)]+", line) for entry in COMMANDS.values() for line in entry.examples)
    return [Command(match[0].strip(), place="--help") for match in found if match]


def ours() -> list[Command]:
    """Every command of ours that stands anywhere; a pipe or a redirection ends it."""
    found = [
        *of_kind("ours", commands()),
        *of_kind("server", commands()),
        *of_kind("simulator", commands()),
        *inline(),
        *examples(),
    ]
    own = [Command(re.split(r" [|>] ", c.text)[0], place=c.place) for c in found if c.words[0] == "claude-proxy"]
    return [command for command in dict.fromkeys(own) if "COMMAND" not in command.words]


@pytest.mark.parametrize("command", ours(), ids=text)
def test_our_command_takes_these_options(command: Command) -> None:
    here = {"/app/proxy.py": str(ROOT / "proxy.py")}  # the image's, which has to exist
    name, *rest = (here.get(word, word) for word in command.words[1:])
    assert name in COMMANDS, command.place
    understood(load(name), rest)


def understood(command: Any, words: Sequence[str]) -> None:
    """Parse the words without running anything. Raises click.UsageError."""
    if hasattr(command, "commands"):
        if words and not words[0].startswith("-"):
            understood(command.commands[words[0]], words[1:])
        return
    try:
        command.make_context(command.name, list(words))
    except (typer.Exit, SystemExit):
        assert "--help" in words


def test_a_wrong_option_would_be_noticed() -> None:
    for wrong in (["serve", "--prot", "1"], ["service", "install", "--prnt"], ["env", "--shell", "cmd"]):
        with pytest.raises(Exception, match=r"No such option|is not one of|Invalid value") as caught:
            understood(load(wrong[0]), wrong[1:])
        assert type(caught.value).__name__ in ("NoSuchOption", "BadParameter")


@pytest.mark.parametrize(
    "command", [*of_kind("make", commands()), *(c for c in inline() if c.text.startswith("make "))], ids=text
)
def test_the_makefile_has_the_target(command: Command) -> None:
    target = re.escape(command.words[1])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), command.place
    assert re.search(rf"^\.PHONY:.* {target}\b", makefile, re.MULTILINE)


def containers() -> list[Command]:
    return [*of_kind("container", commands()), *(c for c in inline() if not c.text.startswith(("claude-proxy ", "make ")))]


@pytest.mark.parametrize("command", [*containers(), *of_kind("file", commands())], ids=text)
def test_the_files_that_it_names_are_there(command: Command) -> None:
    for word in command.words:
        if word.startswith(("deploy/", ".ci/", "docker-compose", "Dockerfile")):
            assert (ROOT / word).exists(), command.place
    if command.text == ".ci/run":
        assert os.access(ROOT / ".ci/run", os.X_OK)


def after(words: Sequence[str], *options: str) -> list[str]:
    """The words that follow one of these options."""
    return [value for option, value in itertools.pairwise(words) if option in options]


@pytest.mark.parametrize("command", containers(), ids=text)
def test_the_names_that_it_gives_exist(command: Command) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    profiles = {profile for service in compose.values() for profile in service.get("profiles", ())}
    assert set(after(command.words, "--profile")) <= profiles | {"*"}  # Compose's word for all of them
    assert {one.partition("=")[0] for one in after(command.words, "-e")} <= NAMES
    values = yaml.safe_load((ROOT / "deploy/kubernetes/claude-proxy/values.yaml").read_text(encoding="utf-8"))
    for setting in after(command.words, "--set"):
        place: Any = values
        for name in setting.partition("=")[0].split("."):
            place = place[name]
    job = (ROOT / "deploy/nomad/claude-proxy.nomad.hcl").read_text(encoding="utf-8")
    assert all(f'variable "{one.partition("=")[0]}"' in job for one in after(command.words, "-var"))


@pytest.mark.parametrize("command", of_kind("claude", commands()), ids=text)
def test_the_scenario_that_it_names_exists(command: Command) -> None:
    for model in after(command.words, "--model"):
        assert from_model(model) is not None
    header = command.environ.get("ANTHROPIC_CUSTOM_HEADERS", "")
    if header:
        name, _, value = header.partition(": ")
        assert name == "x-simulate"
        from_header(value)


VERBS = {"build", "compose", "config", "deploy", "down", "init", "inspect", "rm", "run", "stack", "start", "stop", "swarm", "up"}


@pytest.mark.system
@pytest.mark.parametrize("command", [c for c in containers() if c.words[0] == "docker"], ids=text)
def test_docker_knows_the_options(command: Command) -> None:
    """Words from the container's own command on are not Docker's."""
    words = list(itertools.takewhile(lambda word: word not in ("fastapi", "serve"), command.words))
    verbs = [word for word in words if word in VERBS]
    pages = [["docker", *verbs[:count], "--help"] for count in range(1, len(verbs) + 1)]
    shown = [subprocess.run(page, capture_output=True, text=True, check=True, timeout=60).stdout for page in pages]
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert {option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", "".join(shown))} == set()
