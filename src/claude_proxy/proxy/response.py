"""An upstream's response, as the path sees it: a connection, or a codec that stands before one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from claude_proxy.errors import ProxyError
from claude_proxy.proxy.headers import Header


class Response(Protocol):
    """What an attempt brings, the relay moves, and nobody else needs to know about its source.

    Attributes:
        status, headers: as the upstream sent them; names lower-case, order kept.
        fields: the same headers by name, the last of several.
        finished: whether the body has ended and been read.
        broken: why the body will never end, once what did arrive has been read; None otherwise.
        passing: called with bytes as they arrive while somebody waits in `read`; True if it took them. A source that
            cannot do that never calls it.
    """

    status: int
    headers: list[Header]
    fields: dict[bytes, bytes]
    passing: Callable[[bytes], bool] | None

    @property
    def finished(self) -> bool: ...
    @property
    def broken(self) -> ProxyError | None: ...

    def take(self) -> bytes:
        """The bytes of the body that are here already; does not wait."""

    async def read(self) -> bytes | None:
        """The next bytes of the body; b"" at its end, None after `nudge`.

        Raises:
            ConnectionLost, BadResponse: as in `broken`.
        """

    def nudge(self) -> None:
        """Wake a `read` that waits, so that its caller can look at the time."""

    def release_headers(self) -> None:
        """The headers are not needed any more."""

    def abort(self) -> None:
        """Nobody will read the rest."""
