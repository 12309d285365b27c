"""Finished exchanges as sums."""

from __future__ import annotations

from claude_proxy.exchange import Exchange, Kind, Outcome
from claude_proxy.observe import catalogue as c
from claude_proxy.observe.labels import Bounded, Models
from claude_proxy.observe.sources import Sources
from claude_proxy.observe.tally import Cell, Tally, observe

MAX_TOKENS = 10**9  # of one exchange: a thousand times the largest context, so that a bogus count cannot dwarf all others
MAX_KINDS = 50  # error types: an upstream writes its own
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Counting:
    """Adds exchanges to `tally`. The cells of a series are looked up once and then kept."""

    def __init__(self, tally: Tally, sources: Sources) -> None:
        self._tally = tally
        self._sources = sources
        self._models = Models()
        self._kinds = Bounded(MAX_KINDS)
        self._series: dict[tuple[str, str], _Series] = {}
        self._overhead = tally.cell(c.OVERHEAD)

    def add(self, exchange: Exchange) -> None:
        """Add one finished exchange."""
        if exchange.failure is not None:
            failure = exchange.failure
            kind = self._kinds.admit(failure.kind)
            self._tally.cell(c.FAILURES, exchange.upstream, failure.side, kind)[0] += 1
        if exchange.kind is not Kind.MESSAGES:
            ending = _ending(exchange)
            self._tally.cell(c.OTHERS, exchange.upstream, exchange.kind.value, *ending)[0] += 1
            return
        key = (exchange.upstream, self._models.label(exchange))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self._tally, *key)
        series.add(exchange, self._sources)
        if exchange.attempts:
            self._time_upstream(exchange, series)

    def _time_upstream(self, exchange: Exchange, series: _Series) -> None:
        observe(c.DURATION, series.duration, exchange.duration)
        waited = exchange.queue_wait
        before = exchange.attempts[0].started - exchange.started - (waited or 0.0)
        observe(c.OVERHEAD, self._overhead, max(before, 0.0))
        if waited is not None:
            observe(c.QUEUE_WAIT, self._tally.cell(c.QUEUE_WAIT, exchange.upstream), waited)


class _Series:
    """The cells of one upstream and model."""

    def __init__(self, tally: Tally, upstream: str, model: str) -> None:
        self._tally = tally
        self._names = (upstream, model)
        self._endings: dict[tuple[Outcome | None, int], Cell] = {}
        self._input, self._output, self._cache_read, self._cache_write = (
            tally.cell(c.TOKENS, upstream, model, kind) for kind in ("input", "output", "cache_read", "cache_write")
        )
        self._first_byte = tally.cell(c.FIRST_BYTE, upstream, model)
        self._silence = tally.cell(c.SILENCE, upstream)
        self.duration = tally.cell(c.DURATION, upstream, model)

    def add(self, exchange: Exchange, sources: Sources) -> None:
        ending = (exchange.outcome, exchange.status // 100)
        cell = self._endings.get(ending)
        if cell is None:
            cell = self._endings[ending] = self._tally.cell(c.EXCHANGES, *self._names, *_ending(exchange))
        cell[0] += 1
        if 200 <= exchange.status < 300 and exchange.first_byte is not None:
            observe(c.FIRST_BYTE, self._first_byte, exchange.first_byte)
            if exchange.stream:
                observe(c.SILENCE, self._silence, exchange.longest_silence)
        if exchange.usage is not None:
            self._add_usage(exchange, sources)

    def _add_usage(self, exchange: Exchange, sources: Sources) -> None:
        usage = exchange.usage
        assert usage is not None
        self._input[0] += min(usage.input or 0, MAX_TOKENS)
        self._output[0] += min(usage.output or 0, MAX_TOKENS)
        self._cache_read[0] += min(usage.cache_read or 0, MAX_TOKENS)
        self._cache_write[0] += min(usage.cache_write or 0, MAX_TOKENS)
        if sources.price is not None:
            price = sources.price(exchange)
            if price is None:
                self._tally.cell(c.UNPRICED, *self._names)[0] += 1
            else:
                self._tally.cell(c.COST, *self._names)[0] += price
        if sources.credits is not None and (credits := sources.credits(exchange)) is not None:
            self._tally.cell(c.CREDITS, *self._names)[0] += credits


def _ending(exchange: Exchange) -> tuple[str, str]:
    """Outcome and status class. Without an outcome the process was stopped during the exchange."""
    status = exchange.status // 100
    known = _CLASSES[status] if 0 <= status < len(_CLASSES) else _CLASSES[0]
    return (exchange.outcome or Outcome.ABORTED).value, known
