"""`/trouble`: whether something needs a person. A background tab, which has no event stream, shows it in its title and icon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from claude_proxy.observe.machine import UP

if TYPE_CHECKING:
    from starlette.requests import Request

    from claude_proxy.web.admin import Check
    from claude_proxy.web.pages.visit import Site


def trouble(site: Site, admin: Check) -> Route:
    """The route; the page asks it every 30 seconds."""

    async def answer(request: Request) -> Response:
        await admin(request)
        body = msgspec.json.encode({"status": "ready" if site.ready()[0] else "draining", "trouble": await in_trouble(site)})
        return Response(body, media_type="application/json", headers={"cache-control": "no-store"})

    return Route("/trouble", answer, name="trouble")


async def in_trouble(site: Site) -> bool:
    """Whether an upstream is out of rotation, an incident is open, or the proxy is shutting down."""
    sources = site.sources
    failing = any(incident["failing"] for incident in await sources.incidents())
    if failing or not site.ready()[0]:
        return True
    return any(one["state"] != UP for one in (await sources.machine.upstreams()).items)
