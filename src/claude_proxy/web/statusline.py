"""`POST /api/v1/statusline`: takes Claude Code's JSON and returns one line of text.

Errors are one line of plain text too, because the client shows the body in a terminal as it is.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

# FastAPI reads this from an annotation, at runtime
from starlette.requests import ClientDisconnect, Request

from claude_proxy.access.peers import is_local
from claude_proxy.errors import BodyTimeout, BodyTooLarge, ProxyError, Unauthorized
from claude_proxy.observe.credentials import mark, marks
from claude_proxy.protocol.status_line import COLUMNS, MAX_INPUT, read_client, render

if TYPE_CHECKING:
    from claude_proxy.observe.sessions import Sessions
    from claude_proxy.observe.status import StatusSource
    from claude_proxy.settings import Settings

PATH = "/api/v1/statusline"
READ_TIMEOUT = 5.0  # seconds for 2 KB
NO_STORE = {"cache-control": "no-store"}


class Door:
    """Decides who may ask about a session: local peers, requests with one of our keys, and the session's own client.

    Args:
        settings: PROXY_API_KEY, ADMIN_TOKEN, and whether the proxy holds a credential.
        sessions: know the credentials of each session.
    """

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        keys = (settings.proxy_api_key, settings.admin_token)
        self._keys = [mark(key.get_secret_value().encode()) for key in keys if key is not None]
        self._sessions = sessions
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """A reload may change whether the proxy holds a credential."""
        # In this case the path serves only local peers, and clients send a placeholder instead of a credential.
        self._local_only = settings.proxy_api_key is None and settings.upstream_api_key is not None

    def check(self, scope: MutableMapping[str, Any], session: str | None) -> None:
        """Accept or refuse a request.

        Raises:
            Unauthorized: the request has none of the accepted credentials.
        """
        if is_local(scope):
            return
        shown = marks(scope["headers"])
        if any(hmac.compare_digest(one, key) for one in shown for key in self._keys):
            return
        if not self._local_only and session is not None and self._sessions.showed(session, shown):
            return
        raise Unauthorized(
            "From another machine the status line needs the credential that this session itself sends, or PROXY_API_KEY or "
            "ADMIN_TOKEN, as a bearer token or x-api-key.",
            code="status_line_key",
        )


def statusline(source: StatusSource, door: Door) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["This proxy"])

    async def line(
        request: Request,
        columns: Annotated[str, Query(description="Width of the terminal. Default: 120.")] = "",
        color: Annotated[str, Query(description="0 for no ANSI colours.")] = "",
    ) -> PlainTextResponse:
        """One line about a session: model, cost, tokens, cache, context, quota, and upstream errors.

        The body is the JSON that Claude Code gives its status command. Any other body gives a line without session data.
        """
        try:
            client = read_client(await body_of(request))
            door.check(request.scope, client.session)
        except ProxyError as error:
            headers = {**NO_STORE, "x-claude-proxy-error": error.code}
            return PlainTextResponse(f"claude-proxy: {error.message}\n", error.status, headers)
        status = await source.status(client)
        width = int(columns[:5]) if columns.isascii() and columns.isdigit() else COLUMNS
        return PlainTextResponse(render(status, width, color=color != "0") + "\n", headers=NO_STORE)

    example = {"session_id": "6f1c…", "model": {"display_name": "GLM-5.3"}, "context_window": {"used_percentage": 42}}
    body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}, "example": example}}}
    router.add_api_route(
        PATH,
        line,
        methods=["POST"],
        response_class=PlainTextResponse,
        summary="Claude Code's status line",
        openapi_extra={"requestBody": body},
        responses={401: {"description": "A sentence: which credential is missing", "content": {"text/plain": {}}}},
    )
    return router


async def body_of(request: Request) -> bytes:
    """The body, bounded in size and time.

    Raises:
        BodyTooLarge: it exceeds MAX_INPUT.
        BodyTimeout: it is not complete after READ_TIMEOUT.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            async for part in request.stream():
                size += len(part)
                if size > MAX_INPUT:
                    raise BodyTooLarge(f"The status line's input has at most {MAX_INPUT // 1024} KB.")
                parts.append(part)
    except TimeoutError:
        raise BodyTimeout(f"The status line's input did not come within {READ_TIMEOUT:g} seconds.") from None
    except ClientDisconnect:
        return b""
    return b"".join(parts)
