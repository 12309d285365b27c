"""Who may see what this proxy knows (the page, the API, /metrics): its own machine, and clients with ADMIN_TOKEN."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

# FastAPI reads this from an annotation, at runtime
from starlette.requests import Request

from claude_proxy.access.peers import is_local
from claude_proxy.errors import Unauthorized

if TYPE_CHECKING:
    from pydantic import SecretStr

CHALLENGE = 'Bearer realm="claude-proxy"'  # WWW-Authenticate goes with a 401 (RFC 9110 section 11.6.1)
Check = Callable[[Request], Awaitable[None]]


def require_admin(token: SecretStr | None) -> Check:
    """A FastAPI dependency that lets this machine's own peers pass, and others with the token as a bearer (RFC 6750).

    Host and Origin have been checked by then (`App`), so that a web page cannot borrow this machine's place.

    Args:
        token: ADMIN_TOKEN; without one nobody passes from another machine.

    Raises:
        Unauthorized: with a sentence on what to do.
    """
    secret = None if token is None else token.get_secret_value().encode()

    async def check(request: Request) -> None:
        if is_local(request.scope) or (secret is not None and shows(request.scope["headers"], secret)):
            return
        if secret is None:
            raise Unauthorized(
                "This is answered to the proxy's own machine only, until ADMIN_TOKEN is set at the proxy. Set it and send it as "
                "`Authorization: Bearer <ADMIN_TOKEN>`.",
                code="admin_token_needed",
            )
        raise Unauthorized(
            "From another machine this needs the proxy's ADMIN_TOKEN, and the request did not show it. Send "
            "`Authorization: Bearer <ADMIN_TOKEN>`.",
            code="admin_token_wrong",
        )

    return check


def shows(headers: Iterable[tuple[bytes, bytes]], secret: bytes) -> bool:
    """Whether an Authorization field holds `secret` as a bearer. The time it takes does not depend on how much of it is right."""
    found = False
    for name, value in headers:
        if name == b"authorization":
            scheme, _, shown = value.partition(b" ")
            found |= scheme.lower() == b"bearer" and hmac.compare_digest(shown.strip(), secret)
    return found
