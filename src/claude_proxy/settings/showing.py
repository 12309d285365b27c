"""Settings as they may be shown."""

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
