"""What the gate (`access/`) decides about a request that it admits, for the code that serves it (`proxy/`)."""

from __future__ import annotations

from typing import NamedTuple


class Admission(NamedTuple):
    """The terms on which a request was admitted. The limits of a client key will be added here.

    Attributes:
        key: name of the client key that the request carried; None if no key is required.
        withheld: names (lower-case) of the header fields that carried that key and must not be sent upstream.
    """

    key: str | None = None
    withheld: frozenset[bytes] = frozenset()


OPEN = Admission()
"""The admission of a request for which no key is required."""
