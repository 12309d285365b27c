"""What the simulator saw of one request, and how its answer ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .scenario import Usage

if TYPE_CHECKING:
    from .scenario import Scenario

Outcome = Literal["answered", "cut", "client-left"]


@dataclass(slots=True)
class Recorded:
    """One request as received. Times are loop times (seconds); None if it has not happened (yet)."""

    method: str
    target: bytes
    """The raw request target, percent-encoding and query as sent."""
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    """As on the wire: case, order and duplicates kept."""
    connection: int
    """Which TCP connection, counted from 1."""
    received_at: float
    http_version: str = "1.1"
    body: bytes = field(default=b"", repr=False)
    """Empty if the body is larger than ``keep_body``; ``body_size`` and ``body_sha256`` are still set."""
    body_size: int = 0
    complete: bool = False
    """The body was received in full."""
    completed_at: float | None = None
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list, repr=False)
    outcome: Outcome | None = None
    left_at: float | None = None
    """When the peer closed the connection before our answer was finished."""
    ended_at: float | None = None
    status: int | None = None
    """The status of our answer, once its head has been sent."""
    sent: int = 0
    """Bytes of the answer handed to the socket, head included."""
    model: str = ""
    stream: bool = False
    scenario: Scenario | None = field(default=None, repr=False)
    chosen_by: Literal["header", "model", "scenario", "default"] = "default"
    """What named the scenario."""
    usage: Usage = field(default_factory=Usage)
    """What the bytes sent so far have reported."""
    digest: hashlib._Hash | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The target without its query, as text (latin-1: nothing is lost)."""
        return self.target.partition(b"?")[0].decode("latin-1")

    @property
    def query(self) -> bytes:
        """What follows the first ``?`` of the target."""
        return self.target.partition(b"?")[2]

    @property
    def body_sha256(self) -> str:
        """Hex digest of the body received so far."""
        return (self.digest or hashlib.sha256(self.body)).hexdigest()

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever its case, or None."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> list[str]:
        """Return all values of a header, in order."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]
