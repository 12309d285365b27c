"""*Conversation*: what was said, and what fills the context?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from claude_proxy import ids
from claude_proxy.errors import BadRequest, NoBooks, NotFound
from claude_proxy.web.pages import conversation_shown as shown
from claude_proxy.web.pages.visit import Page, Visit

if TYPE_CHECKING:
    from claude_proxy.web.pages.conversation_kept import Kept
    from claude_proxy.web.pages.visit import Site

EARLIER = 50  # exchanges of the session among which the turn before is looked for
_reading = asyncio.Semaphore(2)  # conversations that are read at once: one may take over 100 MB
Item = dict[str, Any]
T = TypeVar("T")


class Booked(NamedTuple):
    """What the books have of an exchange.

    Attributes:
        item: its row; None if it is not there.
        earlier: id and number of the exchanges before it in the same conversation, newest first.
    """

    item: Item | None = None
    earlier: tuple[tuple[str, int], ...] = ()

    @property
    def usage(self) -> Item | None:
        """The tokens that were reported."""
        return None if self.item is None else self.item["usage"]


async def show(visit: Visit) -> Page:
    """The conversation of an exchange: shares, difference to the turn before, search, and the parts, page by page.

    Raises:
        NotFound: neither the books nor capture have it.
    """
    number = number_of(visit.part("id"))
    id, title = ids.encode(number), visit.text("conversation.title")
    booked = await _booked(visit, id)
    page, wanted = visit.query("page"), visit.query("find").strip()

    def question(kept: Kept) -> Item | None:
        told = kept.read(number, booked.usage)
        if told is None:
            return None
        found = shown.hits(told, kept.found(told, wanted)) if wanted else {"hits": [], "hit_count": 0}
        return found | shown.conversation(told, kept.since(told, booked.earlier), page)

    try:
        context, problem = await ask(visit.site, question), None
    except NoBooks as error:
        context, problem = None, str(error)
    about = {"id": id, "item": booked.item, "find": wanted, "problem": problem, "capture": _capture(visit)}
    if context is not None:
        return Page("conversation.html", title, about | context)
    if booked.item is None and problem is None:
        raise NotFound(f"No exchange {id} is stored: it may not have ended yet, or be older than what is kept.")
    return Page("conversation_missing.html", title, about)


async def part(visit: Visit) -> Page:
    """One part with all of its text.

    Raises:
        NotFound: there is no such part.
    """
    number, wanted = number_of(visit.part("id")), visit.part("part")
    booked = await _booked(visit, ids.encode(number))

    def question(kept: Kept) -> Item | None:
        told = kept.read(number, booked.usage)
        if told is None or not is_index(wanted, len(told.parts)):
            return None
        return shown.Writer(told).part(told.parts[int(wanted)], shown.WHOLE)

    found = await ask(visit.site, question)
    if found is None:
        raise NotFound("This part is not stored, or not any more.")
    return Page("conversation_part.html", visit.text("conversation.part"), {"id": ids.encode(number), "part": found})


def number_of(id: str) -> int:
    """The number of an exchange by its id, as people type it.

    Raises:
        BadRequest: it is none.
    """
    try:
        return ids.decode(id)
    except ValueError as error:
        raise BadRequest(str(error), code="bad_parameter") from None


def is_index(text: str, count: int) -> bool:
    """Whether a text is an index of a list."""
    return text.isascii() and text.isdecimal() and len(text) < 7 and int(text) < count


async def ask(site: Site, question: Callable[[Kept], T]) -> T | None:
    """Put a question to the stored conversations, in a thread; None where this proxy has none.

    Raises:
        NoBooks: they cannot be read.
    """
    kept = site.kept
    if kept is None:
        return None
    async with _reading:
        return await asyncio.to_thread(lambda: question(kept()))


def _capture(visit: Visit) -> str:
    """The setting CAPTURE."""
    found = (one["value"] for one in visit.site.sources.settings() if one["name"] == "CAPTURE")
    return str(next(found, "off"))


async def _booked(visit: Visit, id: str) -> Booked:
    """What the books say; nothing where there are none, for a conversation can be read without them."""

    def question(books: Any) -> Booked:
        item = books.exchange(id)
        if item is None or item["session"] is None:
            return Booked(item)
        before = books.exchanges(EARLIER, id, session=item["session"])["items"]
        same = [one["id"] for one in before if one["agent"] == item["agent"] and one["kind"] == "messages"]
        return Booked(item, tuple((one, ids.decode(one)) for one in same))

    try:
        found: Booked = await visit.ask(question)
    except NoBooks:
        return Booked()
    return found
