"""Label values that clients and upstreams choose, kept to a bounded number."""

from __future__ import annotations

from claude_proxy.exchange import Exchange
from claude_proxy.observe.catalogue import OTHER

MAX_MODELS = 100


class Bounded:
    """The first `limit` values as they are, every further one as `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def admit(self, value: str) -> str:
        """The label for `value`, which is remembered if there is room."""
        if value in self._known:
            return value
        if not value or len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value

    def find(self, value: str | None) -> str:
        """The label for `value` if it has been admitted."""
        return value if value is not None and value in self._known else OTHER


class Models:
    """The `model` label: an id that a good answer named, not what clients ask for.

    An exchange without an answer gets the label of a good answer to the same requested model. A client may ask for any name, so
    names that no upstream ever served get no label of their own.
    """

    def __init__(self, limit: int = MAX_MODELS) -> None:
        self._served = Bounded(limit)
        self._asked: dict[str, str] = {}
        self._limit = limit

    def label(self, exchange: Exchange) -> str:
        """The label of a finished Messages call."""
        asked, served = exchange.model, exchange.model_served
        if exchange.failure is None and 200 <= exchange.status < 300:
            label = self._served.admit(served or exchange.model_sent or asked or "")
            if asked and (asked in self._asked or len(self._asked) < self._limit):
                self._asked[asked] = label
            return label
        if served is not None:
            return self._served.find(served)
        return self._asked.get(asked, OTHER) if asked else OTHER
