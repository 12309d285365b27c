"""*Usage*: where do tokens and money go?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from claude_proxy.errors import BadRequest
from claude_proxy.ledger import periods, when
from claude_proxy.web.pages import usage_chart as chart
from claude_proxy.web.pages.usage_choice import GROUPS, MEASURES, PERIODS, SPANS, Choice
from claude_proxy.web.pages.visit import Page, Visit

if TYPE_CHECKING:
    from datetime import tzinfo

MAX_ROWS = 50
Item = dict[str, Any]


async def show(visit: Visit) -> Page:
    """The sums of a time as a chart, grouped as a table, and what is left of the plan.

    Raises:
        BadRequest: a time or a filter cannot be understood.
        NoBooks: the books cannot answer.
    """
    choice = Choice.of(visit.request.query_params, visit.site.sources.timezone)
    now = visit.now()
    try:
        since, until, where = _bounds(choice, now)
        period = chart.fitting(choice.period, since, until, where)
    except ValueError as error:
        raise BadRequest(str(error), code="bad_parameter") from None
    shared: Item = {"since": since, "until": until, "timezone": choice.timezone, "filters": choice.filters}

    over_time, grouped, plans = await asyncio.gather(  # each in a thread of its own, where SQLite works at the same time
        visit.ask(lambda books: books.usage(period, breakdown=True, **shared)),
        visit.ask(lambda books: books.usage(choice.by, limit=MAX_ROWS, **shared)),
        visit.ask(lambda books: books.quota()["items"]),
    )
    spans = periods.spans(period, periods.quarter(since), periods.quarter_after(until), where)
    context = {
        "choice": choice,
        "period": period,
        "totals": over_time["totals"],
        "chart": chart.chart(choice.measure, period, spans, over_time["groups"], visit.text),
        "groups": [row(choice, group) for group in grouped["groups"]],
        "more": grouped["more"],
        "plans": plans,
        "options": {"span": options(SPANS, choice.span), "period": PERIODS, "by": GROUPS, "measure": MEASURES},
    }
    return Page("usage.html", visit.text("shell.usage"), context)


def _bounds(choice: Choice, now: float) -> tuple[float, float, tzinfo]:
    """From when until when, and whose days.

    Raises:
        ValueError: a sentence.
    """
    where = periods.zone(choice.timezone)
    since = when.moment(choice.span, where, now)
    until = when.moment(choice.until, where, now, end=True) if choice.until else now
    if until <= since:
        raise ValueError("The time ends before it begins. Choose another one.")
    return since, until, where


def options(known: tuple[str, ...], chosen: str) -> list[str]:
    """What a list offers: the usual ones, and the chosen one even if it is none of them."""
    return [*known, *([] if chosen in known else [chosen])]


def row(choice: Choice, group: Item) -> Item:
    """A group with the query that shows the sums of it alone. A session has a page of its own, and so has what has none."""
    key = group["key"]
    return group | {"query": None if choice.by == "session" else choice.query(**{choice.by: key or ""})}
