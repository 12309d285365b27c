"""The page: one file per view, rendered on the server (docs/page.md says how to add one).

A view is a function from a `Visit` to a `Page`: it asks the books, and names a template with plain values. The rest (who may
look, language, headers, compression, errors as pages) is `answering`. `VIEWS` lists them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from claude_proxy.web.pages import now, search, settings, upstreams
from claude_proxy.web.pages.answering import endpoint
from claude_proxy.web.pages.hub import Hub
from claude_proxy.web.pages.pulse import Pulse
from claude_proxy.web.pages.stream import stream
from claude_proxy.web.pages.trouble import trouble
from claude_proxy.web.pages.visit import Page, Site, View, Visit

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from claude_proxy.observe.live import Watcher
    from claude_proxy.web.admin import Check

__all__ = ["VIEWS", "Page", "Site", "View", "Visit", "Workers", "install_pages"]

VIEWS = (
    View("settings", "/settings", settings.show),
    View("", "/search", search.show),
)


async def _no_others() -> list[dict[str, Any]]:
    return []


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Workers:
    """What the processes of this server tell of themselves, as `observe.seen.told` makes it, with their `upstreams`.

    Attributes:
        here: this one's, to a watcher.
        others: the others'.
        let_go: called when nobody looks any more.
    """

    here: Callable[[Watcher], dict[str, Any]]
    others: Callable[[], Awaitable[list[dict[str, Any]]]] = _no_others
    let_go: Callable[[], None] = _nothing


def install_pages(app: FastAPI, site: Site, admin: Check, workers: Workers) -> Callable[[Request], Awaitable[Response]]:
    """Add the views to `app`.

    Args:
        site: what they read.
        admin: refuses who may not look.
        workers: what runs.

    Returns:
        what answers a browser at `/`, which is JSON for programs.
    """
    live = site.sources.live
    pulse = Pulse(site.sources)
    hub = Hub(live, pulse, workers.here, workers.others, workers.let_go)

    async def look() -> list[dict[str, Any]]:
        found = [workers.here(live.unwatched()), *await workers.others()]
        if not hub.readers:
            workers.let_go()
        return found

    live_views = (View("upstreams", "/upstreams", upstreams.view(look)),)
    routes = [Route(view.path, endpoint(view, site, admin), name=f"page {view.path}") for view in (*VIEWS, *live_views)]
    doctor = endpoint(View("settings", "/settings/doctor", settings.examine), site, admin)
    routes.append(Route("/settings/doctor", doctor, methods=["POST"], name="page /settings/doctor"))
    app.router.routes.extend([*routes, stream(hub, admin), trouble(site, admin)])
    return endpoint(View("now", "/", now.view(pulse, look, lambda: hub.seen)), site, admin)
