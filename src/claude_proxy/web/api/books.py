"""`/api/v1/exchanges`, `/sessions`, `/usage`, `/quota` and the export: what the ledger holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

# FastAPI reads these from annotations, at runtime
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from claude_proxy.cleaning import clean
from claude_proxy.ledger import csv
from claude_proxy.ledger.groups import DIMENSIONS
from claude_proxy.web.admin import watched
from claude_proxy.web.api import models
from claude_proxy.web.api.asking import BOOKS, COMMON, HEADERS, Responses, Sources, answer, ask, error, get, span
from claude_proxy.web.api.parameters import Export, OfExchanges, OfUsage, PageOfExchanges, PageOfSessions

CHUNK = 500  # exchanges of one read of an export


def add_books(router: APIRouter, sources: Sources) -> None:
    """Add the routes."""
    _exchanges(router, sources)
    _sessions(router, sources)
    _sums(router, sources)


def _exchanges(router: APIRouter, sources: Sources) -> None:
    reader = sources.reader

    async def exchanges(query: Annotated[PageOfExchanges, Query()]) -> Response:
        """Finished exchanges, newest first."""
        return await answer(reader, lambda books: books.exchanges(query.limit, query.before, **_chosen(query, sources)))

    async def export(request: Request, query: Annotated[Export, Query()]) -> StreamingResponse:
        """All exchanges that fit, newest first, streamed. A fault on the way breaks the answer off, and so does the end of the
        reader's login."""
        first = await _chunk(sources, query, None)
        kind = "text/csv; charset=utf-8" if query.format == "csv" else "application/json"
        headers = HEADERS | {"content-disposition": f'attachment; filename="exchanges.{query.format}"'}
        return _ExportResponse(request, _written(sources, query, first), kind, headers)

    async def exchange(id: str) -> Response:
        """One exchange, with its attempts. The id is understood as people type it."""
        missing = f"No exchange {clean(id, 40)} is in the ledger: it may not have ended yet, or be older than what is kept."
        return await answer(reader, lambda books: books.exchange(id), missing)

    get(router, "/exchanges", exchanges, models.Exchanges, "Exchanges, page by page", BOOKS)
    files: Responses = {200: {"content": {"text/csv": {}, "application/json": {}}}, **COMMON, **BOOKS}
    described: dict[str, Any] = {"responses": files, "summary": "Exchanges as CSV or JSON"}
    router.add_api_route("/exchanges/export", export, response_class=StreamingResponse, response_model=None, **described)
    get(router, "/exchanges/{id}", exchange, models.WholeExchange, "One exchange", BOOKS | {404: error("It is not there")})


class _ExportResponse(StreamingResponse):
    """A file in the making. It is broken off when its viewer may no longer look, so that nobody takes what came for the whole."""

    def __init__(self, request: Request, parts: AsyncIterator[bytes], media_type: str, headers: dict[str, str]) -> None:
        super().__init__(parts, media_type=media_type, headers=headers)
        self._request = request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                with watched(self._request, lambda: limit.reschedule(0.0)):
                    await super().__call__(scope, receive, send)
        except TimeoutError:
            if not limit.expired():
                raise  # to return with the body incomplete closes the connection without a proper end


def _chosen(query: OfExchanges, sources: Sources) -> dict[str, Any]:
    times = span(query, sources.timezone, sources.wall())
    return {"session": query.session, "model": query.model, "status": query.status, **times}


async def _chunk(sources: Sources, query: Export, before: str | None) -> tuple[bytes, str | None]:
    """The next exchanges as they stand in the file, and the cursor behind them; a short read of its own."""
    write = csv.exchanges if query.format == "csv" else _lines

    def read(books: Any) -> tuple[bytes, str | None]:
        page = books.exchanges(CHUNK, before, **_chosen(query, sources))
        return write(page["items"]), page["next"]

    found: tuple[bytes, str | None] = await ask(sources.reader, read)
    return found


async def _written(sources: Sources, query: Export, first: tuple[bytes, str | None]) -> AsyncIterator[bytes]:
    in_json = query.format == "json"
    yield b"[\n" if in_json else csv.EXCHANGE_HEAD
    data, cursor = first
    yield data
    while cursor is not None:
        data, cursor = await _chunk(sources, query, cursor)
        yield b",\n" + data if in_json and data else data
    if in_json:
        yield b"\n]\n"


def _lines(items: list[dict[str, Any]]) -> bytes:
    return b",\n".join(msgspec.json.encode(item) for item in items)


def _sessions(router: APIRouter, sources: Sources) -> None:
    reader = sources.reader

    async def sessions(query: Annotated[PageOfSessions, Query()]) -> Response:
        """Sessions of Claude Code with their sums, the one that was active last first."""
        return await answer(
            reader, lambda books: books.sessions(query.limit, query.before, project=query.project, session=query.session)
        )

    async def session(id: str) -> Response:
        """One session, with its agents."""
        return await answer(reader, lambda books: books.session(id), f"No session {clean(id, 80)} is in the ledger.")

    get(router, "/sessions", sessions, models.Sessions, "Sessions, page by page", BOOKS)
    get(router, "/sessions/{id:path}", session, models.Session, "One session", BOOKS | {404: error("It is not there")})


def _sums(router: APIRouter, sources: Sources) -> None:
    reader = sources.reader

    async def usage(query: Annotated[OfUsage, Query()]) -> Response:
        """Tokens, cost and credits over a time, in groups. Filters scope the numbers, not only the rows."""

        def sums(books: Any) -> Any:
            times = span(query, sources.timezone, sources.wall())
            groups = {"breakdown": query.breakdown, "limit": query.limit, "filters": _filters(query)}
            return books.usage(query.by, timezone=query.timezone or sources.timezone, **groups, **times)

        if query.format == "json":
            return await answer(reader, sums)
        body = await ask(reader, lambda books: csv.usage(sums(books), breakdown=query.breakdown))
        headers = HEADERS | {"content-disposition": 'attachment; filename="usage.csv"'}
        return Response(body, headers=headers, media_type="text/csv; charset=utf-8")

    async def quota() -> Response:
        """How much of each plan is used, by its provider's count and ours."""
        return await answer(reader, lambda books: books.quota())

    get(router, "/usage", usage, models.UsageReport, "Sums in groups", BOOKS)
    get(router, "/quota", quota, models.Quotas, "Plans and their windows", BOOKS)


def _filters(query: OfUsage) -> dict[Any, str]:
    given = query.model_dump(by_alias=True, include={"class_", *DIMENSIONS})
    return {name: text for name, text in given.items() if text is not None}
