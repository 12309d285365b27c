"""`/api/v1/logins`: the browsers that are logged in, and logging them out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter
from pydantic import Field

# FastAPI reads these from annotations, at runtime
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.cleaning import clean
from claude_proxy.errors import NotFound
from claude_proxy.web.admin import viewer_of
from claude_proxy.web.api.asking import COMMON, HEADERS, Responses, error, get, listed
from claude_proxy.web.api.models import AT, Answer

if TYPE_CHECKING:
    from claude_proxy.access.login_store import Login
    from claude_proxy.access.logins import Logins


class LoginItem(Answer):
    """A browser that is logged in."""

    id: str = Field(examples=["3f9c02d1a6b87e54"])
    created_at: str = Field(examples=[AT])
    used_at: str = Field(description="When it was last used, up to ten minutes late.", examples=[AT])
    expires_at: str = Field(examples=[AT])
    peer: str = Field(description="The address that it logged in from.", examples=["172.17.0.1"])
    browser: str = Field(description="Its User-Agent.")
    current: bool = Field(description="Whether this request carries its cookie.")


class LoginList(Answer):
    """Logins, the one that was used last first."""

    items: list[LoginItem]


class Revoked(Answer):
    """How many logins were ended."""

    revoked: int


def add_logins(router: APIRouter, logins: Logins) -> None:
    """Add the routes."""

    async def listing(request: Request) -> Response:
        """The browsers that are logged in, the one that was used last first."""
        login = viewer_of(request)[0].login
        current = None if login is None else login.id
        return listed([shown(one, current) for one in await asyncio.to_thread(logins.all)])

    async def revoke(request: Request, id: str) -> Response:
        """Log a browser out. Its event streams and exports end, and it is asked to log in again with its next request."""
        if not await viewer_of(request)[1].revoke(id):
            raise NotFound(f"There is no login {clean(id, 40)}: it has expired or was logged out.")
        return Response(status_code=204, headers={"cache-control": "no-store"})

    async def revoke_others(request: Request) -> Response:
        """Log all browsers out but the one that asks."""
        viewer, viewers = viewer_of(request)
        return Response(
            msgspec.json.encode({"revoked": await viewers.revoke_others(viewer)}), headers=HEADERS, media_type="application/json"
        )

    get(router, "/logins", listing, LoginList, "Who is logged in")
    router.add_api_route(
        "/logins",
        revoke_others,
        methods=["DELETE"],
        response_model=Revoked,
        responses={401: COMMON[401]},
        summary="Log all other browsers out",
    )
    missing: Responses = {401: COMMON[401], 404: error("There is no such login")}
    router.add_api_route(
        "/logins/{id}",
        revoke,
        methods=["DELETE"],
        status_code=204,
        response_class=Response,
        responses=missing,
        summary="Log a browser out",
    )


def shown(login: Login, current: str | None) -> dict[str, Any]:
    """A login as the API shows it.

    Args:
        current: the id of the login that the request carries.
    """
    return {
        "id": login.id,
        "created_at": _iso(login.created_at),
        "used_at": _iso(login.used_at),
        "expires_at": _iso(login.expires_at),
        "peer": login.peer,
        "browser": login.browser,
        "current": login.id == current,
    }


def _iso(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
