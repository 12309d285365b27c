"""Rehearsal scripts: an outage minute by minute, and who calls meanwhile. YAML, checked when read (docs/rehearse.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_proxy.simulator import Phase, ScriptError, reading
from claude_proxy.simulator.phases import read_phases

SHIPPED = Path(__file__).with_name("scripts")
KEYS = ("title", "length", "seed", "clients", "limits", "phases")
CLIENTS = ("main", "subagents", "subagents_from", "classifier", "titles", "keys")
DEFAULT_LENGTH = 10.0  # minutes


@dataclass(frozen=True, slots=True)
class Clients:
    """Who calls.

    Attributes:
        main: main agents, each a session of its own.
        subagents: subagents of each session.
        subagents_from: minute at which they begin.
        classifier: whether each main agent has its tool calls checked, as in Claude Code's auto mode.
        titles: whether each session asks for a title at its start.
        keys: different credentials that the clients send, shared out among the sessions; unused while the proxy holds keys.
    """

    main: int = 1
    subagents: int = 4
    subagents_from: float = 0.5
    classifier: bool = True
    titles: bool = True
    keys: int = 1


@dataclass(frozen=True, slots=True)
class Script:
    """A rehearsal.

    Attributes:
        length: in minutes.
        seed: of whatever the script leaves to chance.
    """

    title: str
    length: float
    phases: tuple[Phase, ...]
    clients: Clients = Clients()
    seed: int = 1


def find(name: str) -> Script:
    """Return the script in the file `name`, or the shipped one of that name. Raises ScriptError."""
    file = Path(name)
    if file.suffix in (".yaml", ".yml") or file.is_file():
        return load(file)
    shipped = SHIPPED / f"{name}.yaml"
    if name not in names():
        raise ScriptError(f"there is no script {name!r}: name a .yaml file, or one of {', '.join(names())}")
    return load(shipped)


def names() -> list[str]:
    """Return the names of the shipped scripts."""
    return sorted(file.stem for file in SHIPPED.glob("*.yaml"))


def load(file: Path) -> Script:
    """Read a script file. Raises ScriptError: the text says where and what was expected."""
    text = reading.read_text(file)
    try:
        return parse(text)
    except ScriptError as problem:
        raise ScriptError(f"{file}: {problem}") from problem


def parse(text: str) -> Script:
    """Read a script. Raises ScriptError."""
    document = reading.document(text, KEYS)
    phases = read_phases(document)
    last = max((phase.at for phase in phases), default=0.0)
    length = reading.number(document.get("length", max(DEFAULT_LENGTH, last + 1)), "length", least=0.1, most=24 * 60)
    if last > length:
        raise ScriptError(f"length: a phase begins at minute {last:g}, after the end at {length:g}")
    return Script(
        reading.text(document.get("title", "a rehearsal"), "title"),
        length,
        phases,
        _clients(reading.mapping(document.get("clients") or {}, "clients", CLIENTS)),
        reading.whole(document.get("seed", 1), "seed"),
    )


def _clients(value: dict[str, Any]) -> Clients:
    default = Clients()
    flags = {name: reading.flag(value.get(name), f"clients: {name}") for name in ("classifier", "titles")}
    return Clients(
        main=reading.whole(value.get("main", default.main), "clients: main", least=1),
        subagents=reading.whole(value.get("subagents", default.subagents), "clients: subagents"),
        subagents_from=reading.number(value.get("subagents_from", default.subagents_from), "clients: subagents_from"),
        keys=reading.whole(value.get("keys", default.keys), "clients: keys", least=1),
        **{name: found for name, found in flags.items() if found is not None},
    )
