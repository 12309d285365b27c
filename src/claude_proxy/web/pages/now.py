"""*Now*: what is running, is it healthy?"""

from __future__ import annotations

from typing import Any

from claude_proxy.errors import NoBooks
from claude_proxy.web.pages import charts, connect
from claude_proxy.web.pages.visit import Page, Visit

FINISHED = 20  # finished exchanges that are shown


async def show(visit: Visit) -> Page:
    """Running and finished exchanges; the connect card where there are none yet."""
    sources = visit.site.sources
    context: dict[str, Any] = {"running": sources.live.running(), "finished": [], "problem": None}
    try:
        context["finished"] = (await visit.ask(lambda books: books.exchanges(FINISHED)))["items"]
    except NoBooks as error:
        context["problem"] = str(error)
    context["connect"] = None if context["finished"] or context["running"] else connect.card(visit)
    context |= _example(visit.now())
    return Page("now.html", visit.text("shell.now"), context)


def _example(now: float) -> dict[str, Any]:
    """The data of the two kinds of charts; `now.html` shows how they are drawn."""
    times = [now // 60 * 60 - 60 * back for back in range(59, -1, -1)]
    series = {
        "requests": [float(number % 7) for number in range(60)],
        "errors": [float(number % 11 == 0) for number in range(60)],
    }
    return {"chart": charts.lines(times, series), "rows": charts.table(times, series), "bars": [[5, 3], [8, None], [2, 9]]}
