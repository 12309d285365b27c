"""`/api/v1`: the books and the running proxy as JSON, for scripts and for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.web import refusal
from claude_proxy.web.api.asking import Sources
from claude_proxy.web.api.books import add_books
from claude_proxy.web.api.logins import add_logins
from claude_proxy.web.api.parameters import unusable
from claude_proxy.web.api.running import HEARTBEAT, add_running

if TYPE_CHECKING:
    from claude_proxy.access.logins import Logins
    from claude_proxy.web.admin import Check

__all__ = ["Sources", "install_api"]

PREFIX = "/api/v1"
TAG = "Books and status"


def install_api(
    app: FastAPI, sources: Sources, admin: Check, logins: Logins | None = None, *, heartbeat: float = HEARTBEAT
) -> None:
    """Add `/api/v1` to `app`.

    Args:
        sources: what it reads.
        admin: refuses who may not read it.
        logins: are listed and revoked.
        heartbeat: seconds of silence after which a reader of events gets one.
    """
    router = APIRouter(prefix=PREFIX, tags=[TAG], dependencies=[Depends(admin)])
    add_books(router, sources)
    add_running(router, sources, heartbeat)
    if logins is not None:
        add_logins(router, logins)
    app.include_router(router)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refusal(unusable(error))

    app.add_exception_handler(RequestValidationError, invalid)
