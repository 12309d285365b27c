"""Capture's part on the path: it keeps references to passing bytes, within a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Header, Tap
from claude_proxy.ledger.capture.options import MAX_BODY, Parcel

STEP = 64 * 1024  # bytes by which an answer's share of what may be in flight grows
CHUNK = 64  # bytes that a chunk takes besides its data


class Keeper(Protocol):
    """Limits how much may be kept, and takes finished exchanges."""

    def reserve(self, size: int) -> bool:
        """Reserve bytes in flight; returns whether there is room."""

    def release(self, size: int) -> None:
        """Count so many bytes less."""

    def wants(self, exchange: Exchange) -> bool:
        """Whether to store a finished exchange."""

    def take(self, parcel: Parcel) -> None:
        """Take a finished exchange, with the bytes reserved for it."""

    def lose(self) -> None:
        """Count an exchange that there was no room for."""


class CaptureTap(Tap):
    """Collects one exchange. When there is no room for it, it drops everything and ignores the rest.

    Args:
        keeper: as above.
    """

    at_once = False
    __slots__ = (
        "_chunks", "_cut", "_full", "_held", "_keeper", "_request", "_request_headers", "_response_headers", "_room",
        "_size", "_whole",
    )  # fmt: skip

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._request: bytes | None = None
        self._request_headers: list[Header] = []
        self._whole = False
        self._response_headers: list[Header] = []
        self._chunks: list[bytes] = []
        self._size = 0  # of the chunks
        self._room = 0  # of it, reserved
        self._held = 0  # reserved in all
        self._cut = False
        self._full = False  # nothing more is kept, of the answer (`cut`) or at all

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        if self._request is not None or self._full:  # another attempt sends the same
            return
        if len(body) > MAX_BODY:
            body, whole = body[:MAX_BODY], False
        self._request, self._whole = body, whole
        self._request_headers = list(headers)  # the path empties its own
        self._reserve(len(body))

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self._response_headers = list(headers)

    def on_data(self, data: bytes) -> None:
        if self._full:
            return
        self._chunks.append(data)
        self._size += len(data) + CHUNK
        if self._size > self._room:
            self._grow()

    def on_end(self, exchange: Exchange) -> None:
        if self._request is None or not self._keeper.wants(exchange):
            self._let_go()
            return
        exchange.transcript = number = ids.decode(exchange.id)
        chunks, self._chunks = self._chunks, []
        self._keeper.take(
            Parcel(
                *(number, exchange, self._request_headers, self._request, self._whole),
                *(self._response_headers, chunks, self._cut, self._held),
            )
        )
        self._held = 0

    def _grow(self) -> None:
        if self._size > MAX_BODY:
            self._chunks.pop()
            self._cut = self._full = True
        elif self._reserve(wanted := max(STEP, self._size - self._room)):
            self._room += wanted

    def _reserve(self, size: int) -> bool:
        if self._keeper.reserve(size):
            self._held += size
            return True
        self._let_go()
        self._full = True
        self._keeper.lose()
        return False

    def _let_go(self) -> None:
        self._keeper.release(self._held)
        self._held = 0
        self._request, self._request_headers, self._chunks = None, [], []
