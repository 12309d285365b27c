"""The listener that pushes notices. It turns exchanges into events for the rules, and does what the rules ask for."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
import structlog

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Listener
from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.command import Command
from claude_proxy.notify.crew import Crew, Seat
from claude_proxy.notify.events import (
    Action,
    Answered,
    Event,
    Failed,
    Figures,
    Happened,
    Hurry,
    Published,
    Push,
    QuotaSeen,
    QuotaWindow,
    Record,
    Report,
    Summarise,
    Tick,
    Withdraw,
)
from claude_proxy.notify.fault import Fault, account_named, account_of, condition, harms, went_well
from claude_proxy.notify.health import Health, space_of
from claude_proxy.notify.incidents import CLIENT
from claude_proxy.notify.keeping import FORMAT, Keeper, Kept
from claude_proxy.notify.notice import REDACTED, Notice, plain, scrub
from claude_proxy.notify.ntfy import Http
from claude_proxy.notify.publisher import Publisher, Send
from claude_proxy.notify.rules import Rules
from claude_proxy.notify.wording import Wording
from claude_proxy.protocol.providers import Provider, find_at
from claude_proxy.settings import SECRETS, Settings

CLOSE_TIMEOUT = 1.5  # seconds; together with the 8 of GRACEFUL_TIMEOUT less than Docker's 10
BATCH = 0.5  # seconds that good answers wait to be taken together
MAX_BATCH = 200
log = structlog.get_logger("notify")


async def _no_figures(since: float, until: float) -> Figures:
    return Figures(since, until)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the notifier takes from other rooms; the wiring gives it.

    Attributes:
        make_id: makes the ids of incidents.
        record: writes an incident down.
        ledger_lost: rows that the ledger has lost so far.
        figures: what the books say of a time, for the daily summary.
        seat: makes what this process has to hold to be the one that pushes; None for a process without others.
        held: returns the proxy's own secrets, of which a reload may bring others.
    """

    make_id: Callable[[], int] = field(default_factory=ids.Ids)
    record: Callable[[Report], None] = lambda report: None
    ledger_lost: Callable[[], int] = lambda: 0
    figures: Callable[[float, float], Awaitable[Figures]] = _no_figures
    seat: Callable[[str], Seat] | None = None
    held: Callable[[], Iterable[bytes]] = tuple


class Notifier(Listener):
    """Pushes notices. The hooks only decide and queue, so a dead or slow ntfy never delays an exchange.

    Args:
        settings: `enabled(settings)` must be true.
        send: makes one attempt to push; by default over HTTP or, with NTFY_VIA=cli, the ntfy command.
        clock: event-loop seconds; by default the running loop's.
        wall: Unix seconds.
        around: other rooms.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        send: Send | None = None,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
        around: Surroundings | None = None,
    ) -> None:
        self._settings = settings
        self._around = around or Surroundings()
        self._at_start = secrets_of(settings)
        self._clock = clock
        self._wall = wall
        self._ahead: float | None = None  # what the rules' clock is ahead of the loop's: fixed, so that it never steps
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._pending: list[Event] = []
        self._batch_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._killed_before: list[float] = []
        self._rules: Rules | None = None
        self._labels: dict[str, str] = {}
        self._zone = UTC if settings.timezone == "UTC" else ZoneInfo(settings.timezone)
        self._wording = Wording(settings.ntfy_language, self._zone, settings.public_url or "", self._wall_of)
        self._name = state_name(settings)
        self._keeper = Keeper(None, self._snapshot)
        seat = None if self._around.seat is None else self._around.seat(self._name)
        self._crew = Crew(seat, self._lead, self._take)
        self._health = Health(self._submit, ledger_lost=self._around.ledger_lost, space=lambda: space_of(settings.data_dir))
        self.publisher = Publisher(
            send or sender(settings),
            wall=wall,
            clock=self._now,
            updates=settings.ntfy_updates,
            saved=self._saved,
            on_result=self._published,
        )

    @staticmethod
    def enabled(settings: Settings) -> bool:
        """Whether notices are on, that is, a topic is set."""
        return settings.ntfy_topic is not None

    async def start(self) -> None:
        """Find out which worker pushes; where it is this one, begin with what an earlier run has left."""
        await self._crew.start()
        self._health.start()
        with self._lock:
            self._loop = asyncio.get_running_loop()
        for last_seen in self._killed_before:
            self._tell_killed(last_seen)

    async def aclose(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Send what waits, within `timeout` plus one second, and keep the rest for the next start."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        for timer in (self._timer, self._batch_timer):
            if timer is not None:
                timer.cancel()
        await self._health.aclose()
        await self._crew.aclose()
        await self.publisher.aclose(timeout)
        await self._keeper.aclose()
        self._crew.resign()
        if self.publisher.waiting:
            log.warning("notices wait for the next start", count=len(self.publisher.waiting))

    # -- what is told

    def on_exchange_end(self, exchange: Exchange) -> None:
        """Count a failure at once, and a good answer with the next ones."""
        if exchange.failure is not None:
            if harms(exchange, exchange.failure):
                self._submit(Failed(self._fault(exchange)))
        elif went_well(exchange):
            self._pending.append(self._answer(exchange))
            if len(self._pending) >= MAX_BATCH or self._something_is_wrong:
                self._flush()
            elif self._batch_timer is None:
                self._batch_timer = asyncio.get_running_loop().call_later(BATCH, self._flush)

    def quota_seen(self, upstream: str, windows: Iterable[tuple[str, float, float | None]], account: str | None = None) -> None:
        """A provider was asked for the windows of an account's plan: name, used share, and Unix time of the reset of each."""
        name = account_named(account)
        label = self._label(upstream)
        if name and not name.startswith(CLIENT):  # of accounts that clients bring, only one is asked about
            label = f"{label}/{name}"
        self._submit(QuotaSeen(upstream, label, tuple(QuotaWindow(*window) for window in windows), name))

    def was_killed(self, last_seen: float) -> None:
        """An earlier process was found dead; it gave its last sign of life at `last_seen` (Unix seconds). From any thread."""
        with self._lock:
            if self._loop is None:
                self._killed_before.append(last_seen)
            else:
                self._loop.call_soon_threadsafe(self._tell_killed, last_seen)

    def _tell_killed(self, last_seen: float) -> None:
        self._submit(Happened(condition("crashed", self._wording.last_seen(last_seen))))

    @property
    def leads(self) -> bool:
        """Whether this worker is the one that knows the incidents."""
        return self._rules is not None

    def reports(self) -> list[Report]:
        """The incidents that are open or were lately, the last failure first; on the other workers none."""
        return [] if self._rules is None else self._rules.reports()

    @property
    def hidden(self) -> dict[str, int]:
        """Failed attempts that a retry hid from clients, by upstream, since the start."""
        return {} if self._rules is None else dict(self._rules.hidden)

    def tick(self) -> None:
        """Do what is due; called by a timer."""
        self._timer = None
        self._take(Tick())

    # -- events

    @property
    def _something_is_wrong(self) -> bool:
        return self._rules is not None and self._rules.anything_open

    def _submit(self, event: Event) -> None:
        """Hand an event to the worker that decides, after what was seen before it."""
        self._flush()
        self._crew.submit(event)

    def _flush(self) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None
        pending, self._pending = self._pending, []
        for event in pending:
            self._crew.submit(event)

    def _take(self, event: Event) -> None:
        if self._rules is None:
            return
        try:
            actions = self._rules.decide(event, self._now())
        except Exception as error:  # a bug of ours that affects one event must not end the others
            log.error("an event could not be decided about", kind=type(event).__name__, exc_info=error)
            return
        for action in actions:
            self._do(action)
        if actions or self._something_is_wrong or not isinstance(event, Answered):
            self._keeper.changed()
            self._arm()

    def _do(self, action: Action) -> None:
        match action:
            case Push(notice):
                self.publisher.put(notice.scrubbed(self._secrets()))
            case Withdraw(sequence):
                self.publisher.withdraw(sequence)
            case Hurry():
                self.publisher.hurry()
            case Record(report):
                self._around.record(report)
            case Summarise(since, until):
                self._spawn(self._summarise(since, until))

    async def _summarise(self, since: float, until: float) -> None:
        try:
            figures = await self._around.figures(since, until)
        except Exception as error:  # the summary then has what was counted here
            log.warning("the daily summary does without the books", reason=str(error)[:200])
            figures = Figures(since, until)
        self._take(figures)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="notices-work")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _published(self, notice: Notice, answer: Answer) -> None:
        self._take(Published(answer.reached, notice.sequence if answer.verdict is Verdict.SENT else ""))

    def _arm(self) -> None:
        """Schedule `tick` for the next due time; reset a timer that would fire too late."""
        due = None if self._rules is None else self._rules.next_due(self._now())
        if due is None or self._closed or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.05, due - self._now()), self.tick)

    # -- leading

    async def _lead(self, kept: bool) -> None:
        """This worker decides and pushes from now on."""
        path = self._settings.data_dir / "notices" / f"{self._name}.json" if kept else None
        self._keeper = Keeper(path, self._snapshot)
        found = await asyncio.to_thread(self._keeper.load)
        now = self._now()
        settings = self._settings
        self._rules = Rules(
            self._wording,
            self._around.make_id,
            now,
            local=lambda at: datetime.fromtimestamp(self._wall_of(at), self._zone),
            quiet_hours=settings.quiet_hours,
            daily=settings.daily_summary,
            min_priority=settings.ntfy_min_priority,
            state=None if found is None else found.rules,
        )
        if found is not None:
            self.publisher.restore(found.queue, found.known)
        self.publisher.start()
        self._take(Tick())

    def _snapshot(self) -> Kept:
        assert self._rules is not None
        return Kept(FORMAT, self._rules.state, list(self.publisher.waiting), self.publisher.known)

    async def _saved(self) -> None:
        self._keeper.touched()
        await self._keeper.save()

    # -- clocks and names

    def _now(self) -> float:
        """The rules' clock: Unix time when first asked, and the loop's monotonic seconds from there."""
        loop = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        if self._ahead is None:
            self._ahead = self._wall() - loop
        return loop + self._ahead

    def _wall_of(self, now: float) -> float:
        """Unix time of a moment of the rules' clock, by the clock of the machine as it is set now."""
        return now + self._wall() - self._now()

    def _fault(self, exchange: Exchange) -> Fault:
        """Describe an exchange's failure without secrets, because it is stored."""
        failure = exchange.failure
        assert failure is not None
        failure = replace(
            failure,
            kind=self._clean(failure.kind),
            message=self._clean(failure.message),
            provider_code=None if failure.provider_code is None else self._clean(failure.provider_code),
        )
        fault = Fault.of(exchange, failure, self._label(exchange.upstream), self._provider(exchange.upstream))
        return msgspec.structs.replace(fault, model=self._clean(fault.model))

    def _answer(self, exchange: Exchange) -> Answered:
        attempts = exchange.attempts
        last = attempts[-1] if attempts else None
        head = None if last is None or last.head_at is None else last.head_at - last.started
        hidden = max(len(attempts) - 1, 0)  # whatever came before the last one was a failure or a refusal
        upstream, label = exchange.upstream, self._label(exchange.upstream)
        return Answered(upstream, label, plain(exchange.model), exchange.duration, head, hidden, account_of(exchange))

    def _clean(self, text: str) -> str:
        for secret in sorted(filter(None, self._secrets()), key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return scrub(text)

    def _secrets(self) -> list[str]:
        return [*self._at_start, *(held.decode("utf-8", "replace") for held in self._around.held())]

    def _provider(self, upstream: str) -> Provider:
        """The provider of an upstream: the one named `default` has the provider of BASE_URL."""
        return find_at(self._settings.base_url if upstream in ("", "default") else upstream)

    def _label(self, upstream: str) -> str:
        """A short name for an upstream: the provider's, or the user's own name for it."""
        label = self._labels.get(upstream)
        if label is None:
            is_name = upstream not in ("", "default") and not {".", "/"} & set(upstream)
            label = plain(upstream) if is_name else self._provider(upstream).label
            if len(self._labels) < MAX_BATCH:
                self._labels[upstream] = label
        return label


def state_name(settings: Settings) -> str:
    """Names what belongs together: processes that push to one topic for one upstream."""
    words = "\n".join((settings.ntfy_topic or "", settings.ntfy_server, settings.base_url))
    return "notices-" + hashlib.blake2s(words.encode(), digest_size=6).hexdigest()


def sender(settings: Settings) -> Send:
    """Return the way of sending notices that NTFY_VIA names."""
    return Command(settings).send if settings.ntfy_via == "cli" else Http(settings).send


def secrets_of(settings: Settings) -> list[str]:
    """Return what no message may contain: every secret, and the upstream's host unless it is public."""
    values = [getattr(settings, name) for name in sorted(SECRETS)]
    found = [value.get_secret_value() for value in values if value is not None]
    parts = urlsplit(settings.base_url)
    if not find_at(settings.base_url).public:
        found += [parts.netloc, parts.hostname or ""]
    return found
