"""The record of one client call, and the hooks for those that observe calls.

`proxy/forward.py` fills an `Exchange`; listeners (log, notices, ledger, metrics) read it. A listener's methods are synchronous
and must return quickly. Their exceptions are caught and counted, so a faulty listener cannot break an exchange.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from claude_proxy.errors import Side

Header = tuple[bytes, bytes]
CacheKind = Literal["first", "grew", "changed", "expired", "provider"]
CacheArea = Literal["tools", "system", "message", "model", "settings"]


class Outcome(enum.StrEnum):
    """How an exchange ended."""

    __hash__ = str.__hash__  # Enum's is Python code, and slower

    COMPLETED = "completed"  # the upstream's answer was relayed whole, whatever its status
    REFUSED = "refused"  # we answered 4xx: the client's side
    FAILED = "failed"  # we answered 5xx: there was no answer to relay
    UNFINISHED = "unfinished"  # the upstream ended its event stream cleanly, but the answer is incomplete
    CUT = "cut"  # the upstream's answer broke off; passed on as a cut
    STALLED = "stalled"  # the upstream sent nothing until the idle timeout; passed on as a cut
    CANCELLED = "cancelled"  # the client disconnected: nobody's fault
    CLIENT_STALLED = "client-stalled"  # the client stopped reading
    ABORTED = "aborted"  # our process was told to stop before the end


class State(enum.StrEnum):
    """The progress of a running exchange."""

    READING = "reading"  # receiving the request's body
    WAITING = "waiting"  # for a connection to the upstream, or in its queue
    SENT = "sent"  # the upstream has the request and has not answered yet
    ANSWERING = "answering"  # relaying the response to the client
    ENDED = "ended"


class Kind(enum.StrEnum):
    """Which endpoint a request calls, by method and path."""

    __hash__ = str.__hash__  # Enum's is Python code, and slower

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    BATCHES = "batches"
    OTHER = "other"


# For the path: Python 3.11 finds a global name 0.1 us faster than an enumeration's member, and an exchange asks for 30 of them.
COMPLETED, REFUSED, FAILED, UNFINISHED, CUT, STALLED, CANCELLED, CLIENT_STALLED, ABORTED = Outcome
READING, WAITING, SENT, ANSWERING, ENDED = State
MESSAGES, COUNT_TOKENS, BATCHES, OTHER = Kind


@dataclass(slots=True)
class Usage:
    """Tokens as the upstream reported them (Messages API `usage`); None if it did not report a value.

    `cache_write_5m` and `cache_write_1h` are parts of `cache_write`, by time to live, if the upstream reports them.
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
        provider_code: the provider's own number, such as z.ai's "1302", or the provider table's name for an error that only its
            message identifies.
        provider: name of the provider whose table explains the failure; None if there is no explanation.
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
        kind: whether the prompt was cached, and if not, why.
        area: the part of the request that changed; None for the other kinds.
        block: the first changed block, counted from 0 over tools, system and messages; None if the cause is not a block.
        message: index in `messages`, for a change in the area "message".
        lost: tokens of the prompt that had been cached and were not read from the cache now.
    """

    kind: CacheKind
    area: CacheArea | None = None
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
    """One request to one upstream. Times are in seconds of the event loop's clock."""

    upstream: str
    started: float
    account: str | None = None  # name of the account at the upstream
    reused: bool = False  # sent on a pooled connection
    head_at: float | None = None
    status: int | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class Exchange:
    """One client call from the first byte in to the last byte out.

    Times are in seconds of the event loop's clock; `started_at` is Unix time. To observe a running exchange, call `refresh` and
    read `state`, `bytes_out`, `usage` and so on. Strings that come from a client or an upstream are stored here only after
    `cleaning.clean`.
    """

    id: str
    method: str
    path: str  # below our prefix, percent-encoded as received, without the query
    client: str
    started: float
    started_at: float
    state: State = READING
    kind: Kind = OTHER
    upstream: str = ""
    account: str | None = None  # name of the account at the upstream; never its credential
    key: str | None = None  # name of the client key that was sent
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
    heard_at: float | None = None  # when the last byte of the upstream's answer came
    longest_silence: float = 0.0  # seconds without a byte from the upstream, in a stream
    pings: int = 0
    ended: float | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None
    transcript: int | None = None  # id of the captured bodies, if they are stored
    live: Callable[[], None] | None = None  # updates the fields while the answer is being relayed
    place: Callable[[], int | None] | None = None  # its place in the queue while it waits there, 1 for the next one
    queue_wait: float | None = None  # seconds that it waited for its turn; None if it did not have to
    number: int = 0  # the id as the ledger's number (see `ids`); 0 if it was not made by this process

    @property
    def failed(self) -> bool:
        """Whether the client got no complete good answer although it stayed connected. Valid once it has ended."""
        if self.outcome is CANCELLED:
            return False
        return self.failure is not None or self.outcome is not COMPLETED or self.status >= 400

    @property
    def duration(self) -> float:
        """Seconds from first byte in to the end; 0.0 while it runs."""
        return 0.0 if self.ended is None else self.ended - self.started

    def refresh(self) -> None:
        """Update `bytes_out`, `usage` and `heard_at` of a running exchange; the relay itself does that only now and then."""
        if self.live is not None:
            self.live()


class Tap:
    """Observes the bytes of one exchange, unchanged. Override the methods you need; none of them may block.

    Attributes:
        at_once: True to have `on_data` called for each chunk as it passes. With False, small chunks may be passed together, which
            is cheaper.
    """

    at_once = True

    @property
    def wants_data(self) -> bool:
        """Whether this tap needs the response's bytes. If no tap does, the relay need not look at each chunk."""
        return type(self).on_data is not Tap.on_data

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        """Called once per attempt, when the request has been sent. `body` is the part that was kept; all of it if `whole`."""

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        """Called with the head of the answer that the client gets, as the upstream sent it."""

    def on_data(self, data: bytes) -> None:
        """Called with the next bytes of that answer's body."""

    def on_end(self, exchange: Exchange) -> None:
        """Called once, when the exchange is over."""


class Listener:
    """Base class of what observes exchanges. Override the methods you need."""

    async def start(self) -> None:
        """Called once in the running event loop, before the first exchange."""

    async def aclose(self) -> None:
        """Called after the last exchange: write whatever is still pending."""

    def on_exchange_start(self, exchange: Exchange) -> None:
        """Called when the request's head has been read."""

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        """Called when an attempt got a response head, or failed."""

    def on_response_start(self, exchange: Exchange) -> None:
        """Called just before status and headers are sent to the client."""

    def on_exchange_end(self, exchange: Exchange) -> None:
        """Called exactly once for each exchange, when it is over."""

    def on_upstream_state(self, upstream: str, state: str) -> None:
        """Called when an upstream was ejected or is back in rotation."""

    def tap(self, exchange: Exchange) -> Tap | None:
        """Return a tap for this exchange's bytes, or None. Called once the request has been read, as far as it is kept."""
        return None


class Listeners:
    """Calls every listener. An exception in one is caught, counted and reported; the others are still called.

    Args:
        listeners: called in this order.
        on_error: called with the hook's name and the exception that was caught.
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
        """Start each listener. Unlike in the hooks, an exception here propagates, and the process does not start."""
        for listener in self._all:
            await listener.start()

    async def aclose(self) -> None:
        """Close each listener, even if closing another one fails."""
        for listener in reversed(self._all):
            try:
                await listener.aclose()
            except Exception as error:  # the next one may have something to write too
                self.contain("aclose", error)

    # These run for every exchange, so the try block is repeated in each: a shared helper would cost as much as the hook itself.

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

    def exchange_end(self, *exchanges: Exchange) -> None:
        for hook in self._end:
            for exchange in exchanges:
                try:
                    hook(exchange)
                except Exception as error:  # as above
                    self.contain("on_exchange_end", error)

    def upstream_state(self, upstream: str, state: str) -> None:
        for hook in self._state:
            self._call("on_upstream_state", hook, upstream, state)

    def tap(self, exchange: Exchange) -> Tap | None:
        """Return the listeners' taps for this exchange as one tap that never raises; None if there are no taps."""
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
        """Count and report an exception of code that only observes. The exchange continues."""
        self.errors += 1
        if self._on_error is not None:
            with contextlib.suppress(Exception):  # reporting may fail for the same reason, such as a broken log
                self._on_error(where, error)

    def _call(self, name: str, hook: Callable[..., None], *args: object, **more: object) -> None:
        try:
            hook(*args, **more)
        except Exception as error:  # a listener must never break an exchange
            self.contain(name, error)


class _Taps(Tap):
    """Passes everything to several taps."""

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
    """Whether `listener` overrides `hook`; hooks that are not overridden are never called."""
    return getattr(type(listener), hook) is not getattr(Listener, hook)
