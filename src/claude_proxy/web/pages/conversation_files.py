"""What a conversation gives besides its page: the request's JSON, a curl command, its images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from claude_proxy.errors import NotFound
from claude_proxy.web.pages.conversation import ask, is_index, number_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from claude_proxy.web.admin import Check
    from claude_proxy.web.pages.visit import Site

# A document of its own, without scripts, forms or the page's origin: what is in it was written by others.
HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
PATH = "/exchanges/{id}/conversation"
GONE = "This is not stored, or not any more."
Answer = Callable[["Request", int], Awaitable[Response]]


def files(site: Site, admin: Check) -> list[Route]:
    """The routes."""

    async def raw(_: Request, number: int) -> Response:
        text = await ask(site, lambda kept: kept.raw(number))
        return _response(text, "application/json")

    async def curl(_: Request, number: int) -> Response:
        text = await ask(site, lambda kept: kept.curl(number))
        return _response(text, "text/plain; charset=utf-8")

    async def image(request: Request, number: int) -> Response:
        part = request.path_params["part"]
        found = await ask(site, lambda kept: kept.image(number, int(part))) if is_index(part, 10**6) else None
        if found is None:
            raise NotFound(GONE)
        return Response(found[1], headers=HEADERS, media_type=found[0])

    return [
        Route(f"{PATH}/raw", _guarded(admin, raw), name="conversation raw"),
        Route(f"{PATH}/curl", _guarded(admin, curl), name="conversation curl"),
        Route(f"{PATH}/images/{{part}}", _guarded(admin, image), name="conversation image"),
    ]


def _guarded(admin: Check, make: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        await admin(request)
        return await make(request, number_of(str(request.path_params["id"])))

    return answer


def _response(text: str | None, media_type: str) -> Response:
    if text is None:
        raise NotFound(GONE)
    return Response(text.encode("utf-8", "replace"), headers=HEADERS, media_type=media_type)
