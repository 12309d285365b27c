"""*Sessions*: what did a session cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from claude_proxy.errors import NotFound
from claude_proxy.web.pages.agents import tree
from claude_proxy.web.pages.links import session_link
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
    without = None if search or before else await visit.ask(_without)
    running = await _running(visit)
    context = {
        "without": without,
        "sessions": [one | {"active": one["session"] in running} for one in found["items"]],
        "next": found["next"],
        "first": before is None,
        "here": f"{visit.root}sessions" + (f"?{urlencode({'q': search})}" if search else ""),
        "search": search,
    }
    return Page("sessions.html", visit.text("shell.sessions"), context)


def _without(books: Books) -> Item | None:
    """The sums of what has no session, as the list shows a session's; None if there is nothing."""
    found = books.usage("model", filters={"session": ""})
    sums = found["totals"]
    if not any(sums[key] for key in ("exchanges", "count_tokens_calls", "other_calls")):
        return None
    last = books.exchanges(1, session="")["items"]
    models = sorted(group["key"] for group in found["groups"] if group["key"])
    return {**sums, "models": models, "last_seen": last[0]["started_at"] if last else None}


async def one(visit: Visit) -> Page:
    """A session by its name in the path."""
    return await _page(visit, visit.part("session"))


async def by_id(visit: Visit) -> Page:
    """A session by its name in the query, where any name can be; with an empty one, the requests that have none."""
    return await _page(visit, visit.query("id"))


async def _page(visit: Visit, name: str) -> Page:
    return await (_named(visit, name) if name else _sessionless(visit))


async def _sessionless(visit: Visit) -> Page:
    """The requests of clients that name no session, such as curl and SDKs, newest first."""
    before = visit.query("before") or None

    def question(books: Books) -> tuple[Item, Item]:
        return books.usage("model", filters={"session": ""})["totals"], books.exchanges(EXCHANGES, before, session="")

    sums, page = await visit.ask(question)
    context = {
        "sums": sums,
        "exchanges": page["items"],
        "next": page["next"],
        "first": before is None,
        "here": visit.root + session_link(None),
    }
    return Page("sessionless.html", visit.text("sessions.without_title"), context)


async def _named(visit: Visit, name: str) -> Page:
    """One session: its sums, its agents, what broke the cache, and its exchanges as waterfalls."""
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
        "here": visit.root + session_link(name),
        "newest": visit.root + session_link(name, agent=agent),
        "older": visit.root + session_link(name, agent=agent, before=page["next"]),
        "running": running.get(name, 0),
    }
    return Page("session.html", session["project"] or name, context)


def _session(books: Books, name: str, agent: str | None, before: str | None) -> tuple[Item, Story, Item] | None:
    session = books.session(name)
    if session is None:
        return None
    return session, books.story(name), books.exchanges(EXCHANGES, before, session=name, agent=agent)


async def _running(visit: Visit) -> dict[str | None, int]:
    """How many exchanges of each session run in all workers."""
    counts: dict[str | None, int] = {}
    for item in (await visit.site.sources.machine.running()).items:
        counts[item["session"]] = counts.get(item["session"], 0) + 1
    return counts
