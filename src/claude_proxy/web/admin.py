"""Refuses requests of those who may not look at the page, the API and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

# FastAPI reads this from an annotation, at runtime
from starlette.requests import Request

from claude_proxy.access.viewers import bearers_in
from claude_proxy.errors import Unauthorized

if TYPE_CHECKING:
    from claude_proxy.access.viewers import Viewer, Viewers

CHALLENGE = 'Bearer realm="claude-proxy"'  # WWW-Authenticate goes with a 401 (RFC 9110 section 11.6.1)
Check = Callable[[Request], Awaitable[None]]


class LoginNeeded(Unauthorized):
    """401: the sender may not look. Browsers get a page that says how to log in (`login.py`), never a redirect."""

    code = "login_needed"


def require_viewer(viewers: Viewers) -> Check:
    """A FastAPI dependency that lets those pass who may look. `viewer_of` and `watched` then know who it was.

    Raises:
        LoginNeeded: with a sentence on what to do.
        TooManyTries: too many wrong tokens were shown.
    """

    async def check(request: Request) -> None:
        viewer = await viewers.viewer(request.scope)
        if viewer is not None:
            request.state.viewer = viewer
            request.state.viewers = viewers
        elif viewers.has_token:
            wrong = any(bearers_in(request.scope["headers"]))
            raise LoginNeeded(
                "This needs a login or the proxy's ADMIN_TOKEN, and the request showed neither. Send "
                "`Authorization: Bearer <ADMIN_TOKEN>`, or log in with a browser at /login.",
                code="admin_token_wrong" if wrong else None,
            )
        else:
            raise LoginNeeded(
                "From another machine, a container's host or a reverse proxy this needs a login: open the link in the proxy's "
                "log, or one that `claude-proxy login` prints. For programs, set ADMIN_TOKEN at the proxy and send it as "
                "`Authorization: Bearer <ADMIN_TOKEN>`."
            )

    return check


def viewer_of(request: Request) -> tuple[Viewer, Viewers]:
    """Who sent a request that was let pass, and who else may look."""
    return request.state.viewer, request.state.viewers


def watched(request: Request, end: Callable[[], object]) -> AbstractContextManager[None]:
    """A context that calls `end` as soon as the sender of a request, which was let pass, may no longer look."""
    viewer, viewers = viewer_of(request)
    return viewers.streams.watched(viewer, end)
