"""What sums can be grouped and filtered by. Nothing here needs a database."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from claude_proxy.ledger.periods import PERIODS, Period

Dimension: TypeAlias = Literal["session", "project", "model", "agent", "class", "client", "upstream", "account"]
By: TypeAlias = Period | Literal["window"] | Dimension
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
TIMES: tuple[By, ...] = (*PERIODS, "window")  # groups of these stand in the order of time
BY: tuple[By, ...] = (*TIMES, *DIMENSIONS)
