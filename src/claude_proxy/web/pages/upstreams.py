"""*Upstreams*: who is in trouble?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_proxy.errors import NoBooks
from claude_proxy.web.pages.explaining import advice, providers_of
from claude_proxy.web.pages.visit import Page, Visit
from claude_proxy.web.texts import known

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books

DAY, HOUR = 86_400, 3_600
Item = dict[str, Any]


async def show(visit: Visit) -> Page:
    """Upstreams with their state and speed, errors with their meaning, and the incidents that notices are about."""
    found, problem = await _read(visit)
    there = (await visit.site.sources.machine.upstreams()).items
    providers = providers_of(there)
    context = {
        "upstreams": [one | {"speed": found["speeds"].get(one["name"])} for one in there],
        "errors": [explained(visit, error, providers) for error in found["errors"]],
        "incidents": [translated(visit, one, providers) for one in await visit.site.sources.incidents()],
        "problem": problem,
    }
    return Page("upstreams.html", visit.text("shell.upstreams"), context)


async def _read(visit: Visit) -> tuple[Item, str | None]:
    now = visit.now()

    def question(books: Books) -> Item:
        return {"errors": books.errors(now - DAY), "speeds": books.speeds(now - HOUR)}

    try:
        return await visit.ask(question), None
    except NoBooks as error:
        return {"errors": [], "speeds": {}}, str(error)


def translated(visit: Visit, incident: Item, providers: Item) -> Item:
    """An incident in the viewer's language. Those that no table explains stay in English."""
    code = incident["code"]
    about = advice(visit, {**incident, "side": None, "kind": code, "provider_code": code}, providers)
    if incident["meaning"] != about.name.en:
        return incident
    return incident | {"meaning": about.name.to(visit.language), "fix": about.do.to(visit.language)}


def explained(visit: Visit, error: Item, providers: Item) -> Item:
    """A kind of error with its meaning and what to do, in the viewer's language."""
    if error["kind"] is None:  # nothing said what went wrong: how it ended is all that is known
        word = f"shell.outcome_{error['outcome']}"
        return error | {"code": error["outcome"], "meaning": visit.text(word) if known(word) else "", "fix": ""}
    about = advice(visit, error, providers)
    return error | {
        "code": error["provider_code"] or error["kind"],
        "meaning": about.name.to(visit.language),
        "fix": about.do.to(visit.language),
    }
