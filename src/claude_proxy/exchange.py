"""One client call, what it took and how it ended; and who is told of it.

`proxy/forward.py` fills an `Exchange`; listeners (log, notices, ledger, metrics) read it. A listener's methods are
synchronous and quick, and its exceptions are contained and counted: it can neither slow nor break an exchange.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from claude_proxy.errors import Side

Header = tuple[bytes, bytes]


class Outcome(enum.StrEnum):
    """How an exchange ended."""

    COMPLETED = "completed"  # the upstream's answer was relayed whole, whatever its status
    REFUSED = "refused"  # we answered 4xx: the client's side
    FAILED = "failed"  # we answered 5xx: no answer was to be had
    UNFINISHED = "unfinished"  # the upstream ended its event stream cleanly, before the answer had said everything
    CUT = "cut"  # the upstream's answer broke off; passed on as a cut
    STALLED = "stalled"  # the upstream's answer fell silent past the deadline; passed on as a cut
    CANCELLED = "cancelled"  # the client left: nobody's fault
    CLIENT_STALLED = "client-stalled"  # the client stopped reading
    ABORTED = "aborted"  # our process was told to stop before the end


class State(enum.StrEnum):
    """How far a running exchange has come."""

    READING = "reading"  # the request's body is coming in
    WAITING = "waiting"  # for an upstream, or for its turn there
    SENT = "sent"  # the upstream has the request and thinks
    ANSWERING = "answering"  # the response goes to the client
    ENDED = "ended"


class Kind(enum.StrEnum):
    """What a request asks of the API, by method and path."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    BATCHES = "batches"
    OTHER = "other"


@dataclass(slots=True)
class Usage:
    """Tokens as the upstream reported them (Messages API `usage`); None where it said nothing.

    `cache_write_5m` and `cache_write_1h` split `cache_write` where the upstream does.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    web_searches: int | None = None
    web_fetches: int | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange went wrong.

    Attributes:
        side: who has to act.
        kind: Anthropic's error type (`rate_limit_error`), or our own code (`connect_failed`, `stream_cut`).
        message: a sentence, without secrets and without prompt text, at most 300 characters.
        provider_code: the provider's own number, such as z.ai's "1302", or the provider table's word for a sentence.
        provider: name of the provider whose table explains the failure; None if none does.
    """

    side: Side
    kind: str
    message: str
    provider_code: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class CacheVerdict:
    """What became of the prompt cache, as determined by `protocol.cache_verdict`.

    Attributes:
        kind: "first", "grew", "changed", "expired" or "provider".
        area: of a change: "tools", "system", "message", "model" or "settings"; None for the other kinds.
        block: the first changed block, counted from 0 over tools, system and messages; None if no block is to blame.
        message: index in `messages`, for a change in the area "message".
        lost: tokens of the prompt that were in the cache before and were not read from it.
    """

    kind: str
    area: str | None = None
    block: int | None = None
    message: int | None = None
    lost: int = 0

    def __str__(self) -> str:
        if self.area is None:
            return self.kind
        place = self.area if self.message is None else f"{self.area} {self.message}"
        return f"{self.kind}: {place}" if self.block is None else f"{self.kind} at block {self.block} ({place})"


@dataclass(slots=True)
class Attempt:
    """One try at one upstream. Times are event-loop seconds."""

    upstream: str
    started: float
    account: str | None = None  # name of the account at the upstream
    reused: bool = False  # sent on a pooled connection
    head_at: float | None = None
    status: int | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class Exchange:
    """One client call from first byte in to last byte out. Times are event-loop seconds, but `started_at` (Unix).

    What watchers of a running exchange want to see is in `state`, `bytes_out`, `usage` and the like, after `refresh`.
    Every text of a client or an upstream has been through `cleaning.clean` before it stands here.
    """

    id: str
    method: str
    path: str  # after the prefix, percent-encoding as it came, without the query
    client: str
    started: float
    started_at: float
    state: State = State.READING
    kind: Kind = Kind.OTHER
    upstream: str = ""
    account: str | None = None  # name of the account at the upstream; never its credential
    key: str | None = None  # name of the client key that was shown
    session: str | None = None
    project: str | None = None  # name of the folder that the session works in
    agent: str | None = None
    parent_agent: str | None = None
    request_class: str | None = None
    user_agent: str | None = None
    model: str | None = None  # as the client asked for it
    model_sent: str | None = None  # what the upstream's map put in its place
    model_served: str | None = None  # as the upstream's answer names it
    stream: bool = False
    status: int = 0
    upstream_request_id: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    cache: CacheVerdict | None = None
    stop_reason: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte: float | None = None  # seconds from start to the first body byte sent to the client
    heard_at: float | None = None  # when the upstream's answer last brought something
    longest_silence: float = 0.0  # seconds without a byte from the upstream, in a stream
    pings: int = 0
    ended: float | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None
    transcript: int | None = None  # under which capture keeps its bodies, if it does
    live: Callable[[], None] | None = None  # brings the fields up to date while the answer is relayed

    @property
    def duration(self) -> float:
        """Seconds from first byte in to the end; 0.0 while it runs."""
        return 0.0 if self.ended is None else self.ended - self.started

    def refresh(self) -> None:
        """Bring `bytes_out`, `usage` and `heard_at` of a running exchange up to date: the path does so only now and then."""
        if self.live is not None:
            self.live()


class Tap:
    """Sees the bytes of one exchange, as they are. Override what is wanted; nothing here may wait.

    Attributes:
        at_once: whether `on_data` is to be called as each chunk passes; if not, small ones may come a few together, which costs
            less.
    """

    at_once = True

    @property
    def wants_data(self) -> bool:
        """Whether it needs the response's bytes. If no tap does, the relay does not have to look at each chunk."""
        return type(self).on_data is not Tap.on_data

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        """The request has gone to the upstream; `body` is what was kept of it, all of it if `whole`. Once per attempt."""

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        """The head of the answer that goes to the client, as the upstream sent it."""

    def on_data(self, data: bytes) -> None:
        """The next bytes of that answer's body."""

    def on_end(self, exchange: Exchange) -> None:
        """The exchange is over; called once."""


class Listener:
    """What may be overridden to be told of exchanges. Every method is optional."""

    async def start(self) -> None:
        """The event loop runs; called once, before the first exchange."""

    async def aclose(self) -> None:
        """The last exchange is over: write down what is still to be written."""

    def on_exchange_start(self, exchange: Exchange) -> None:
        """The request's head has been read."""

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        """An attempt has ended: its head came, or it failed."""

    def on_response_start(self, exchange: Exchange) -> None:
        """Status and headers go to the client now."""

    def on_exchange_end(self, exchange: Exchange) -> None:
        """The exchange is over; called exactly once for each."""

    def on_upstream_state(self, upstream: str, state: str) -> None:
        """An upstream was ejected or came back."""

    def tap(self, exchange: Exchange) -> Tap | None:
        """A tap that sees this exchange's bytes, or None. Called when the exchange opens."""
        return None


class Listeners:
    """Fans out to listeners; an exception of one is contained, counted and reported, never raised.

    Args:
        listeners: called in this order.
        on_error: told of each contained exception with the hook's name.
    """

    def __init__(self, listeners: Iterable[Listener] = (), on_error: Callable[[str, Exception], None] | None = None) -> None:
        self.errors = 0
        self._on_error = on_error
        self._all = list(listeners)
        self._start = [x.on_exchange_start for x in self._all if overrides(x, "on_exchange_start")]
        self._attempt = [x.on_attempt for x in self._all if overrides(x, "on_attempt")]
        self._response = [x.on_response_start for x in self._all if overrides(x, "on_response_start")]
        self._end = [x.on_exchange_end for x in self._all if overrides(x, "on_exchange_end")]
        self._state = [x.on_upstream_state for x in self._all if overrides(x, "on_upstream_state")]
        self._taps = [x.tap for x in self._all if overrides(x, "tap")]

    async def start(self) -> None:
        """Start each listener. Unlike the hooks', an exception here is raised: it stops the start of the process."""
        for listener in self._all:
            await listener.start()

    async def aclose(self) -> None:
        """Close each listener, whatever the others do."""
        for listener in reversed(self._all):
            try:
                await listener.aclose()
            except Exception as error:  # the next one has something to write down too
                self.contain("aclose", error)

    # Each of these runs for each exchange: the containment stands in place, since a call around it would cost as much as a hook.

    def exchange_start(self, exchange: Exchange) -> None:
        for hook in self._start:
            try:
                hook(exchange)
            except Exception as error:  # a listener must never break an exchange
                self.contain("on_exchange_start", error)

    def attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        for hook in self._attempt:
            try:
                hook(exchange, attempt)
            except Exception as error:  # as above
                self.contain("on_attempt", error)

    def response_start(self, exchange: Exchange) -> None:
        for hook in self._response:
            try:
                hook(exchange)
            except Exception as error:  # as above
                self.contain("on_response_start", error)

    def exchange_end(self, exchange: Exchange) -> None:
        for hook in self._end:
            try:
                hook(exchange)
            except Exception as error:  # as above
                self.contain("on_exchange_end", error)

    def upstream_state(self, upstream: str, state: str) -> None:
        for hook in self._state:
            self._call("on_upstream_state", hook, upstream, state)

    def tap(self, exchange: Exchange) -> Tap | None:
        """All taps that want to see this exchange, as one whose exceptions are contained; None if there are none."""
        taps: list[Tap] = []
        for offer in self._taps:
            try:
                tap = offer(exchange)
            except Exception as error:  # a listener must never break an exchange
                self.contain("tap", error)
            else:
                if tap is not None:
                    taps.append(tap)
        return _Taps(taps, self._call) if taps else None

    def contain(self, where: str, error: Exception) -> None:
        """Count and report an exception of something that only looks on: the exchange goes on."""
        self.errors += 1
        if self._on_error is not None:
            with contextlib.suppress(Exception):  # the log that failed may be the log that is told
                self._on_error(where, error)

    def _call(self, name: str, hook: Callable[..., None], *args: object, **more: object) -> None:
        try:
            hook(*args, **more)
        except Exception as error:  # a listener must never break an exchange
            self.contain(name, error)


class _Taps(Tap):
    """Several taps as one."""

    def __init__(self, taps: list[Tap], call: Callable[..., None]) -> None:
        self._taps = taps
        self._readers = [tap for tap in taps if tap.wants_data]
        self._call = call
        self.at_once = any(tap.at_once for tap in taps)

    @property
    def wants_data(self) -> bool:
        return bool(self._readers)

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        for tap in self._taps:
            self._call("tap.on_request", tap.on_request, headers, body, whole=whole)

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        for tap in self._taps:
            self._call("tap.on_response", tap.on_response, status, headers)

    def on_data(self, data: bytes) -> None:
        for tap in self._readers:
            self._call("tap.on_data", tap.on_data, data)

    def on_end(self, exchange: Exchange) -> None:
        for tap in self._taps:
            self._call("tap.on_end", tap.on_end, exchange)


def overrides(listener: Listener, hook: str) -> bool:
    """Whether `listener` does something in `hook`: those that do not are never called."""
    return getattr(type(listener), hook) is not getattr(Listener, hook)
