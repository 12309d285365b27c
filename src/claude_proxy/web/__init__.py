"""The page, the API, its docs and the probes: everything served here that is not proxied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.access.viewers import Viewers
from claude_proxy.errors import ProxyError, Unauthorized, render
from claude_proxy.web.admin import CHALLENGE
from claude_proxy.web.description import describe
from claude_proxy.web.docs import docs
from claude_proxy.web.facts import PageFacts, Upstream
from claude_proxy.web.login import login, refused_page
from claude_proxy.web.missing import not_found, wrong_method
from claude_proxy.web.probes import probes
from claude_proxy.web.start import start
from claude_proxy.web.statusline import Door, statusline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

    from claude_proxy.observe.status import StatusSource

__all__ = ["Door", "PageFacts", "Upstream", "install", "not_found"]


def install(
    app: FastAPI,
    facts: Callable[[], PageFacts],
    ready: Callable[[], tuple[bool, str]],
    status: tuple[StatusSource, Door] | None = None,
    viewers: Viewers | None = None,
    page: Callable[[Request], Awaitable[Response]] | None = None,
) -> None:
    """Add `/`, `/login`, `/health`, `/ready`, `/docs`, `/redoc`, `/static`, the API and the answers for everything else to `app`.

    Args:
        app: with `docs_url=None`, `redoc_url=None` and its `/openapi.json` left on.
        facts: returns what the pages show; called for each page.
        ready: returns whether new requests are accepted, and if not, a sentence saying why.
        status: builds the status line, and decides who may ask for it.
        viewers: decides who may look; by default this machine's own peers.
        page: answers browsers at `/`, as `pages.install_pages` returns it.
    """
    viewers = viewers or Viewers()
    app.include_router(start(facts, ready, viewers, page))
    app.include_router(login(viewers))
    app.include_router(probes(facts, ready))
    if status is not None:
        app.include_router(statusline(*status))
    app.router.routes.extend(docs())
    describe(app, facts)

    async def missing(request: Request, _: Exception) -> Response:
        return not_found(request, facts().prefix)

    async def refused(request: Request, error: Exception) -> Response:
        allow = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
        return wrong_method(request, allow)

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProxyError)
        return refused_page(request, error, viewers) or refusal(error)

    app.add_exception_handler(ProxyError, failed)
    app.add_exception_handler(404, missing)
    app.add_exception_handler(405, refused)


def refusal(error: ProxyError) -> Response:
    """An error of a page or of the API, in the envelope of all our errors."""
    rendered = render(error)
    response = Response(rendered.body, rendered.status)
    response.raw_headers = [*rendered.headers, (b"cache-control", b"no-store")]
    if isinstance(error, Unauthorized):
        response.headers["www-authenticate"] = CHALLENGE
    return response
