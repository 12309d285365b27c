"""`/search`: from what somebody typed to the page it means."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from claude_proxy import ids
from claude_proxy.web.pages.links import session_link
from claude_proxy.web.pages.visit import Page, Visit

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books


async def show(visit: Visit) -> Page:
    """Send the browser to the exchange or the session of that id, else to the sessions that have the text in their names."""
    wanted = visit.query("q").strip()
    number = _number(wanted)
    running = (await visit.site.sources.machine.running()).items if number else []
    if any(one["id"] == number for one in running):  # the books do not have it yet
        found = f"exchanges/{number}"
    else:
        found = await visit.ask(lambda books: _found(books, wanted, number)) if wanted else "sessions"
    return visit.sent_to(found)


def _number(wanted: str) -> str | None:
    """An exchange's id as we write it; None if it is none."""
    try:
        return ids.encode(ids.decode(wanted))
    except ValueError:
        return None


def _found(books: Books, wanted: str, number: str | None) -> str:
    """A path below the root."""
    if number is not None and books.exchange(number) is not None:
        return f"exchanges/{number}"
    if books.session(wanted) is not None:
        return session_link(wanted)
    return f"sessions?q={quote(wanted, safe='')}"
