"""The page: one file per view, rendered on the server (docs/page.md says how to add one).

A view is a function from a `Visit` to a `Page`: it asks the books, and names a template with plain values. The rest (who may
look, language, headers, compression, errors as pages) is `answering`. `VIEWS` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from claude_proxy.web.pages import now, search, settings, upstreams
from claude_proxy.web.pages.answering import endpoint
from claude_proxy.web.pages.trouble import trouble
from claude_proxy.web.pages.visit import Page, Site, View, Visit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from claude_proxy.web.admin import Check

__all__ = ["VIEWS", "Page", "Site", "View", "Visit", "install_pages"]

VIEWS = (
    View("upstreams", "/upstreams", upstreams.show),
    View("settings", "/settings", settings.show),
    View("", "/search", search.show),
)
NOW = View("now", "/", now.show)


def install_pages(app: FastAPI, site: Site, admin: Check) -> Callable[[Request], Awaitable[Response]]:
    """Add the views to `app`.

    Args:
        site: what they read.
        admin: refuses who may not look.

    Returns:
        what answers a browser at `/`, which is JSON for programs.
    """
    routes = [Route(view.path, endpoint(view, site, admin), name=f"page {view.path}") for view in VIEWS]
    app.router.routes.extend([*routes, trouble(site, admin)])
    return endpoint(NOW, site, admin)
