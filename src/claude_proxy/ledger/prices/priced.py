"""What a price says: an amount, the id of the price it came from, and how the amount is known."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Provenance(enum.StrEnum):
    """How a number is known. Every number that a person sees has one."""

    REPORTED = "reported"  # the upstream said it
    COMPUTED = "computed"  # a price times what the upstream reported
    ESTIMATED = "estimated"  # derived; shown with "~"
    UNPRICED = "unpriced"  # no price is known; never shown as zero


class Priced(NamedTuple):
    """The cost of one exchange.

    Attributes:
        nano_dollars: billionths of a US dollar; None if no price is known, which is not the same as 0.
        price_id: names the price it was computed with (`anthropic/claude-opus-5-5.d1936f`); None if unpriced.
        provenance: COMPUTED or UNPRICED.
    """

    nano_dollars: int | None
    price_id: str | None
    provenance: Provenance


UNPRICED = Priced(None, None, Provenance.UNPRICED)
