"""The parts that `app.py` puts together, each made from the settings. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from claude_proxy import __version__
from claude_proxy.exchange import Listener
from claude_proxy.ids import Ids
from claude_proxy.ledger import Ledger, Options, prices
from claude_proxy.ledger.charging import Charging
from claude_proxy.ledger.options import Say, Store
from claude_proxy.ledger.prices import Prices
from claude_proxy.ledger.reader import Reader
from claude_proxy.observe.quota import QuotaPoll, Watched
from claude_proxy.observe.session_sums import Booked, SessionSums
from claude_proxy.observe.sessions import Sessions
from claude_proxy.observe.sources import QuotaWindow
from claude_proxy.observe.status import StatusSource
from claude_proxy.protocol.providers import find_at
from claude_proxy.proxy.config import Upstream
from claude_proxy.settings import SECRETS, Settings
from claude_proxy.upstream.dial import parse_origin
from claude_proxy.upstream.pool import Pool
from claude_proxy.web.admin import shows

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books
    from claude_proxy.notify import Notifier

log = structlog.get_logger("app")


def make_upstream(settings: Settings, name: str = "default") -> Upstream:
    """The upstream, from BASE_URL, UPSTREAM_API_KEY and UPSTREAM_AUTH or its `[[upstream]]`."""
    origin = parse_origin(settings.base_url)
    pool = Pool(
        origin,
        settings.upstream_ca_file,
        connect_timeout=settings.connect_timeout,
        expiry=settings.keepalive_expiry,
        limit=settings.max_connections,
    )
    key = settings.upstream_api_key
    provider = find_at(settings.base_url)
    credential = None
    if key is not None:
        secret = key.get_secret_value().encode()
        bearer = (settings.upstream_auth or provider.auth) == "bearer"
        credential = (b"authorization", b"Bearer " + secret) if bearer else (b"x-api-key", secret)
    return Upstream(name, pool, credential, base_url=settings.base_url, provider=provider, memory=settings.count_tokens_memory)


def make_charging(upstreams: Mapping[str, str]) -> Charging:
    """What prices exchanges; it reads the price lists when it is first asked.

    Args:
        upstreams: base URL by name.
    """

    def load_prices() -> Prices:
        loaded = prices.load(prices.user_file())
        if loaded.problem is not None:
            log.warning("prices", problem=loaded.problem)
        return loaded.prices

    return Charging(load_prices, {name: urlsplit(base_url).hostname or "" for name, base_url in upstreams.items()})


def make_ledger(settings: Settings, charging: Charging, make_id: Ids) -> Ledger | None:
    """What keeps the books; the database's modules are imported by its thread.

    Args:
        charging: prices what is recorded.
        make_id: gets the worker number that the database leases.
    """
    if not settings.ledger:
        return None
    options = ledger_options(settings)

    def opener(say: Say) -> Callable[[], Store]:
        from claude_proxy.ledger.opening import Opener

        charging.ready()
        return Opener(options, make_id, say)

    return Ledger(opener, price=charging)


def ledger_options(settings: Settings) -> Options:
    """Where the ledger is, and how long it keeps."""
    return Options(
        data_dir=settings.data_dir,
        database_url=None if settings.database_url is None else settings.database_url.get_secret_value(),
        keep_days=settings.ledger_keep,
        max_bytes=settings.ledger_max_bytes,
        version=__version__,
    )


def make_reader(settings: Settings, ledger: Ledger | None) -> Reader:
    """What asks the books; a database's modules are imported in the thread of the first question."""

    def open_books() -> Books:
        from claude_proxy.ledger.queries import Books

        return Books.open(ledger_options(settings), None if ledger is None else ledger.in_memory)

    if ledger is None:
        return Reader(open_books, shut=lambda: "No books are kept here: LEDGER is off.")
    return Reader(open_books, place=lambda: ledger.in_memory, shut=lambda: ledger.shut)


def make_quota_poll(settings: Settings, upstreams: Iterable[Upstream], ledger: Ledger | None) -> QuotaPoll | None:
    """What asks the providers' quota endpoints, if there are any and their answers can be kept."""
    quotas = [(one, one.provider.quota) for one in upstreams]
    watched = [Watched(one.name, quota, one.pool, one.credential) for one, quota in quotas if quota is not None]
    if ledger is None or not watched or not settings.quota_poll:
        return None
    key = settings.proxy_api_key

    def is_own_key(shown_: bytes) -> bool:
        return key is not None and shows([(b"authorization", b"Bearer " + shown_)], key.get_secret_value().encode())

    return QuotaPoll(watched, ledger.writer.put_sample, is_own_key=is_own_key)


def make_capture(settings: Settings) -> Listener | None:
    """What stores bodies, if asked to; otherwise it only expires what an earlier start has stored."""
    if settings.capture == "off" and not (settings.data_dir / "capture.db").exists():
        return None
    from claude_proxy.ledger.capture import Capture, CaptureOptions

    values = [getattr(settings, name) for name in SECRETS if hasattr(settings, name)]
    return Capture(
        CaptureOptions(
            data_dir=settings.data_dir,
            mode=settings.capture,
            max_bytes=settings.capture_max_bytes,
            keep_days=settings.capture_keep,
            secrets=tuple(value.get_secret_value().encode() for value in values if value is not None),
        )
    )


def make_status(
    reader: Reader,
    sessions: Sessions,
    ledger: Ledger | None,
    charging: Charging,
    upstreams: Mapping[str, str],
    quota: Callable[[], Iterable[QuotaWindow]],
) -> StatusSource:
    """What the status line says; it asks the ledger in a thread, and the database's modules come with the first question.

    Args:
        upstreams: base URL by name.
        quota: the plan's windows.
    """
    hosts = {name: urlsplit(base_url).hostname or name for name, base_url in upstreams.items()}
    if ledger is None:
        return StatusSource(sessions, hosts=hosts, quota=quota)

    def booked(session: str, ended: Sequence[str]) -> Booked:
        return Booked(*reader.books().session_sums(session, ended))

    return StatusSource(sessions, SessionSums(sessions, booked, charging), hosts=hosts, quota=quota)


def make_notifier(settings: Settings) -> Notifier | None:
    """The ntfy listener if a topic is set; its room is not even imported otherwise."""
    if settings.ntfy_topic is None:
        return None
    from claude_proxy.notify import Notifier

    return Notifier(settings)
