"""Reads price files: the packaged `prices.toml`, and a user's own of the same format laid over it.

The format is described in docs/prices.md. Figures are decimal and stay exact. A user's file that cannot be used leaves the
packaged table in force and gives one sentence that says what is wrong and where.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import msgspec

from claude_proxy.ledger.prices.plan import CreditRate
from claude_proxy.ledger.prices.rates import ONE, Factor, Price, Rates, Schedule, Tier
from claude_proxy.ledger.prices.table import Key, Prices, Provider, Rows, newest_first

PACKAGED = Path(__file__).parents[1] / "prices.toml"
OWN_PREFIX = "own:"  # of the ids of a user's prices
_MAX_FILE = 1024 * 1024
_Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[_Day, ...] = get_args(_Day)
_PICO = 10**6  # pico-dollars per token in a dollar per million tokens
_NANO = 10**9
_MICRO_CREDITS = 100  # micro-credits per token in one unit of a coefficient: 10^6 / 10,000
_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_ENTRY = re.compile(r"(price|credit)\[(\d+)\]\.?(.*)")
_EPOCH = date(1970, 1, 1)
_Made = TypeVar("_Made")


class PriceFileError(ValueError):
    """A price file that cannot be used; the text is a sentence that names the entry and the figure."""


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _Provider(_Strict):
    hosts: list[str] = []
    web_search: Decimal | None = None  # dollars per search
    geo: dict[str, Decimal] = {}


class _Schedule(_Strict):
    hours: list[tuple[int, int]]
    peak: Decimal
    off_peak: Decimal
    utc_offset: int = 0
    days: list[_Day] = msgspec.field(default_factory=lambda: [*_DAYS])
    holidays: list[date] = []


class _Figures(_Strict, kw_only=True):
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None


class _Tier(_Strict):
    above: int
    factor: Decimal


class _Row(_Figures, kw_only=True):
    provider: str
    model: str
    starts: datetime | None = msgspec.field(default=None, name="from")
    tiers: list[_Tier] = []
    fast: Decimal | None = None
    schedule: str | None = None


class _Credit(_Strict):
    provider: str
    model: str
    starts: datetime = msgspec.field(name="from")
    input: Decimal
    cached: Decimal
    output: Decimal
    schedule: str


class _File(_Strict):
    provider: dict[str, Any] = {}  # converted one by one: msgspec does not name the key of a mistake
    schedule: dict[str, Any] = {}
    price: list[_Row] = []
    credit: list[_Credit] = []


class Loaded(NamedTuple):
    """The prices in force.

    Attributes:
        problem: why the user's file is not used, as one sentence; None if it is, or there is none.
    """

    prices: Prices
    problem: str | None


def load(override: Path | None = None) -> Loaded:
    """The packaged prices with a user's file laid over them.

    Args:
        override: the user's file; it need not exist.
    """
    packaged = parse(PACKAGED.read_text(encoding="utf-8"))
    if override is None:
        return Loaded(Prices(packaged), None)
    try:
        own = parse(_read(override), prefix=OWN_PREFIX, base=packaged)
    except FileNotFoundError:
        return Loaded(Prices(packaged), None)
    except (OSError, ValueError) as error:
        reason = (error.strerror or "unreadable").lower() if isinstance(error, OSError) else str(error)
        return Loaded(Prices(packaged), f"{override}: {reason}. The prices that come with claude-proxy stay in force.")
    return Loaded(Prices(packaged.overlaid(own)), None)


def user_file() -> Path:
    """Where a user's own prices are looked for: `prices.toml` in the platform's configuration folder of the user."""
    import platformdirs  # only where a user's file is asked for

    return Path(platformdirs.user_config_dir("claude-proxy", appauthor=False)) / PACKAGED.name


def _read(path: Path) -> str:
    with path.open("rb") as file:  # a device or a huge file by that name must not be read whole
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise PriceFileError(f"the file is larger than {_MAX_FILE} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PriceFileError("not UTF-8 text") from None


def parse(text: str, *, prefix: str = "", base: Rows | None = None) -> Rows:
    """The rows of a price file.

    Args:
        text: TOML.
        prefix: put before price ids, so that they tell a user's prices from ours.
        base: rows whose providers and schedules this file may name without describing them again.

    Raises:
        PriceFileError: in one sentence, without a full stop.
    """
    try:
        table = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise PriceFileError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise PriceFileError("not valid TOML: nested too deeply") from None
    return _Builder(_convert(table, _File, table), prefix, base).rows()


def _convert(given: Any, kind: type[_Made], table: dict[str, Any]) -> _Made:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise PriceFileError(_sentence(str(error), table)) from None


def _sentence(problem: str, table: dict[str, Any]) -> str:
    """msgspec's message with the place in a reader's words."""
    place = _PLACE.search(problem)
    words = _PLACE.sub("", problem).replace("Object contains unknown field", "unknown name")
    words = words.replace("Object missing required field", "missing").replace("Invalid decimal string", "expected a number")
    words = words[0].lower() + words[1:]
    if place is None or not place[1]:
        return words
    entry = _ENTRY.fullmatch(place[1])
    if entry is None:
        return f"{place[1]}: {words}"
    return ": ".join(filter(None, (_entry(table, entry[1], int(entry[2])), entry[3], words)))


def _entry(table: dict[str, Any], name: str, index: int) -> str:
    """`[[price]] 3 (zai/glm-5.4)`: an entry as a reader finds it, counted from 1."""
    entries = table.get(name)
    row = entries[index] if isinstance(entries, list) else None
    known = f" ({row.get('provider', '?')}/{row.get('model', '?')})" if isinstance(row, dict) else ""
    return f"[[{name}]] {index + 1}{known}"


class _Builder:
    """Turns a file's entries into rows; its errors name the entry."""

    def __init__(self, file: _File, prefix: str, base: Rows | None) -> None:
        self._file = file
        self._prefix = prefix
        providers, self._hosts = {}, {}
        for name, given in file.provider.items():
            found = _each(f"[provider.{name}]", _convert, given, _Provider, {})
            providers[name] = _each(f"[provider.{name}]", _provider, found)
            self._hosts.update({host.lower(): name for host in found.hosts})
        schedules = {name: _each(f"[schedule.{name}]", _schedule, given) for name, given in file.schedule.items()}
        self._providers = {**(base.providers if base else {}), **providers}
        self._schedules = {**(base.schedules if base else {}), **schedules}

    def rows(self) -> Rows:
        prices: dict[Key, list[Price]] = {}
        for number, row in enumerate(self._file.price, 1):
            label = f"[[price]] {number} ({row.provider}/{row.model})"
            _add(prices, label, (row.provider, row.model.lower()), _each(label, self._price, row))
        credits_: dict[Key, list[CreditRate]] = {}
        for number, credit in enumerate(self._file.credit, 1):
            label = f"[[credit]] {number} ({credit.provider}/{credit.model})"
            _add(credits_, label, (credit.provider, credit.model.lower()), _each(label, self._credit, credit))
        return Rows(
            self._hosts,
            self._providers,
            self._schedules,
            {key: newest_first(found) for key, found in prices.items()},
            {key: newest_first(found) for key, found in credits_.items()},
        )

    def _price(self, row: _Row) -> Price:
        rates = _rates(row)
        provider = self._provider(row.provider)
        price = Price(
            id="",
            starts=_seconds(row.starts),
            rates=rates,
            tiers=tuple(Tier(tier.above, rates.scaled(_factor(tier.factor))) for tier in row.tiers),
            speeds={"standard": ONE} if row.fast is None else {"standard": ONE, "fast": _factor(row.fast)},
            geos=provider.geos,
            schedule=self._schedule(row.schedule) if row.schedule is not None else None,
            web_search=provider.web_search,
        )
        if [tier.above for tier in price.tiers] != sorted({tier.above for tier in price.tiers}):
            raise PriceFileError("tiers: expected each above the one before it")
        return price._replace(id=self._id(row, price))

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            raise PriceFileError(f"there is no provider {name!r}; describe it as [provider.{name}] with its hosts")
        return self._providers[name]

    def _id(self, row: _Row, price: Price) -> str:
        """Provider, model, start and a digest of every figure: equal ids were computed alike."""
        figures = (price.rates, price.tiers, price.speeds, price.geos, price.schedule, price.web_search)
        digest = hashlib.blake2b(msgspec.json.encode(figures, order="sorted"), digest_size=3).hexdigest()
        start = "" if row.starts is None else f"@{row.starts.astimezone(UTC):%Y-%m-%d}"
        return f"{self._prefix}{row.provider}/{row.model}{start}.{digest}"

    def _credit(self, row: _Credit) -> CreditRate:
        return CreditRate(
            _seconds(row.starts),
            _whole(row.input, _MICRO_CREDITS, "input"),
            _whole(row.cached, _MICRO_CREDITS, "cached"),
            _whole(row.output, _MICRO_CREDITS, "output"),
            self._schedule(row.schedule),
        )

    def _schedule(self, name: str) -> Schedule:
        if name not in self._schedules:
            raise PriceFileError(f"there is no schedule {name!r}; describe it as [schedule.{name}]")
        return self._schedules[name]


def _each(label: str, make: Callable[..., _Made], *args: Any) -> _Made:
    try:
        return make(*args)
    except ValueError as error:
        raise PriceFileError(f"{label}: {error}") from None


def _add(rows: dict[Key, list[Any]], label: str, key: Key, row: Any) -> None:
    found = rows.setdefault(key, [])
    if any(other.starts == row.starts for other in found):
        raise PriceFileError(f"{label}: a second entry that is in force from the same time")
    found.append(row)


def _rates(row: _Figures) -> Rates:
    """What has no price of its own is billed as input; an hour's write as one of five minutes."""
    five = row.input if row.cache_write_5m is None else row.cache_write_5m
    named = (
        ("input", row.input),
        ("output", row.output),
        ("cache_read", row.input if row.cache_read is None else row.cache_read),
        ("cache_write_5m", five),
        ("cache_write_1h", five if row.cache_write_1h is None else row.cache_write_1h),
    )
    return Rates(*(_whole(value, _PICO, name) for name, value in named))


def _whole(value: Decimal, unit: int, name: str) -> int:
    """`value` in parts of `unit`, which have to come out whole."""
    if not value.is_finite() or not 0 <= value <= 10**6:
        raise PriceFileError(f"{name}: expected a number from 0 to 1000000; got {value}")
    whole = Fraction(value) * unit
    if whole.denominator != 1:
        raise PriceFileError(f"{name}: {value} has more decimal places than are counted")
    return whole.numerator


def _factor(value: Decimal) -> Factor:
    if not value.is_finite() or not 0 <= value <= 1000 or value.as_tuple().exponent < -6:  # type: ignore[operator]
        raise PriceFileError(f"expected a factor from 0 to 1000 with at most 6 decimal places; got {value}")
    return Factor(*value.as_integer_ratio())


def _seconds(moment: datetime | None) -> float:
    if moment is None:
        return 0
    if moment.tzinfo is None:
        raise PriceFileError("from: expected a time with its zone, such as 2026-09-10T04:00:00Z")
    return moment.timestamp()


def _provider(given: _Provider) -> Provider:
    search = None if given.web_search is None else _whole(given.web_search, _NANO, "web_search")
    return Provider(search, {geo: _factor(factor) for geo, factor in given.geo.items()})


def _schedule(entry: dict[str, Any]) -> Schedule:
    given = _convert(entry, _Schedule, {})
    if not -24 < given.utc_offset < 24:
        raise PriceFileError("utc_offset: expected hours from -23 to 23")
    bounds = [bound for span in given.hours for bound in span]
    if not bounds or bounds != sorted(set(bounds)) or bounds[0] < 0 or bounds[-1] > 24:
        raise PriceFileError("hours: expected spans such as [[9, 12], [14, 18]], in order and apart")
    return Schedule(
        utc_offset=given.utc_offset * 3600,
        days=tuple(sorted({_DAYS.index(day) for day in given.days})),
        bounds=tuple(bound * 3600 for bound in bounds),
        holidays=tuple(sorted({(day - _EPOCH).days for day in given.holidays})),
        peak=_factor(given.peak),
        off_peak=_factor(given.off_peak),
    )
