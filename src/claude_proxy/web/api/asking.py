"""What every route of `/api/v1` shares: questions to the books, answers, errors in the one envelope."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from claude_proxy.errors import BadRequest, NoBooks, NotFound
from claude_proxy.ledger import periods, when
from claude_proxy.ledger.options import NotReadable, TooSlow

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books
    from claude_proxy.ledger.reader import Reader
    from claude_proxy.observe.live import Live
    from claude_proxy.observe.machine import Found, Machine
    from claude_proxy.web.api.parameters import OfTime

Responses: TypeAlias = dict[int | str, dict[str, Any]]
NO_RESPONSES: Responses = {}
HEADERS = {"cache-control": "no-store"}


class Asked(Protocol):
    """A question that is put to the books, in a thread."""

    def __call__(self, books: Books, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What the API reads; the wiring gives it, so that this room knows no other's insides.

    Attributes:
        timezone: whose days are meant where a request names no zone.
        machine: what all workers do; `live` has the events of all of them.
        incidents, settings: items as `models` describes them; called on the event loop.
        wall: Unix seconds.
    """

    reader: Reader
    live: Live
    machine: Machine
    timezone: str
    incidents: Callable[[], Awaitable[list[dict[str, Any]]]]
    settings: Callable[[], list[dict[str, Any]]]
    wall: Callable[[], float] = time.time


async def ask(reader: Reader, question: Asked) -> Any:
    """Put a question to the books.

    Raises:
        BadRequest: an argument of it says nothing usable.
        NoBooks: the books cannot answer.
    """
    try:
        return await reader.ask(question)
    except ValueError as error:
        raise BadRequest(str(error), code="bad_parameter") from None
    except TooSlow as error:
        raise NoBooks(str(error), code="too_slow") from None
    except NotReadable as error:
        raise NoBooks(str(error), retry_after=error.retry_after) from None


async def answer(reader: Reader, question: Asked, missing: str = "") -> Response:
    """The answer to a question as JSON, written in the same thread.

    Args:
        missing: a sentence for the case that the question finds None.

    Raises:
        BadRequest, NoBooks: as `ask`.
        NotFound: it found None.
    """

    def encoded(books: Books) -> bytes | None:
        found = question(books)
        return None if found is None else msgspec.json.encode(found)

    body = await ask(reader, encoded)
    if body is None:
        raise NotFound(missing)
    return Response(body, headers=HEADERS, media_type="application/json")


def listed(items: list[dict[str, Any]]) -> Response:
    """Items as JSON."""
    return Response(msgspec.json.encode({"items": items}), headers=HEADERS, media_type="application/json")


def of_all(found: Found) -> Response:
    """Items of all workers as JSON."""
    body = msgspec.json.encode({"items": found.items, "silent_workers": found.silent})
    return Response(body, headers=HEADERS, media_type="application/json")


def span(query: OfTime, timezone: str, now: float) -> dict[str, float | None]:
    """`since` and `until` of a request, in Unix seconds.

    Raises:
        ValueError: a sentence.
    """
    where = periods.zone(query.timezone or timezone)
    since = when.moment(query.since, where, now) if query.since else None
    until = when.moment(query.until, where, now, end=True) if query.until else None
    when.check_order(since, until)
    return {"since": since, "until": until}


def get(router: APIRouter, path: str, endpoint: Any, model: Any, summary: str, responses: Responses = NO_RESPONSES) -> None:
    """Add a route for GET, and HEAD beside it."""
    described = {**COMMON, **responses}
    router.add_api_route(path, endpoint, response_model=model, responses=described, summary=summary)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False, response_model=None)


_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def error(description: str) -> dict[str, Any]:
    """How OpenAPI describes an error of ours."""
    return {"description": description, "content": _ERROR}


COMMON: Responses = {
    400: error("A parameter cannot be used; the message says which"),
    401: error("Without a login or ADMIN_TOKEN, from another machine or where ADMIN_TOKEN is set"),
}
BOOKS: Responses = {503: error("The books cannot answer: off, locked, not there yet, or it takes over a second")}
