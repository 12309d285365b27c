"""Settings as they may be shown."""

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
