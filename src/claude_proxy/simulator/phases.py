"""Reads the phases of a scripted outage from a YAML script."""

from __future__ import annotations

from typing import Any

from . import reading
from .presets import ScriptError
from .refusals import REFUSALS, Refusal
from .stage import Phase

KEYS = ("at", "say", "refuse", "answer", "share", "max_concurrency", "release_lag", "resets", "upstream", "account")
LIMITS = ("max_concurrency", "release_lag")


def read_phases(document: dict[str, Any]) -> tuple[Phase, ...]:
    """Return the ``phases`` of a script, the first of them with its ``limits``.

    Raises:
        ScriptError: the text says where and what was expected.
    """
    limits = reading.mapping(document.get("limits") or {}, "limits", LIMITS)
    values = reading.listed(document.get("phases"), "phases", "phases")
    found = tuple(_phase(value, f"phase {number}") for number, value in enumerate(values, 1))
    if not limits:
        return found
    return (Phase(0.0, **_limits(limits, "limits")), *found)


def _phase(value: Any, where: str) -> Phase:
    phase = reading.mapping(value, where, KEYS)
    if "refuse" in phase and "answer" in phase:
        raise ScriptError(f"{where}: expected either `refuse` or `answer`")
    return Phase(
        at=reading.number(phase.get("at", 0), f"{where}: at"),
        say=reading.text(phase.get("say", ""), f"{where}: say"),
        refuse=None if phase.get("refuse") is None else _refusal(phase["refuse"], f"{where}: refuse"),
        answer=None if phase.get("answer") is None else reading.scenario(phase["answer"], f"{where}: answer"),
        share=reading.number(phase.get("share", 1), f"{where}: share", most=1.0),
        resets=None if phase.get("resets") is None else reading.number(phase["resets"], f"{where}: resets"),
        upstream=None if phase.get("upstream") is None else reading.whole(phase["upstream"], f"{where}: upstream", least=1),
        account=None if phase.get("account") is None else reading.whole(phase["account"], f"{where}: account", least=1),
        **_limits(phase, where),
    )


def _limits(value: dict[str, Any], where: str) -> dict[str, Any]:
    limit, lag = value.get("max_concurrency"), value.get("release_lag")
    return {
        "max_concurrency": None if limit is None else reading.whole(limit, f"{where}: max_concurrency"),
        "release_lag": None if lag is None else reading.number(lag, f"{where}: release_lag"),
    }


def _refusal(value: Any, where: str) -> Refusal:
    found = next((kind for kind in REFUSALS if kind == value), None)
    if found is None:
        raise ScriptError(f"{where}: expected {', '.join(REFUSALS)}, got {value!r}")
    return found
