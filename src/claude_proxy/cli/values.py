"""Formats settings values for people, scripts and the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr


def shown(value: Any) -> Any:
    """Return a value for JSON, with secrets masked."""
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def text(value: Any) -> str:
    """Return a value as written in the environment; `-` for None."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, list) else str(value)
