"""`GET /`: for programs, what this proxy is and how to point a client at it, as JSON; for browsers, the page *Now*."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.web import snippets
from claude_proxy.web.address import Address, address_of
from claude_proxy.web.negotiation import prefers_html
from claude_proxy.web.probes import TAG

if TYPE_CHECKING:
    from claude_proxy.access.viewers import Viewers
    from claude_proxy.web.facts import PageFacts

_LINKS = ("docs", "redoc", "openapi.json", "health", "ready")
_HEADERS = {
    "vary": "Accept, Accept-Language, Cookie",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}, "text/html": {"schema": {"type": "string"}}}}
}


def start(
    facts: Callable[[], PageFacts],
    ready: Callable[[], tuple[bool, str]],
    viewers: Viewers,
    page: Callable[[Request], Awaitable[Response]] | None = None,
) -> APIRouter:
    """Return the route of `/`. Those who may not look get a JSON that says what this is, browsers a 401.

    Args:
        page: answers browsers; without one they get JSON too.
    """
    router = APIRouter(tags=[TAG])

    async def start_page(request: Request) -> Response:
        """What this proxy is, whether it accepts requests, and what a client has to set: JSON, or a page for a browser."""
        if page is not None and prefers_html(request.headers.get("accept", "")):
            return await page(request)
        state = "ready" if ready()[0] else "draining"
        told = as_json if await viewers.viewer(request.scope) is not None else for_strangers
        body = json.dumps(told(facts(), state, address_of(request)), indent=2, ensure_ascii=False)
        return Response(f"{body}\n", media_type="application/json", headers=_HEADERS)

    router.add_api_route("/", start_page, response_class=Response, responses=_DESCRIBED, summary="What is this?")
    router.add_api_route("/", start_page, methods=["HEAD"], include_in_schema=False)
    return router


def as_json(facts: PageFacts, state: str, address: Address) -> dict[str, object]:
    """Return the start page for programs.

    Args:
        state: "ready" or "draining".
    """
    base_url = address.to(facts.prefix)
    return {
        "name": "claude-proxy",
        "what": "A self-hosted proxy for the Anthropic API.",
        "version": facts.version,
        "status": state,
        "base_url": base_url,
        "environment": snippets.environment(base_url, facts),
        "upstreams": [{"name": upstream.name, "base_url": upstream.base_url} for upstream in facts.upstreams],
        "holds_credential": facts.holds_credential,
        "needs_key": facts.needs_key,
        "notices": facts.notices,
        "links": {name.removesuffix(".json"): address.to(f"/{name}") for name in _LINKS},
    }


def for_strangers(facts: PageFacts, state: str, address: Address) -> dict[str, object]:
    """Return what a program may know that may not look: what this is, and what is open to all."""
    return {
        "name": "claude-proxy",
        "what": "A self-hosted proxy for the Anthropic API.",
        "status": state,
        "base_url": address.to(facts.prefix),
        "links": {name.removesuffix(".json"): address.to(f"/{name}") for name in (*_LINKS, "login")},
    }
