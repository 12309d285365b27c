"""From a view to a response: who may look, rendering in a thread, headers, compression, errors as pages."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import Response

from claude_proxy import memory
from claude_proxy.errors import NoBooks, NotFound, ProxyError
from claude_proxy.web.admin import LoginNeeded
from claude_proxy.web.negotiation import prefers_html, takes
from claude_proxy.web.pages.rendering import render
from claude_proxy.web.pages.visit import COOKIE, Page, Site, View, Visit

if TYPE_CHECKING:
    from starlette.requests import Request

    from claude_proxy.web.admin import Check

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send `Origin: null` with our own forms
    "x-content-type-options": "nosniff",
    "vary": "Accept, Accept-Encoding, Accept-Language, Cookie",
}
_LEAST = 1024  # bytes; below, compression gains nothing
_YEAR = 365 * 86_400


def endpoint(view: View, site: Site, admin: Check) -> Callable[[Request], Awaitable[Response]]:
    """The function that answers requests for a view."""

    async def answer(request: Request) -> Response:
        visit = Visit(request, site)
        try:
            await admin(request)
            page = await view.show(visit)
        except LoginNeeded:
            raise  # answered as everywhere (login.py): by a page for a browser, by the envelope for a program
        except ProxyError as error:
            if not prefers_html(request.headers.get("accept", "")):
                raise
            page = refused(visit, error)
        return await answered(visit, page, view.key)

    return answer


def refused(visit: Visit, error: ProxyError) -> Page:
    """An error as a page: what failed and what to do, in the error's own sentence."""
    title = visit.text("shell.not_found" if isinstance(error, NotFound) else "shell.not_possible")
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    again = error.retry_after if isinstance(error, NoBooks) and visit.request.method in ("GET", "HEAD") else None
    return Page("error.html", title, {"sentence": str(error), "again": again}, status=error.status, headers=headers)


async def answered(visit: Visit, page: Page, key: str) -> Response:
    """A page as a response."""
    context = visit.context() | page.context | {"title": page.title, "view": key}
    zipped = takes(visit.request.headers.get("accept-encoding", ""), "gzip")
    body, encoded = await asyncio.to_thread(_written, visit, page, context, zipped=zipped)
    memory.trim_later(asyncio.get_running_loop())
    response = Response(body, page.status, HEADERS | page.headers, media_type="text/html")
    response.headers["content-language"] = visit.language
    if encoded:
        response.headers["content-encoding"] = "gzip"
    if visit.chosen:
        response.set_cookie(COOKIE, visit.chosen, max_age=_YEAR, httponly=True, samesite="lax")
    return response


def _written(visit: Visit, page: Page, context: dict[str, object], *, zipped: bool) -> tuple[bytes, bool]:
    body = render(visit.language, page.template, context).encode()
    if not zipped or len(body) < _LEAST:
        return body, False
    packer = zlib.compressobj(5, zlib.DEFLATED, 31)  # 31: with the header of gzip
    return packer.compress(body) + packer.flush(), True
