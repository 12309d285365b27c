"""*Sessions*: what did a session cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from claude_proxy.errors import NotFound
from claude_proxy.web.pages.agents import tree
from claude_proxy.web.pages.timeline import stretches
from claude_proxy.web.pages.visit import Page, Visit

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books
    from claude_proxy.ledger.sessions import Story

SESSIONS = 50
EXCHANGES = 100
Item = dict[str, Any]


async def show(visit: Visit) -> Page:
    """Sessions, the one that was active last first; with `q`, those whose own or whose project's name contains it."""
    search = visit.query("q").strip()
    before = visit.query("before") or None
    found = await visit.ask(lambda books: books.sessions(SESSIONS, before, search=search or None))
    running = await _running(visit)
    context = {
        "sessions": [one | {"active": one["session"] in running} for one in found["items"]],
        "next": found["next"],
        "first": before is None,
        "here": f"{visit.root}sessions{query(q=search)}",
        "search": search,
    }
    return Page("sessions.html", visit.text("shell.sessions"), context)


async def one(visit: Visit) -> Page:
    """One session: its sums, its agents, what broke the cache, and its exchanges as waterfalls."""
    name = visit.part("session")
    agent = visit.query("agent") if "agent" in visit.request.query_params else None
    before = visit.query("before") or None
    found = await visit.ask(lambda books: _session(books, name, agent, before))
    running = await _running(visit)
    if found is None:
        raise NotFound(visit.text("sessions.not_found" if name not in running else "sessions.just_begun"))
    session, story, page = found
    context = {
        "session": session,
        "agents": tree(session["agents"], story.parents),
        "story": story,
        "looked_at": story.looked_at,
        "stretches": stretches(page["items"]),
        "shown": len(page["items"]),
        "next": page["next"],
        "first": before is None,
        "agent": agent,
        "here": f"{visit.root}sessions/{quote(name, safe='')}",
        "newest": query(agent=agent),
        "older": query(agent=agent, before=page["next"]),
        "running": running.get(name, 0),
    }
    return Page("session.html", session["project"] or name, context)


def _session(books: Books, name: str, agent: str | None, before: str | None) -> tuple[Item, Story, Item] | None:
    session = books.session(name)
    if session is None:
        return None
    return session, books.story(name), books.exchanges(EXCHANGES, before, session=name, agent=agent)


def query(**values: str | None) -> str:
    """The query of a link, without what is None; an empty search is none."""
    given = {key: value for key, value in values.items() if value or (key == "agent" and value is not None)}
    return f"?{urlencode(given)}" if given else ""


async def _running(visit: Visit) -> dict[str | None, int]:
    """How many exchanges of each session run in all workers."""
    counts: dict[str | None, int] = {}
    for item in (await visit.site.sources.machine.running()).items:
        counts[item["session"]] = counts.get(item["session"], 0) + 1
    return counts
