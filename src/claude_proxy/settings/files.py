"""Reads the TOML file, and files that hold one secret."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from claude_proxy.cleaning import visible
from claude_proxy.errors import SettingsError
from claude_proxy.settings.problems import reason


def read_text(path: Path, name: str) -> str:
    """Return the text of a file, without a byte-order mark.

    Args:
        name: the start of an error message, such as `PROXY_API_KEY_FILE=/run/key`.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{visible(name)}: the file cannot be read ({reason(error)}).") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse the settings file.

    Raises:
        SettingsError: it cannot be read, or is not TOML.
    """
    text = read_text(path, str(path))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{visible(path)}: not valid TOML: {visible(error)}.") from None
