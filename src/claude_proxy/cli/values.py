"""Values of settings as people, scripts and the environment spell them."""

from __future__ import annotations

from typing import Any


def text(value: Any) -> str:
    """A value as the environment would spell it; `-` for none."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, list) else str(value)
