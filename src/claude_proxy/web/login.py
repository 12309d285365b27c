"""`/login` and `/logout`, and the answer to a browser that may not look.

The link in the log has its code in the fragment; the page's script puts it into the form and sends the form. A script is not
needed: the code can also be pasted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from fastapi import APIRouter

# FastAPI reads these from annotations, at runtime
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from claude_proxy.access.login_cookie import set_cookie
from claude_proxy.errors import BadRequest, BodyTimeout, BodyTooLarge, ProxyError, TooManyTries
from claude_proxy.web.address import root_of
from claude_proxy.web.admin import LoginNeeded
from claude_proxy.web.login_page import HEADERS, locked_page, login_page
from claude_proxy.web.login_texts import login_texts_in
from claude_proxy.web.negotiation import language_of, prefers_html

if TYPE_CHECKING:
    from claude_proxy.access.viewers import Viewers

MAX_FORM = 16 * 1024  # bytes
READ_TIMEOUT = 5.0  # seconds
_FORM = "application/x-www-form-urlencoded"
_PROGRAM = {"cache-control": "no-store"}


def login(viewers: Viewers) -> APIRouter:
    """Return the routes. They are not described in OpenAPI: programs send ADMIN_TOKEN instead."""
    router = APIRouter(include_in_schema=False)

    async def form(request: Request) -> Response:
        kept, to = viewers.logins.kept, own_place(request.query_params.get("to", ""))
        try:
            logged_in = await viewers.viewer(request.scope) is not None
        except TooManyTries:
            logged_in = False
        return login_page(request, kept, to=to, logged_in=logged_in)

    async def log_in(request: Request) -> Response:
        fields = await form_of(request)
        to = own_place(fields.get("to", ""))
        try:
            value, seconds = await viewers.log_in(request.scope, fields.get("secret", ""))
        except ProxyError as error:
            if not wants_page(request):
                raise
            return _tried(request, viewers, error, to)
        return _done(request, set_cookie(request.scope, value, root_of(request.scope), seconds), to)

    async def log_out(request: Request) -> Response:
        await viewers.log_out(request.scope)
        return _done(request, set_cookie(request.scope, "", root_of(request.scope), 0), "/login")

    router.add_api_route("/login", form, methods=["GET", "HEAD"])
    router.add_api_route("/login", log_in, methods=["POST"])
    router.add_api_route("/logout", log_out, methods=["POST"])
    return router


def refused_page(request: Request, error: ProxyError, viewers: Viewers) -> Response | None:
    """Return the page that says how to log in, for a browser that asks for a page; None for everything else.

    An event stream or a call of a script so gets a 401 with our usual error, and nothing is ever redirected.
    """
    if isinstance(error, LoginNeeded) and wants_page(request) and request.method in ("GET", "HEAD"):
        return locked_page(request, viewers.logins.kept)
    return None


def wants_page(request: Request) -> bool:
    """Whether a browser asks for a whole page, not htmx for a part of one."""
    return prefers_html(request.headers.get("accept", "")) and "hx-request" not in request.headers


def own_place(target: str) -> str:
    """Return `target` if it is a path of ours, with or without a query, else "/"."""
    usable = target.startswith("/") and target.isascii() and target.isprintable() and "\\" not in target and len(target) < 2000
    return target if usable and " " not in target else "/"


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form, bounded in size and time.

    Raises:
        BadRequest: it is not a form.
        BodyTooLarge, BodyTimeout: it exceeds MAX_FORM, or is not complete after READ_TIMEOUT.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise BadRequest(f"Send the login as {_FORM}, with the code or ADMIN_TOKEN in the field `secret`.", code="no_form")
    body = bytearray()
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            async for part in request.stream():
                body += part
                if len(body) > MAX_FORM:
                    raise BodyTooLarge(f"A login form has at most {MAX_FORM // 1024} KB.")
    except TimeoutError:
        raise BodyTimeout(f"The form did not come within {READ_TIMEOUT:g} seconds.") from None
    except ClientDisconnect:
        return {}
    return fields_in(body)


def fields_in(body: bytes | bytearray) -> dict[str, str]:
    """The first value of each field of a form (WHATWG URL section 5).

    Raises:
        BadRequest: it has more than ten.
    """
    try:
        fields = parse_qs(body.decode("latin-1"), max_num_fields=10)
    except ValueError:
        raise BadRequest("The form has too many fields.", code="no_form") from None
    return {name: values[0] for name, values in fields.items()}


def _tried(request: Request, viewers: Viewers, error: ProxyError, to: str) -> Response:
    """The form again, with what went wrong."""
    words = login_texts_in(language_of(request.headers.get("accept-language", ""), request.query_params.get("lang", "")))
    if isinstance(error, TooManyTries):
        message = words.throttled.format(seconds=error.retry_after)
    else:
        message = words.wrong if error.status == 401 else words.failed.format(reason=error.message)
    response = login_page(request, viewers.logins.kept, to=to, status=error.status, message=message)
    response.headers["x-claude-proxy-error"] = error.code
    if error.retry_after is not None:
        response.headers["retry-after"] = str(error.retry_after)
    return response


def _done(request: Request, cookie: str, to: str) -> Response:
    """Set the cookie, and send a browser on.

    The address is relative, so that it is right behind a prefix that we do not know; it begins with a dot, so that `to` cannot
    lead to another host (RFC 3986 section 4.2).
    """
    if wants_page(request):
        return Response(status_code=303, headers=HEADERS | {"location": f".{to}", "set-cookie": cookie})
    return Response(status_code=204, headers=_PROGRAM | {"set-cookie": cookie})
