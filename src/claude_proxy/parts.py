"""The parts that `app.py` puts together, each made from the settings. Nothing is opened here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import structlog

from claude_proxy import __version__
from claude_proxy.access.logins import Logins
from claude_proxy.access.origin import OriginRules
from claude_proxy.access.viewers import Viewers, shows
from claude_proxy.accounts import make_upstreams
from claude_proxy.exchange import Listener
from claude_proxy.ids import Ids
from claude_proxy.ledger import Ledger, Options, prices
from claude_proxy.ledger.charging import Charging
from claude_proxy.ledger.options import IncidentRow, NotReadable, Sample, Say, Store
from claude_proxy.ledger.prices import Prices
from claude_proxy.ledger.prices.quota import Quota
from claude_proxy.ledger.reader import Reader
from claude_proxy.observe.election import Election
from claude_proxy.observe.headcount import Headcount
from claude_proxy.observe.quota import QuotaPoll, Watched
from claude_proxy.observe.quota_sharing import QuotaSharing
from claude_proxy.observe.session_sums import Booked, SessionSums
from claude_proxy.observe.sessions import Sessions
from claude_proxy.observe.siblings import Siblings
from claude_proxy.observe.status import StatusSource
from claude_proxy.proxy.accounts import too_many_workers
from claude_proxy.proxy.config import Config, Upstream
from claude_proxy.proxy.forward import Forward
from claude_proxy.proxy.learned import LearnedLimits
from claude_proxy.proxy.turns import Turns
from claude_proxy.routing import snapshot
from claude_proxy.routing.snapshot import UpstreamView
from claude_proxy.settings import Settings, default_upstream

if TYPE_CHECKING:
    from claude_proxy.exchange import Failure
    from claude_proxy.ledger.queries import Books
    from claude_proxy.notify import Figures, Notifier, Report
    from claude_proxy.notify.advice import Advice
    from claude_proxy.protocol.providers import Provider
    from claude_proxy.web.pages.conversation_kept import Kept

log = structlog.get_logger("app")


def make_upstream(settings: Settings, name: str = "default") -> Upstream:
    """The upstream of BASE_URL, UPSTREAM_API_KEY and UPSTREAM_AUTH."""
    (upstream,) = make_upstreams((default_upstream(settings, name),), (), settings)
    return upstream


def make_charging(upstreams: Mapping[str, str]) -> Charging:
    """What prices exchanges; it reads the price lists when it is first asked.

    Args:
        upstreams: host name by upstream; looked up for each price.
    """

    def load_prices() -> Prices:
        loaded = prices.load(prices.user_file())
        if loaded.problem is not None:
            log.warning("prices", problem=loaded.problem)
        return loaded.prices

    return Charging(load_prices, upstreams)


def hosts_of(upstreams: Iterable[Upstream]) -> dict[str, str]:
    """The host name of each upstream, by the upstream's name."""
    return {one.name: urlsplit(one.base_url).hostname or "" for one in upstreams}


def make_ledger(settings: Settings, charging: Charging, make_id: Ids, notifier: Notifier | None = None) -> Ledger | None:
    """What keeps the books; the database's modules are imported by its thread.

    Args:
        charging: prices what is recorded.
        make_id: gets the worker number that the database leases.
        notifier: told in that thread when an earlier process is found dead.
    """
    if not settings.ledger:
        return None
    options = ledger_options(settings)

    def opener(say: Say) -> Callable[[], Store]:
        from claude_proxy.ledger.opening import Opener

        charging.ready()
        on_unclean = (lambda dead: None) if notifier is None else (lambda dead: notifier.was_killed(dead.seen / 1000))
        return Opener(options, make_id, say, on_unclean=on_unclean)

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
        return Reader(open_books, shut=lambda: NotReadable("No books are kept here: LEDGER is off."))
    return Reader(open_books, place=lambda: ledger.in_memory, shut=lambda: ledger.shut)


def make_quota_poll(
    settings: Settings,
    upstreams: Iterable[Upstream],
    ledger: Ledger | None,
    sharing: QuotaSharing | None = None,
    notifier: Notifier | None = None,
) -> QuotaPoll | None:
    """What asks the providers' quota endpoints, if there are any and somebody wants their answers."""
    watched = watched_quotas(upstreams)
    if (ledger is None and notifier is None) or not watched or not settings.quota_poll:
        return None
    key = settings.proxy_api_key

    def is_own_key(shown_: bytes) -> bool:
        return key is not None and shows([(b"authorization", b"Bearer " + shown_)], key.get_secret_value().encode())

    def keep(sample: Sample) -> None:
        if ledger is not None:
            ledger.writer.put_sample(sample)
        if notifier is not None:
            plan = Quota(None, sample.windows).plan
            windows = [(one.name, one.ratio, one.resets_at) for one in plan if one.ratio is not None]
            notifier.quota_seen(sample.upstream, windows, sample.account)

    return QuotaPoll(watched, keep, is_own_key=is_own_key, sharing=sharing)


def watched_quotas(upstreams: Iterable[Upstream]) -> list[Watched]:
    """The accounts at upstreams that tell their quota; those of clients of an upstream as one."""
    found: list[Watched] = []
    for one in upstreams:
        if one.provider.quota is not None:
            quota, pool = one.provider.quota, one.pool
            held = [Watched(one.name, quota, pool, account.credential, account.name) for account in one.accounts]
            found += held or [Watched(one.name, quota, pool)]
    return found


def make_capture(settings: Settings, held: Callable[[], Sequence[bytes]]) -> Listener | None:
    """What stores bodies, if asked to; otherwise it only expires what an earlier start has stored.

    Args:
        held: returns the proxy's own secrets, which are redacted.
    """
    if settings.capture == "off" and not (settings.data_dir / "capture.db").exists():
        return None
    from claude_proxy.ledger.capture import Capture, CaptureOptions

    return Capture(
        CaptureOptions(
            data_dir=settings.data_dir,
            mode=settings.capture,
            max_bytes=settings.capture_max_bytes,
            keep_days=settings.capture_keep,
            secrets=held,
        )
    )


def make_kept(settings: Settings) -> Callable[[], Kept]:
    """What reads stored conversations for the page; its modules are imported in the thread of the first one."""

    def kept() -> Kept:
        from claude_proxy.web.pages.conversation_kept import Kept

        return Kept(settings.data_dir)

    return kept


def make_status(
    reader: Reader,
    sessions: Sessions,
    ledger: Ledger | None,
    charging: Charging,
    upstreams: Mapping[str, str],
    quota: QuotaPoll | None,
) -> StatusSource:
    """What the status line says; it asks the ledger in a thread, and the database's modules come with the first question.

    Args:
        upstreams: host name by upstream.
        quota: knows the plan's windows.
    """
    windows = tuple if quota is None else quota.windows
    if ledger is None:
        return StatusSource(sessions, hosts=upstreams, quota=windows)

    def booked(session: str, ended: Sequence[str]) -> Booked:
        return Booked(*reader.books().session_sums(session, ended))

    return StatusSource(sessions, SessionSums(sessions, booked, charging), hosts=upstreams, quota=windows)


def make_origins(settings: Settings) -> OriginRules:
    """The hosts and origins that are allowed: those of the settings, and the host of PUBLIC_URL."""
    public = urlsplit(settings.public_url or "").hostname
    return OriginRules((*settings.allowed_hosts, *([public] if public else [])), settings.allowed_origins)


def make_viewers(settings: Settings) -> Viewers:
    """What decides who may look at the page."""
    return Viewers(settings.admin_token, Logins(settings.data_dir))


def make_turns(settings: Settings) -> Turns | None:
    """The queue. Several workers share an account's limit: each has its part (see `make_headcount`)."""
    return Turns(workers=settings.web_concurrency or 1) if settings.queue else None


def make_headcount(turns: Turns | None, settings: Settings, siblings: Siblings, config: Callable[[], Config]) -> Headcount | None:
    """What tells the queue how many workers share the limits, and advises against workers that share little.

    Args:
        config: the configuration in force.
    """
    if turns is None:
        return None
    return Headcount(
        siblings,
        changed=lambda workers: turns.share(workers, asyncio.get_running_loop()),
        advice=lambda workers: too_many_workers(config().upstreams, workers),
        known=settings.web_concurrency or 1,
    )


def queued(forward: Forward) -> dict[str, UpstreamView]:
    """What the queue knows of the upstreams, by name; nothing where there is no queue."""
    if forward.turns is None:
        return {}
    accounts = [account.id for account in forward.config.accounts]
    return snapshot.upstreams(forward.turns.queue, asyncio.get_running_loop().time(), accounts)


def learned_limits(turns: Turns | None, settings: Settings) -> LearnedLimits | None:
    """What keeps the limits that the queue learns."""
    return None if turns is None else LearnedLimits(turns.queue, settings.data_dir)


def make_notifier(
    settings: Settings,
    make_id: Ids | None = None,
    ledger: Callable[[], Ledger | None] = lambda: None,
    reader: Callable[[], Reader | None] = lambda: None,
    held: Callable[[], Sequence[bytes]] = tuple,
) -> Notifier | None:
    """The ntfy listener if a topic is set; its room is not even imported otherwise.

    Args:
        held: returns the proxy's own secrets, which no notice may contain.
        make_id: makes the ids of incidents.
        ledger: what keeps the books; `reader` asks them. Both may be made after the notifier.
    """
    if settings.ntfy_topic is None:
        return None
    from claude_proxy.notify import Figures, Notifier, Surroundings

    def record(report: Report) -> None:
        books = ledger()
        if books is not None:
            books.writer.put_sample(incident_row(report))

    def ledger_lost() -> int:
        books = ledger()
        return 0 if books is None else books.writer.lost

    async def figures(since: float, until: float) -> Figures:
        books = reader()
        if books is None:
            return Figures(since, until)
        totals = (await books.ask(lambda books: books.usage(since=since, until=until)))["totals"]
        tokens = sum(totals[name] for name in totals if name.endswith("_tokens"))
        return Figures(since, until, totals["exchanges"], totals["failed"], tokens, totals["cost_usd"])

    around = Surroundings(
        make_id=make_id or Ids(),
        record=record,
        ledger_lost=ledger_lost,
        figures=figures,
        held=held,
        seat=None if sys.platform == "win32" else lambda name: Election(settings.data_dir, name),
    )
    return Notifier(settings, around=around)


def incident_row(report: Report) -> IncidentRow:
    """An incident as the books keep it."""
    more = {name: getattr(report, name) for name in ("meaning", "message", "fix", "told", "pushed")}
    return IncidentRow(
        id=report.id,
        kind=report.code,
        subject=report.upstream,
        text=msgspec.json.encode(more).decode(),
        opened=int(report.opened * 1000),
        seen=int(report.seen * 1000),
        closed=None if report.closed is None else int(report.closed * 1000),
        exchanges=report.failures,
    )


def make_incidents(notifier: Notifier | None, reader: Reader, limit: int = 100) -> Callable[[], Awaitable[list[dict[str, Any]]]]:
    """What `GET /api/v1/incidents` lists: those in memory, and from the books those of before and of the other workers."""

    async def incidents() -> list[dict[str, Any]]:
        try:
            rows = await reader.ask(lambda books: books.incidents(limit))
        except NotReadable:
            rows = []
        if not rows and notifier is None:
            return []
        from claude_proxy.notify import Report, shown

        here = [] if notifier is None else notifier.reports()
        known = {report.id for report in here}
        leads = notifier is not None and notifier.leads
        reports = here + [report_of(row, Report, leads=leads) for row in rows if row.id not in known]
        return [shown(report) for report in sorted(reports, key=lambda report: report.seen, reverse=True)]

    return incidents


def report_of(row: IncidentRow, make: type[Report], *, leads: bool) -> Report:
    """An incident from the books. The worker that decides knows all that is open: one that it does not know is over."""
    try:
        more = msgspec.json.decode(row.text)
    except msgspec.DecodeError:
        more = {}
    closed = row.seen if row.closed is None and leads else row.closed
    return make(
        id=row.id,
        upstream=row.subject,
        code=row.kind,
        meaning=more.get("meaning", ""),
        message=more.get("message", ""),
        fix=more.get("fix", ""),
        opened=row.opened / 1000,
        seen=row.seen / 1000,
        closed=None if closed is None else closed / 1000,
        failures=row.exchanges,
        told=bool(more.get("told")),
        pushed=tuple((at, title) for at, title in more.get("pushed", ())),
    )


def advise(failure: Failure, provider: Provider) -> Advice:
    """What a failure means for a person, for the page; the notices' package is imported by the first one that is shown."""
    from claude_proxy.notify import advice

    return advice.advise(failure, provider)
