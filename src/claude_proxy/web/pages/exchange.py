"""*Exchange*: why was this slow, wrong, expensive?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_proxy import ids
from claude_proxy.errors import NotFound
from claude_proxy.web.pages import explaining
from claude_proxy.web.pages.ladder import ladder
from claude_proxy.web.pages.timeline import bar, began
from claude_proxy.web.pages.visit import Page, Visit

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books

LOOK_AGAIN = "2"  # seconds after which the page of a running exchange is loaded again
Item = dict[str, Any]


async def show(visit: Visit) -> Page:
    """Everything that is known of one exchange.

    Raises:
        NotFound: no such exchange is in the books, and none runs.
    """
    number = visit.part("id")
    try:
        ids.decode(number)
    except ValueError:
        raise NotFound(visit.text("exchange.no_id")) from None
    found = await visit.ask(lambda books: _found(books, number))
    if found is None:
        return await _unbooked(visit, number)
    item, next_to_it = found
    providers = explaining.providers_of((await visit.site.sources.machine.upstreams()).items)
    context = {
        "item": item,
        "neighbours": next_to_it,
        "sentences": explaining.times(visit, item),
        "what": explaining.failure(visit, item, providers),
        "cache": explaining.cache(visit, item),
        "bar": bar(item, began(item), max(1, item["duration_ms"])),
        "ladder": ladder(item, lambda failed: explaining.meaning(visit, failed, providers)),
        "speed": explaining.speed(item),
        "prompt": explaining.prompt(item),
    }
    return Page("exchange.html", f"{item['model'] or item['kind']} · {item['id']}", context)


def _found(books: Books, number: str) -> tuple[Item, dict[str, str | None]] | None:
    item = books.exchange(number)
    return None if item is None else (item, books.neighbours(item["id"]))


async def _unbooked(visit: Visit, number: str) -> Page:
    """The page of an exchange that is not in the books: it runs, or has ended a moment ago, or is not there.

    Raises:
        NotFound: it is not there.
    """
    wanted = ids.encode(ids.decode(number))
    found = (await visit.site.sources.machine.running()).items
    item = next((one for one in found if one["id"] == wanted), None)
    if item is None:
        raise NotFound(visit.text("exchange.not_found"))
    state = visit.text(f"shell.state_{item['state']}")
    sentence = visit.text("exchange.still_running", state=state)
    return Page(
        "error.html", visit.text("exchange.running"), {"sentence": sentence, "again": None}, headers={"refresh": LOOK_AGAIN}
    )
