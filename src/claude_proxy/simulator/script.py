"""The YAML script: rules that choose a scenario for each request, checked when read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import reading
from .phases import read_phases
from .presets import ScriptError
from .recorded import Recorded
from .scenario import Scenario
from .stage import Stage

MATCHES = ("method", "path", "model", "stream", "header", "nth")
NTH = re.compile(r"(\d+)(?:(-)(\d+)?)?")


@dataclass(slots=True)
class Rule:
    """One rule: which requests it is for, and their answers in order; the last one is repeated."""

    answers: tuple[tuple[Scenario, int], ...]
    """(scenario, how many requests get it)."""
    method: str = "*"
    path: str = "*"
    model: str | None = None
    stream: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    nth: tuple[int, float] = (1, float("inf"))
    """First and last of the requests that match the rest, counted from 1."""
    again: bool = False
    """Whether the sequence starts over at its end."""
    matched: int = 0

    @property
    def needs_body(self) -> bool:
        """Whether it looks at the request's body."""
        return self.model is not None or self.stream is not None

    def take(self, recorded: Recorded) -> Scenario | None:
        """Return the answer if the request matches, and count it."""
        if not self._fits(recorded):
            return None
        self.matched += 1
        first, last = self.nth
        return self._answer(self.matched - first) if first <= self.matched <= last else None

    def _fits(self, recorded: Recorded) -> bool:
        path = recorded.path
        short = path[path.find("/v1/") :] if "/v1/" in path else path
        return (
            fnmatchcase(recorded.method, self.method)
            and (fnmatchcase(path, self.path) or fnmatchcase(short, self.path))
            and (self.model is None or fnmatchcase(recorded.model, self.model))
            and (self.stream is None or recorded.stream == self.stream)
            and all(fnmatchcase(recorded.header(name) or "", value) for name, value in self.headers.items())
        )

    def _answer(self, turn: int) -> Scenario:
        total = sum(times for _, times in self.answers)
        turn = turn % total if self.again else min(turn, total - 1)
        for scenario, times in self.answers:
            turn -= times
            if turn < 0:
                return scenario
        raise AssertionError("the turn is within the total")


@dataclass(slots=True)
class Script:
    """The rules, of which the first match is used, and the default."""

    rules: tuple[Rule, ...] = ()
    default: Scenario = field(default_factory=Scenario)
    stage: Stage | None = None
    """The phases of an outage, for requests that no rule is for."""

    @property
    def needs_body(self) -> bool:
        """Whether a rule looks at the body; if none does, faults that act before the body's end can be scripted."""
        return any(rule.needs_body for rule in self.rules)

    def __call__(self, recorded: Recorded) -> Scenario:
        """Return the scenario for a request; each call counts as one request."""
        for rule in self.rules:
            scenario = rule.take(recorded)
            if scenario is not None:
                return scenario
        return (self.stage(recorded) if self.stage is not None else None) or self.default

    def begin(self) -> None:
        """Start the clock of the phases."""
        if self.stage is not None:
            self.stage.begin()

    def ended(self, recorded: Recorded) -> None:
        """Note the end of a request."""
        if self.stage is not None:
            self.stage.ended(recorded)


def load(path: Path) -> Script:
    """Read a script file.

    Raises:
        ScriptError: the file is missing or invalid; the text says where and what was expected.
    """
    text = reading.read_text(path)
    try:
        return parse(text)
    except ScriptError as problem:
        raise ScriptError(f"{path}: {problem}") from problem


def parse(text: str) -> Script:
    """Read a script from YAML text. Raises ScriptError."""
    document = reading.document(text, ("rules", "default", "provider", "limits", "phases"))
    rules = reading.listed(document.get("rules"), "rules", "rules")
    read = tuple(_rule(rule, f"rule {number}") for number, rule in enumerate(rules, 1))
    default = reading.scenario(document.get("default", "auto"), "default")
    return Script(read, default, _stage(document, default))


def _stage(document: dict[str, Any], default: Scenario) -> Stage | None:
    phases = read_phases(document)
    provider = reading.text(document.get("provider", "zai"), "provider")
    return Stage(phases, provider=provider, good=lambda _: default) if phases else None


def _rule(value: Any, where: str) -> Rule:
    rule = reading.mapping(value, where, ("match", "answer", "sequence", "again"))
    if ("answer" in rule) == ("sequence" in rule):
        raise ScriptError(f"{where}: expected either `answer` or `sequence`")
    match = reading.mapping(rule.get("match") or {}, f"{where}: match", MATCHES)
    answers = rule.get("sequence", [rule.get("answer")])
    if not isinstance(answers, list) or not answers:
        raise ScriptError(f"{where}: sequence: expected a list of answers, got {answers!r}")
    return Rule(
        tuple(_turn(answer, where) for answer in answers),
        method=reading.text(match.get("method", "*"), f"{where}: method").upper(),
        path=reading.text(match.get("path", "*"), f"{where}: path"),
        model=None if "model" not in match else reading.text(match["model"], f"{where}: model"),
        stream=reading.flag(match.get("stream"), f"{where}: stream"),
        headers=_headers(match.get("header") or {}, f"{where}: header"),
        nth=_nth(match.get("nth"), f"{where}: nth"),
        again=bool(reading.flag(rule.get("again"), f"{where}: again")),
    )


def _turn(value: Any, where: str) -> tuple[Scenario, int]:
    times = 1
    if isinstance(value, dict) and "times" in value:
        value = dict(value)
        times = value.pop("times")
        if not isinstance(times, int) or times < 1:
            raise ScriptError(f"{where}: times: expected a number from 1, got {times!r}")
    return reading.scenario(value, where), times


def _headers(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ScriptError(f"{where}: expected name: value, got {value!r}")
    return {str(name): reading.text(text, f"{where}: {name}") for name, text in value.items()}


def _nth(value: Any, where: str) -> tuple[int, float]:
    if value is None:
        return 1, float("inf")
    found = NTH.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    first = int(found[1]) if found else 0
    if found is None or first < 1:
        raise ScriptError(f"{where}: expected 3, 1-2 or 3-, got {value!r}")
    if found[2] is None:
        return first, first
    return first, int(found[3]) if found[3] else float("inf")
