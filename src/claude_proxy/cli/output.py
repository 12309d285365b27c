"""How commands print: JSON for scripts, colours only on a terminal, and no foreign control characters.

Text from an upstream, a server or a file in a foreign checkout could move the cursor, rewrite the line above, set the
clipboard (OSC 52) or reverse text (bidirectional overrides). So everything a command prints passes through `visible`.
"""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from claude_proxy.cleaning import is_unseen, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def say(text: str, *, err: bool = False) -> None:
    """Print `text` and a line break; line breaks and tabs in it are kept."""
    import typer  # here and below: `serve` does without it

    typer.echo(visible(text, keep="\n\t"), err=err)


def write_json(value: Any) -> None:
    """Print `value` as indented JSON, with control and format characters escaped."""
    import typer

    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo("".join(_json_escaped(char) if is_unseen(char) and char != "\n" else char for char in text))


def _json_escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a rich console: colours only on a terminal and without NO_COLOR, no markup, all text `visible`.

    Args:
        width: columns; by default the terminal's.
    """
    return _screen()(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal, and 160 columns without one unless COLUMNS is set."""
    screen = console()
    return screen if screen.is_terminal or "COLUMNS" in os.environ else console(width=160)


def print_on(screen: Console, renderable: RenderableType) -> None:
    """Print a table: elsewhere than on a terminal without the spaces that fill its lines up."""
    import typer

    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as captured:
        screen.print(renderable)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


@cache
def _screen() -> type[Console]:
    """Return the class of our consoles, created on first use because rich takes long to import."""
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        """Cleans the text it renders; rich's own cursor movements are control segments and are kept."""

        def render(self, renderable: Any, options: Any = None) -> Any:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, keep="\n\t"), style, control)

    return Screen
