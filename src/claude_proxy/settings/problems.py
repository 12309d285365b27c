"""Error messages for invalid settings: which one, where it was set, its value (never a secret's), what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from claude_proxy.cleaning import visible

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LISTED = "`claude-proxy config show --docs` lists them."
_CREDENTIALS = re.compile(r"//.*@")  # in a URL, which is refused because of them


def without_credentials(value: object) -> str:
    """Make a value safe to show: without a URL's password, with invisible characters escaped."""
    return _CREDENTIALS.sub("//***@", visible(value))


def meant(name: str, known: Iterable[str]) -> str:
    """Return the end of an "unknown name" message, suggesting a similar name if there is one."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def reason(error: Exception) -> str:
    """Say why a file could not be read."""
    return (error.strerror or "unreadable").lower() if isinstance(error, OSError) else "not UTF-8 text"


def expectation(fault: ErrorDetails) -> str:
    """Say what was expected, from pydantic's error details."""
    kind = fault["type"]
    if kind == "literal_error":
        words: str = fault["ctx"]["expected"]
        return f"expected {words.replace(chr(39), '')}"
    if kind == "extra_forbidden":
        return f"there is no such setting. {LISTED.removesuffix('.')}"
    return fault["msg"].removeprefix("Value error, ")
