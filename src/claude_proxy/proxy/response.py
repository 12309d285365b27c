"""An upstream's response, as the path sees it: a connection, or a codec in front of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from claude_proxy.errors import ProxyError
from claude_proxy.proxy.headers import Header


class Response(Protocol):
    """The response to an attempt, wherever it comes from.

    Attributes:
        status, headers: as the upstream sent them; names lower-case, order kept.
        fields: the same headers by name, the last of several.
        finished: whether the body has ended and been read.
        broken: why the body cannot be completed, once what did arrive has been read; None otherwise.
        passing: called with bytes as they arrive during a `read`; returns True if it took them. A source that cannot do
            that never calls it.
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
        """The bytes of the body that have arrived already; does not wait."""

    async def read(self) -> bytes | None:
        """The next bytes of the body; b"" at its end, None after `nudge`.

        Raises:
            ConnectionLost, BadResponse: as in `broken`.
        """

    def nudge(self) -> None:
        """Wake a waiting `read`, so that its caller can check the time."""

    def release_headers(self) -> None:
        """Drop the headers, which are no longer needed."""

    def abort(self) -> None:
        """Close it: the rest will not be read."""
