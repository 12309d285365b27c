"""What somebody chose on *Usage*, and the addresses of other choices. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import urlencode

from claude_proxy.ledger import periods
from claude_proxy.ledger.groups import DIMENSIONS, Dimension
from claude_proxy.ledger.periods import Period

SPANS = ("24h", "7d", "30d", "90d", "366d")
PERIODS: tuple[Period, ...] = get_args(Period)
GROUPS: tuple[Dimension, ...] = ("model", "project", "session", "agent", "class", "client", "upstream", "account")
MEASURES = ("cost", "tokens", "exchanges")
MAX_TEXT = 200
_USUAL: dict[str, Period] = {"24h": "hour", "7d": "day", "30d": "day", "90d": "week", "366d": "month"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shown.

    Attributes:
        span: from when, as `ledger.when` reads it.
        until: up to when; "" for now.
        period: of a bar of the chart.
        by: what the rows of the table are.
        measure: what the chart shows.
        timezone: whose days.
        filters: only what has this model, session, ...; an empty text means "none".
    """

    span: str = "7d"
    until: str = ""
    period: Period = "day"
    by: Dimension = "model"
    measure: str = "cost"
    timezone: str = "UTC"
    filters: Mapping[Dimension, str] = field(default_factory=dict)

    @classmethod
    def of(cls, query: Mapping[str, str], timezone: str) -> Choice:
        """The choice of a query. What is not known in it is left out: a page is not the place to be strict.

        Args:
            timezone: of the settings; used where the browser names none, or one that is not known here.
        """
        span = query.get("since", "")[:MAX_TEXT] or "7d"
        return cls(
            span=span,
            until=query.get("until", "")[:MAX_TEXT],
            period=next((one for one in PERIODS if one == query.get("period")), _USUAL.get(span, "day")),
            by=next((one for one in GROUPS if one == query.get("by")), "model"),
            measure=next((one for one in MEASURES if one == query.get("measure")), "cost"),
            timezone=known_zone(query.get("timezone", ""), timezone),
            filters={name: query[name][:MAX_TEXT] for name in DIMENSIONS if name in query},
        )

    def query(self, **changes: str | None) -> str:
        """The query of this choice with some parameters changed, or left out where they are None."""
        return _encoded(self._parameters() | changes)

    def without(self, dimension: str) -> str:
        """The query of this choice without a filter."""
        return self.query(**{dimension: None})

    def api(self, file: str, *, by: str = "") -> str:
        """The query of `/api/v1/usage` for the same numbers.

        Args:
            file: "csv" or "json".
            by: groups; by default those of the table.
        """
        times = {"since": self.span, "until": self.until or None, "timezone": self.timezone}
        return _encoded({"by": by or self.by, **times, **self._filters(), "format": file})

    def fields(self) -> dict[str, str]:
        """What a form has to send on, besides what it offers."""
        offered = ("since", "period", "by", "measure")
        return {name: value for name, value in self._parameters().items() if value is not None and name not in offered}

    def _parameters(self) -> dict[str, str | None]:
        usual = _USUAL.get(self.span, "day")
        return {
            "since": self.span,
            "until": self.until or None,
            "period": None if self.period == usual else self.period,
            "by": self.by,
            "measure": self.measure,
            "timezone": self.timezone,
            **self._filters(),
        }

    def _filters(self) -> dict[str, str | None]:
        return {str(name): value for name, value in self.filters.items()}


def _encoded(parameters: Mapping[str, str | None]) -> str:
    return urlencode({name: value for name, value in parameters.items() if value is not None})


def known_zone(wanted: str, default: str) -> str:
    """A time zone by its name, or the default one."""
    try:
        return wanted if wanted and periods.zone(wanted[:MAX_TEXT]) else default
    except ValueError:
        return default
