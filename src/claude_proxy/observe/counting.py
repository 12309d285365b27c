"""Finished exchanges as sums. Most exchanges of a batch belong to one series: added up by it, they cost half."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from claude_proxy.exchange import ABORTED, MESSAGES, Exchange, Outcome
from claude_proxy.observe import catalogue as c
from claude_proxy.observe.labels import Bounded, Models
from claude_proxy.observe.sources import Sources
from claude_proxy.observe.tally import Cell, Tally, observe

MAX_TOKENS = 10**9  # of one exchange: a thousand times the largest context, so that a bogus count cannot dwarf all others
MAX_KINDS = 50  # error types: an upstream writes its own
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_series_of = attrgetter("failure", "kind", "upstream", "model", "model_sent", "model_served", "outcome", "status")
_clocks_of = attrgetter("attempts", "started", "ended", "queue_wait")
_bytes_of = attrgetter("first_byte", "stream", "longest_silence")
_tokens_of = attrgetter("input", "output", "cache_read", "cache_write")


class Counting:
    """Adds exchanges to `tally`. The cells of a series are looked up once and then kept."""

    def __init__(self, tally: Tally, sources: Sources) -> None:
        self._tally = tally
        self._sources = sources
        self._models = Models()
        self._kinds = Bounded(MAX_KINDS)
        self._series: dict[tuple[str, str], _Series] = {}
        self._overhead = tally.cell(c.OVERHEAD)

    def add(self, exchanges: Iterable[Exchange]) -> list[Exception]:
        """Add finished exchanges; returns why some could not be counted, or not be priced."""
        groups: defaultdict[object, list[Exchange]] = defaultdict(list)
        for exchange in exchanges:
            groups[_series_of(exchange)].append(exchange)
        errors: list[Exception] = []
        for group in sorted(groups.values(), key=lambda group: group[0].failure is not None):  # good ones name their model first
            try:
                self._add(group)
            except Exception as error:  # one that cannot be counted costs none of the others
                if len(group) == 1:
                    errors.append(error)
                else:
                    errors += chain.from_iterable(self.add([exchange]) for exchange in group)
            else:
                errors += self._price(group)
        return errors

    def _add(self, group: Sequence[Exchange]) -> None:
        """Add exchanges whose `_series_of` is the same; what may raise comes before anything is added."""
        first, count = group[0], len(group)
        if first.kind is MESSAGES:
            key = (first.upstream, self._models.label(first))
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = _Series(self._tally, *key)
            times = _times(group)  # it may raise, so it comes before anything is added
            series.add(group)
            self._observe_times(first.upstream, series, times)
        else:
            self._tally.cell(c.OTHERS, first.upstream, first.kind.value, *_ending(first))[0] += count
        if first.failure is not None:
            kind = self._kinds.admit(first.failure.kind)
            self._tally.cell(c.FAILURES, first.upstream, first.failure.side, kind)[0] += count

    def _price(self, group: Sequence[Exchange]) -> list[Exception]:
        if group[0].kind is not MESSAGES:
            return []
        used, errors = [exchange for exchange in group if exchange.usage is not None], list[Exception]()
        series = self._series[group[0].upstream, self._models.label(group[0])]
        try:
            if not self._sources.has_prices(group[0].upstream):
                if self._sources.price is not None:
                    series.unpriced(len(used))
                return []
        except Exception as error:  # the prices are another room's
            return [error]
        prices, credits = (_asked(source, used, errors) for source in (self._sources.price, self._sources.credits))
        series.price(prices, credits)
        return errors

    def _observe_times(self, upstream: str, series: _Series, times: _Times) -> None:
        observe(c.DURATION, series.duration, times.durations)
        observe(c.OVERHEAD, self._overhead, times.overheads)
        if times.waits:
            observe(c.QUEUE_WAIT, self._tally.cell(c.QUEUE_WAIT, upstream), times.waits)


class _Times(NamedTuple):
    """The seconds of exchanges that were sent to an upstream."""

    durations: list[float]
    overheads: list[float]
    waits: list[float]


def _times(group: Sequence[Exchange]) -> _Times:
    durations, overheads, waits = [], [], []
    for attempts, started, ended, wait in map(_clocks_of, group):
        if attempts:
            durations.append((ended or started) - started)
            overhead = attempts[0].started - started
            if wait is not None:
                waits.append(wait)
                overhead -= wait
            overheads.append(max(0.0, overhead))
    return _Times(durations, overheads, waits)


class _Series:
    """The cells of one upstream and model."""

    def __init__(self, tally: Tally, upstream: str, model: str) -> None:
        self._tally = tally
        self._names = (upstream, model)
        self._endings: dict[tuple[Outcome | None, int], Cell] = {}
        self._tokens = [tally.cell(c.TOKENS, upstream, model, kind) for kind in ("input", "output", "cache_read", "cache_write")]
        self._first_byte = tally.cell(c.FIRST_BYTE, upstream, model)
        self._silence = tally.cell(c.SILENCE, upstream)
        self.duration = tally.cell(c.DURATION, upstream, model)

    def add(self, group: Sequence[Exchange]) -> None:
        first, usages = group[0], [exchange.usage for exchange in group if exchange.usage is not None]
        counts = [_bounded_sum(column) for column in zip(*map(_tokens_of, usages), strict=True)]
        first_bytes, silences = [], []
        for first_byte, stream, silence in map(_bytes_of, group) if 200 <= first.status < 300 else ():
            if first_byte is not None:
                first_bytes.append(first_byte)
                if stream:
                    silences.append(silence)
        ending = (first.outcome, first.status // 100)
        cell = self._endings.get(ending)
        if cell is None:
            cell = self._endings[ending] = self._tally.cell(c.EXCHANGES, *self._names, *_ending(first))
        cell[0] += len(group)
        for cell, count in zip(self._tokens, counts, strict=False):  # none if there is no usage
            cell[0] += count
        observe(c.FIRST_BYTE, self._first_byte, first_bytes)
        observe(c.SILENCE, self._silence, silences)

    def price(self, prices: Sequence[int | None], credits: Sequence[int | None]) -> None:
        """Add nano-dollars and micro-credits; None where there is no price, or no plan."""
        unpriced = prices.count(None)
        self.unpriced(unpriced)
        if unpriced < len(prices):
            self._tally.cell(c.COST, *self._names)[0] += sum(filter(None, prices))
        if credits.count(None) < len(credits):
            self._tally.cell(c.CREDITS, *self._names)[0] += sum(filter(None, credits))

    def unpriced(self, count: int) -> None:
        """Add exchanges that have no price."""
        if count:
            self._tally.cell(c.UNPRICED, *self._names)[0] += count


def _asked(
    source: Callable[[Exchange], int | None] | None, exchanges: Sequence[Exchange], errors: list[Exception]
) -> list[int | None]:
    found: list[int | None] = []
    for exchange in exchanges if source is not None else ():
        try:
            found.append(source(exchange))  # type: ignore[misc]
        except Exception as error:  # the prices are another room's
            errors.append(error)
    return found


def _bounded_sum(counts: Iterable[int | None]) -> int:
    known = [*filter(None, counts)]
    return sum(known) if max(known, default=0) <= MAX_TOKENS else sum(min(count, MAX_TOKENS) for count in known)


def _ending(exchange: Exchange) -> tuple[str, str]:
    """Outcome and status class. Without an outcome the process was stopped during the exchange."""
    status = exchange.status // 100
    known = _CLASSES[status] if 0 <= status < len(_CLASSES) else _CLASSES[0]
    return (exchange.outcome or ABORTED).value, known
