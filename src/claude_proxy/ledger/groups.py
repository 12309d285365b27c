"""What sums can be grouped and filtered by. Nothing here needs a database."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from claude_proxy.ledger.periods import PERIODS

Dimension: TypeAlias = Literal["session", "project", "model", "agent", "class", "client", "upstream", "account"]
By: TypeAlias = Literal[
    "hour", "day", "week", "month", "window", "session", "project", "model", "agent", "class", "client", "upstream", "account"
]  # one Literal, so that OpenAPI and error messages list all values together
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
BY: tuple[By, ...] = get_args(By)
TIMES: tuple[By, ...] = (*PERIODS, "window")  # groups of these are sorted by time, others by cost
