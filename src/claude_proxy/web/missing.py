"""Responses for unknown paths: in Anthropic's error envelope, because the caller is usually an SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from claude_proxy.errors import BadRequest, NotFound, ProxyError, render
from claude_proxy.proxy.mistaken import NO_VERSION, fault, is_meant_for_api
from claude_proxy.web.address import address_of, root_of

if TYPE_CHECKING:
    from starlette.requests import Request

_SHOWN = 200  # characters of a path that a message quotes


def _answer(error: ProxyError, status: int | None = None) -> Response:
    rendered = render(error)
    response = Response(rendered.body, status or rendered.status)
    response.raw_headers = [*rendered.headers, (b"cache-control", b"no-store")]
    return response


def _own_path(request: Request) -> str:
    """Return the path without the prefix of a front proxy."""
    root = root_of(request.scope)
    path: str = request.scope["path"]
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def not_found(request: Request, prefix: str = "/api/anthropic") -> Response:
    """Return a 404 in Anthropic's envelope, marked as ours.

    A path of the Anthropic API means that the client's base URL is wrong: the message says what is missing from the path or
    doubled in it, and gives the right base URL.

    Args:
        prefix: the path under which the API is proxied.
    """
    path = _own_path(request)
    address = address_of(request)
    shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
    if is_meant_for_api(path):
        found = fault(path, prefixes=1)
        also = f" (the path also {found})" if found is not None and found != NO_VERSION else ""
        repair = f"set ANTHROPIC_BASE_URL={address.to(prefix)} in your client and try again."
        if found == NO_VERSION:
            repair = f"this client appends no /v1, so set its base URL to {address.to(prefix)}/v1 and try again."
        return _answer(NotFound(f"The API is not at {shown} of this proxy but under {prefix}{also}: {repair}"))
    start = address.to("/")
    return _answer(NotFound(f"This proxy has nothing at {shown}. The API is at {address.to(prefix)}; {start} says more."))


def wrong_method(request: Request, allow: str) -> Response:
    """Return a 405 in Anthropic's envelope.

    Args:
        allow: the methods that the path supports (RFC 9110 section 10.2.1), such as "GET" (which implies HEAD); "" if unknown.
    """
    if allow == "GET":
        allow = "GET, HEAD"
    takes = f"takes only {allow}" if allow else "does not take that"
    error = BadRequest(f"{request.method} cannot be used here: this page {takes}.", code="wrong_method")
    response = _answer(error, 405)
    if allow:
        response.headers["allow"] = allow
    return response
