"""What the gate decides about a request that it lets through (`access/`), for the path that serves it (`proxy/`)."""

from __future__ import annotations

from typing import NamedTuple


class Admission(NamedTuple):
    """The terms on which a request passes. Limits of a client key will stand here too.

    Attributes:
        key: name of the client key that the request showed; None where no key is asked for.
        withheld: names (lower-case) of the header fields that carried that key, so they do not go upstream.
    """

    key: str | None = None
    withheld: frozenset[bytes] = frozenset()


OPEN = Admission()
"""The admission of a request that needed no key."""
