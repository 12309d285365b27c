"""The page: one file per view, rendered on the server (docs/page.md says how to add one).

A view is a function from a `Visit` to a `Page`: it asks the books, and names a template with plain values. The rest (who may
look, language, headers, compression, errors as pages) is `answering`. `VIEWS` lists them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from starlette.routing import Route

from claude_proxy.web.pages import conversation, exchange, logins, now, search, sessions, settings, upstreams, usage
from claude_proxy.web.pages.answering import endpoint
from claude_proxy.web.pages.conversation_files import PATH as CONVERSATION
from claude_proxy.web.pages.conversation_files import files
from claude_proxy.web.pages.hub import Hub
from claude_proxy.web.pages.pulse import Pulse
from claude_proxy.web.pages.stream import stream
from claude_proxy.web.pages.trouble import trouble
from claude_proxy.web.pages.visit import Page, Site, View, Visit

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from claude_proxy.web.admin import Check

__all__ = ["VIEWS", "Page", "Site", "View", "Visit", "Workers", "install_pages"]

VIEWS = (
    View("sessions", "/sessions", sessions.show),
    View("sessions", "/sessions/{session:path}", sessions.one),
    View("sessions", "/session", sessions.by_id),
    View("sessions", "/exchanges/{id}", exchange.show),
    View("upstreams", "/upstreams", upstreams.show),
    View("settings", "/settings", settings.show),
    View("", "/search", search.show),
    View("usage", "/usage", usage.show),
    View("sessions", CONVERSATION, conversation.show),
    View("sessions", f"{CONVERSATION}/parts/{{part}}", conversation.part),
)


class Workers(Protocol):
    """What the workers of this server tell of themselves, as `observe.seen` makes it."""

    async def look(self) -> list[dict[str, Any]]:
        """All there is."""
        ...

    async def news(self) -> list[dict[str, Any]]:
        """What runs, and what ended since the last call."""
        ...


def install_pages(app: FastAPI, site: Site, admin: Check, workers: Workers) -> Callable[[Request], Awaitable[Response]]:
    """Add the views to `app`.

    Args:
        site: what they read.
        admin: refuses who may not look.
        workers: what runs.

    Returns:
        what answers a browser at `/`, which is JSON for programs.
    """
    pulse = Pulse(site.sources)
    hub = Hub(site.sources.live, pulse, workers.news)
    routes = [Route(view.path, endpoint(view, site, admin), name=f"page {view.path}") for view in VIEWS]
    doctor = endpoint(View("settings", "/settings/doctor", settings.examine), site, admin)
    revoke = endpoint(View("settings", "/settings/logins", logins.revoke), site, admin)
    routes.append(Route("/settings/doctor", doctor, methods=["POST"], name="page /settings/doctor"))
    routes.append(Route("/settings/logins", revoke, methods=["POST"], name="page /settings/logins"))
    app.router.routes.extend([*routes, *files(site, admin), stream(hub, admin), trouble(site, admin)])
    return endpoint(View("now", "/", now.view(pulse, workers.look)), site, admin)
