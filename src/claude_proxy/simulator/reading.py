"""Reads values of a YAML script and says where one is wrong and what was expected."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from .presets import ScriptError, named
from .scenario import Scenario


def read_text(path: Path) -> str:
    """Return a script's text. Raises ScriptError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ScriptError(f"{path}: cannot be read: {problem}") from problem


def document(text: str, known: Collection[str]) -> dict[str, Any]:
    """Return the mapping that a script is. Raises ScriptError."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ScriptError(f"not YAML: {' '.join(str(problem).split())}") from problem
    return mapping({} if found is None else found, "the script", known)


def mapping(value: Any, where: str, known: Collection[str]) -> dict[str, Any]:
    """Return a mapping of which all keys are known. Raises ScriptError."""
    if not isinstance(value, dict):
        raise ScriptError(f"{where}: expected {', '.join(known)}, got {value!r}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ScriptError(f"{where}: {unknown[0]!r} is unknown; expected {', '.join(known)}")
    return value


def listed(value: Any, where: str, what: str) -> list[Any]:
    """Return a list, empty for None. Raises ScriptError."""
    if value is not None and not isinstance(value, list):
        raise ScriptError(f"{where}: expected a list of {what}, got {value!r}")
    return value or []


def scenario(value: Any, where: str) -> Scenario:
    """Return the scenario that ``NAME`` or ``{use: NAME, option: value}`` means. Raises ScriptError."""
    try:
        if isinstance(value, str):
            return named(value)
        if isinstance(value, dict):
            options = dict(value)
            return named(str(options.pop("use", "auto")), options)
    except ScriptError as problem:
        raise ScriptError(f"{where}: {problem}") from None
    raise ScriptError(f"{where}: an answer is a name or {{use: NAME, option: value}}, got {value!r}")


def text(value: Any, where: str) -> str:
    """Return a text. Raises ScriptError."""
    if not isinstance(value, str):
        raise ScriptError(f"{where}: expected text, got {value!r}")
    return value


def flag(value: Any, where: str) -> bool | None:
    """Return true, false or None. Raises ScriptError."""
    if value is not None and not isinstance(value, bool):
        raise ScriptError(f"{where}: expected true or false, got {value!r}")
    return value


def number(value: Any, where: str, *, least: float = 0.0, most: float = float("inf")) -> float:
    """Return a number within its bounds. Raises ScriptError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        bounds = f"from {least:g}" + (f" to {most:g}" if most < float("inf") else "")
        raise ScriptError(f"{where}: expected a number {bounds}, got {value!r}")
    return float(value)


def whole(value: Any, where: str, *, least: int = 0) -> int:
    """Return a whole number. Raises ScriptError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ScriptError(f"{where}: expected a whole number from {least}, got {value!r}")
    return value
