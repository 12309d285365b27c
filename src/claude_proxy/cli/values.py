"""Values of settings as people, scripts and the environment spell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr


def shown(value: Any) -> Any:
    """A value that JSON can carry, without the secret in it."""
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def text(value: Any) -> str:
    """A value as the environment would spell it; `-` for none."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, list) else str(value)
