"""`/search`: from what somebody typed to the page it means."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from claude_proxy import ids
from claude_proxy.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Page:
    """Send the browser to the exchange or the session of that id, else to the sessions that have the text in their names."""
    wanted = visit.query("q").strip()
    running = (await visit.site.sources.machine.running()).items if wanted else []
    if any(one["id"] == wanted.lower() for one in running):  # the books do not have it yet
        found = f"exchanges/{quote(wanted.lower(), safe='')}"
    else:
        found = await visit.ask(lambda books: _found(books, wanted)) if wanted else "sessions"
    return Page("error.html", visit.text("shell.search"), {"sentence": wanted}, 303, {"location": visit.root + found})


def _found(books: Any, wanted: str) -> str:
    """A path below the root."""
    try:
        ids.decode(wanted)
    except ValueError:
        pass
    else:
        if books.exchange(wanted) is not None:
            return f"exchanges/{quote(wanted, safe='')}"
    if books.session(wanted) is not None:
        return f"sessions/{quote(wanted, safe='')}"
    return f"sessions?q={quote(wanted, safe='')}"
