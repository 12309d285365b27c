"""*Upstreams*: who is in trouble?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_proxy.errors import NoBooks
from claude_proxy.exchange import Failure
from claude_proxy.web.pages.board import upstreams
from claude_proxy.web.pages.visit import Page, Visit
from claude_proxy.web.texts import known

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from claude_proxy.ledger.queries import Books
    from claude_proxy.web.pages.now import Look

DAY, HOUR = 86_400, 3_600
Item = dict[str, Any]


def view(look: Look) -> Callable[[Visit], Awaitable[Page]]:
    """The view.

    Args:
        look: what all workers tell of themselves.
    """

    async def show(visit: Visit) -> Page:
        """Upstreams with their state and speed, errors with their meaning, and the incidents that notices are about."""
        found, problem = await _read(visit)
        there = upstreams(await look())
        base_urls = {one["name"]: one["base_url"] for one in there}
        context = {
            "upstreams": [one | {"speed": found["speeds"].get(one["name"])} for one in there],
            "errors": [explained(visit, error, base_urls) for error in found["errors"]],
            "incidents": visit.site.sources.incidents(),
            "problem": problem,
        }
        return Page("upstreams.html", visit.text("shell.upstreams"), context)

    return show


async def _read(visit: Visit) -> tuple[Item, str | None]:
    now = visit.now()

    def question(books: Books) -> Item:
        return {"errors": books.errors(now - DAY), "speeds": books.speeds(now - HOUR)}

    try:
        return await visit.ask(question), None
    except NoBooks as error:
        return {"errors": [], "speeds": {}}, str(error)


def explained(visit: Visit, error: Item, base_urls: Mapping[str, str]) -> Item:
    """A kind of error with its meaning and what to do, in the viewer's language."""
    if error["kind"] is None:  # nothing said what went wrong: how it ended is all that is known
        word = f"shell.outcome_{error['outcome']}"
        return error | {"code": error["outcome"], "meaning": visit.text(word) if known(word) else "", "fix": ""}
    failure = Failure(error["side"] or "upstream", error["kind"], error["message"] or "", error["provider_code"])
    meaning, fix = visit.explained(failure, base_urls.get(error["upstream"], ""))
    return error | {"code": error["provider_code"] or error["kind"], "meaning": meaning, "fix": fix}
