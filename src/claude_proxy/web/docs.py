"""`/docs` (Swagger UI), `/redoc` and `/static`: all served locally, nothing from a CDN."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from claude_proxy.web import assets
from claude_proxy.web.address import address_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_FILES = {
    "icon": "icon.svg",
    "docs_css": "docs.css",
    "docs_js": "docs.js",
    "swagger_css": "vendor/swagger-ui/swagger-ui.css",
    "swagger_js": "vendor/swagger-ui/swagger-ui-bundle.js",
    "redoc_js": "vendor/redoc/redoc.standalone.js",
}
# Both viewers insert style elements; neither may load from or send to another origin.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _page(name: str, request: Request) -> Response:
    links = address_of(request).links
    values = {key: links + assets.versioned(file) for key, file in _FILES.items()}
    values |= {"links": links or "./", "title": request.app.title}
    html = assets.template(name).substitute({key: escape(value) for key, value in values.items()})
    headers = {
        "cache-control": "no-cache",
        "content-security-policy": _POLICY,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(html, headers=headers)


async def _swagger(request: Request) -> Response:
    return _page("swagger.html", request)


async def _redoc(request: Request) -> Response:
    return _page("redoc.html", request)


def docs() -> list[BaseRoute]:
    """Return the routes of the two viewers and of the files they need."""
    return [
        Route("/docs", _swagger, name="docs"),
        Route("/redoc", _redoc, name="redoc"),
        Mount("/static", assets.Assets(), name="static"),
    ]
