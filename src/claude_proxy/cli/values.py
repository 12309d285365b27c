"""Formats settings values for people, scripts and the environment."""

from __future__ import annotations

from typing import Any


def text(value: Any) -> str:
    """Return a value as written in the environment; `-` for None."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, list) else str(value)
