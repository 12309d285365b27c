"""How commands print: JSON for scripts, colours only where a person reads, and no control character of anybody else's.

A word of an upstream, a server or a file of a foreign checkout could move the cursor, rewrite the line above, fill the
clipboard (OSC 52) or turn text around (bidirectional overrides). Whatever a command prints goes through `visible`.
"""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from claude_proxy.cleaning import is_unseen, visible

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str, *, err: bool = False) -> None:
    """Print `text` and a line break; its own line breaks and tabs stay."""
    typer.echo(visible(text, keep="\n\t"), err=err)


def write_json(value: Any) -> None:
    """Print `value` as indented JSON, in which control and format characters are escaped as JSON does it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo("".join(_json_escaped(char) if is_unseen(char) and char != "\n" else char for char in text))


def _json_escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A rich console: colours on a terminal only, none with NO_COLOR, nothing read as markup, all text `visible`.

    Args:
        width: columns; by default the terminal's.
    """
    return _screen()(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def wide_console() -> Console:
    """A console for tables: the terminal's width, and 160 columns where there is no terminal and COLUMNS does not say."""
    screen = console()
    return screen if screen.is_terminal or "COLUMNS" in os.environ else console(width=160)


@cache
def _screen() -> type[Console]:
    """The class of our consoles, made when the first one is wanted: rich takes long to import."""
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        """Cleans what it renders; the cursor movements of rich itself are segments of another kind and stay."""

        def render(self, renderable: Any, options: Any = None) -> Any:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, keep="\n\t"), style, control)

    return Screen
