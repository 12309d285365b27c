"""The demo's display: live panels on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from claude_proxy.cli.demo.story import Talk

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.panel import Panel

TWO_COLUMNS = 76  # terminal width that fits two panels
PANEL_HEIGHT = 10
BORDERS = {"complete": "green", "streaming": "cyan", "left by its client": "yellow"}


def numbers(line: Mapping[str, Any]) -> str:
    """Summarise the proxy's log line about an exchange."""
    parts = [f"{line['status']} {line['outcome']}"]
    if "error" in line:
        code = line.get("provider_code")
        parts.append(f"{line['error']}{f' ({code})' if code else ''}")
    if "first_byte_ms" in line:
        parts.append(f"first byte {line['first_byte_ms']} ms")
    parts.append(f"{line['ms'] / 1000:.1f} s")
    if "tokens_input" in line:
        parts.append(f"{line['tokens_input']} in, {line.get('tokens_output', 0)} out")
    if line.get("tokens_cache_read"):
        parts.append(f"{line['tokens_cache_read']} cached")
    return ", ".join(parts)


@contextlib.contextmanager
def shown(console: Console, cast: list[Talk]) -> Iterator[None]:
    """Show the conversations while they are running."""
    if not console.is_terminal:
        for talk in cast:
            console.print(f"[{talk.name}] {talk.model}: {talk.prompt}", soft_wrap=True)
        yield
        for talk in cast:
            console.print(f"[{talk.name}] {' '.join(talk.text.split())[:200]}", soft_wrap=True)
            console.print(f"[{talk.name}] {talk.state}; log: {' | '.join(map(numbers, talk.lines))}", soft_wrap=True)
        return
    from rich.live import Live

    with Live(console=console, get_renderable=lambda: stage(cast, console.width), refresh_per_second=12):
        yield


def stage(cast: list[Talk], width: int) -> RenderableType:
    """Return all panels, in one or two columns."""
    from rich.table import Table

    columns = 2 if width >= TWO_COLUMNS else 1
    table = Table.grid(expand=True)
    for _ in range(columns):
        table.add_column(ratio=1)
    panels = [panel(talk) for talk in cast]
    for start in range(0, len(panels), columns):
        table.add_row(*panels[start : start + columns])
    return table


def panel(talk: Talk) -> Panel:
    """Return the panel of one conversation: the question, the answer so far, what the log says."""
    from rich.panel import Panel
    from rich.text import Text

    text = Text.assemble((f"{talk.prompt}\n", "bold"), tail(talk.text))
    for line in talk.lines:
        text.append(f"\n{numbers(line)}", style="dim")
    title = Text.assemble((talk.model, "bold"), f"  {talk.state}")
    return Panel(text, title=title, title_align="left", height=PANEL_HEIGHT, border_style=BORDERS.get(talk.state, "magenta"))


def tail(text: str, limit: int = 120) -> str:
    """Return the end of a text that is too long for its panel."""
    return text if len(text) <= limit else "..." + text[3 - limit :]
