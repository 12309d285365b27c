"""*Now*: what is running, is it healthy?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from claude_proxy.web.pages import connect
from claude_proxy.web.pages.board import Board
from claude_proxy.web.pages.now_context import hour_charts, hour_tables, page_context
from claude_proxy.web.pages.pulse import Pulse
from claude_proxy.web.pages.visit import Page, Visit

Look = Callable[[], Awaitable[list[dict[str, Any]]]]


def view(pulse: Pulse, look: Look) -> Callable[[Visit], Awaitable[Page]]:
    """The view.

    Args:
        pulse: what the books say.
        look: what all workers tell of themselves.
    """

    async def show(visit: Visit) -> Page:
        """Running and finished exchanges; the connect card where there are none yet."""
        board = Board()
        figures = await pulse.read()
        board.update(await look(), figures)
        context: dict[str, Any] = page_context(board) | {"connect": None}
        if not board.total and not board.finished:
            context["connect"] = connect.card(visit)
        if figures.hour is not None:
            context |= {"charts": hour_charts(visit.language, figures.hour), **hour_tables(figures.hour)}
        return Page("now.html", visit.text("shell.now"), context)

    return show
