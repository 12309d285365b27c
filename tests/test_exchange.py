"""Listeners: who is called, in which order, and that none can break an exchange."""

import enum
from collections.abc import Sequence
from types import ModuleType

import pytest

from claude_proxy import exchange as exchange_module
from claude_proxy.exchange import Attempt, CacheVerdict, Exchange, Header, Listener, Listeners, Outcome, Tap, overrides
from claude_proxy.routing import classes, retry, ticket
from claude_proxy.upstream import connection

HOOKS = ["on_exchange_start", "on_attempt", "on_response_start", "on_exchange_end", "on_upstream_state"]


def exchange() -> Exchange:
    return Exchange(id="cp_1", method="POST", path="/v1/messages", client="127.0.0.1", started=10.0, started_at=1_700_000_000.0)


class Told(Listener):
    """Writes down every call."""

    def __init__(self, name: str = "", calls: list[tuple[str, ...]] | None = None) -> None:
        self.name = name
        self.calls = [] if calls is None else calls

    def on_exchange_start(self, exchange: Exchange) -> None:
        self.calls.append((self.name, "on_exchange_start", exchange.id))

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        self.calls.append((self.name, "on_attempt", attempt.upstream))

    def on_response_start(self, exchange: Exchange) -> None:
        self.calls.append((self.name, "on_response_start", exchange.id))

    def on_exchange_end(self, exchange: Exchange) -> None:
        self.calls.append((self.name, "on_exchange_end", exchange.id))

    def on_upstream_state(self, upstream: str, state: str) -> None:
        self.calls.append((self.name, "on_upstream_state", upstream, state))

    def tap(self, exchange: Exchange) -> Tap | None:
        return ToldTap(self.name, self.calls)


class ToldTap(Tap):
    """Writes down what it sees."""

    def __init__(self, name: str, calls: list[tuple[str, ...]]) -> None:
        self.name = name
        self.calls = calls

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        self.calls.append((self.name, "request", body.decode(), str(whole)))

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self.calls.append((self.name, "response", str(status)))

    def on_data(self, data: bytes) -> None:
        self.calls.append((self.name, "data", data.decode()))

    def on_end(self, exchange: Exchange) -> None:
        self.calls.append((self.name, "end", exchange.id))


class Broken(Listener):
    """Fails at everything."""

    def on_exchange_start(self, exchange: Exchange) -> None:
        raise RuntimeError("start")

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        raise RuntimeError("attempt")

    def on_response_start(self, exchange: Exchange) -> None:
        raise RuntimeError("response")

    def on_exchange_end(self, exchange: Exchange) -> None:
        raise RuntimeError("end")

    def on_upstream_state(self, upstream: str, state: str) -> None:
        raise RuntimeError("state")

    def tap(self, exchange: Exchange) -> Tap | None:
        raise RuntimeError("tap")


class BrokenTap(Tap):
    """Fails at everything."""

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        raise RuntimeError("request")

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        raise RuntimeError("response")

    def on_data(self, data: bytes) -> None:
        raise RuntimeError("data")

    def on_end(self, exchange: Exchange) -> None:
        raise RuntimeError("end")


class OffersBrokenTap(Listener):
    def tap(self, exchange: Exchange) -> Tap | None:
        return BrokenTap()


def see_all(tap: Tap) -> None:
    tap.on_request([(b"a", b"b")], b"question", whole=True)
    tap.on_response(200, [])
    tap.on_data(b"answer")
    tap.on_end(exchange())


class EndOnly(Listener):
    def on_exchange_end(self, exchange: Exchange) -> None:
        pass


def call_all(listeners: Listeners) -> None:
    listeners.exchange_start(exchange())
    listeners.attempt(exchange(), Attempt("default", 1.0))
    listeners.response_start(exchange())
    listeners.exchange_end(exchange())
    listeners.upstream_state("default", "ejected")


def test_every_hook_reaches_every_listener_in_order() -> None:
    calls: list[tuple[str, ...]] = []
    call_all(Listeners([Told("a", calls), Told("b", calls)]))
    assert [call[:2] for call in calls] == [(name, hook) for hook in HOOKS for name in "ab"]
    assert calls[-1] == ("b", "on_upstream_state", "default", "ejected")


def test_a_failing_listener_is_counted_and_reported_and_the_next_one_called() -> None:
    told, reports = Told(), list[tuple[str, str]]()
    listeners = Listeners([Broken(), told], lambda hook, error: reports.append((hook, str(error))))
    call_all(listeners)
    assert [call[1] for call in told.calls] == HOOKS
    assert [hook for hook, _ in reports] == HOOKS
    assert listeners.errors == len(HOOKS)


def test_a_report_that_fails_too_breaks_nothing() -> None:
    def report(hook: str, error: Exception) -> None:
        raise BrokenPipeError("the log is gone")

    listeners = Listeners([Broken()], report)
    call_all(listeners)
    assert listeners.errors == len(HOOKS)


def test_without_a_report_failures_are_counted() -> None:
    listeners = Listeners([Broken()])
    call_all(listeners)
    assert listeners.errors == len(HOOKS)


def test_a_tap_sees_request_response_bytes_and_end() -> None:
    told = Told()
    tap = Listeners([Listener(), told, EndOnly()]).tap(exchange())
    assert tap is not None
    see_all(tap)
    assert told.calls == [
        ("", "request", "question", "True"), ("", "response", "200"), ("", "data", "answer"), ("", "end", "cp_1"),
    ]  # fmt: skip


def test_several_taps_see_the_same_in_the_listeners_order() -> None:
    calls: list[tuple[str, ...]] = []
    tap = Listeners([Told("a", calls), Told("b", calls)]).tap(exchange())
    assert tap is not None
    see_all(tap)
    assert [call[:2] for call in calls] == [(name, what) for what in ("request", "response", "data", "end") for name in "ab"]


class Declining(Listener):
    def tap(self, exchange: Exchange) -> Tap | None:
        return None


def test_a_listener_may_decline_to_tap() -> None:
    assert Listeners([Declining()]).tap(exchange()) is None


def test_a_tap_that_fails_is_contained_at_the_offer_and_at_each_hook_and_the_next_one_sees_all() -> None:
    reports: list[str] = []
    told = Told()
    listeners = Listeners([Broken(), OffersBrokenTap(), told], lambda hook, error: reports.append(f"{hook}: {error}"))
    tap = listeners.tap(exchange())
    assert tap is not None
    see_all(tap)
    assert reports == ["tap: tap", *(f"tap.on_{hook}: {hook}" for hook in ("request", "response", "data", "end"))]
    assert listeners.errors == 5
    assert len(told.calls) == 4


async def test_listeners_are_started_in_order_and_closed_the_other_way_round_whatever_they_do() -> None:
    calls: list[str] = []

    class Working(Listener):
        def __init__(self, name: str) -> None:
            self.name = name

        async def start(self) -> None:
            calls.append(f"start {self.name}")

        async def aclose(self) -> None:
            calls.append(f"close {self.name}")
            raise OSError("the disk is full")

    listeners = Listeners([Working("a"), Working("b"), Listener()])
    await listeners.start()
    await listeners.aclose()
    assert calls == ["start a", "start b", "close b", "close a"]
    assert listeners.errors == 2


def test_no_listeners_is_fine() -> None:
    listeners = Listeners()
    call_all(listeners)
    assert listeners.tap(exchange()) is None


def test_a_cancellation_is_not_contained() -> None:
    class Interrupted(Listener):
        def on_exchange_end(self, exchange: Exchange) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Listeners([Interrupted()]).exchange_end(exchange())


@pytest.mark.parametrize("hook", [*HOOKS, "tap"])
def test_an_override_is_found_where_it_is_inherited_too(hook: str) -> None:
    class Child(EndOnly):
        """Inherits the override."""

    assert overrides(Told(), hook)
    assert not overrides(Listener(), hook)
    assert overrides(Child(), hook) is (hook == "on_exchange_end")


def test_a_hook_that_is_not_overridden_is_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener costs an exchange only what it asks for."""
    called: list[str] = []
    for hook in [*HOOKS, "tap"]:
        monkeypatch.setattr(Listener, hook, lambda *_, hook=hook: called.append(hook))
    listeners = Listeners([Listener(), EndOnly()])
    call_all(listeners)
    assert listeners.tap(exchange()) is None
    assert (called, listeners.errors) == ([], 0)


def test_the_duration_is_zero_while_it_runs() -> None:
    running = exchange()
    assert running.duration == 0.0
    running.ended = 12.5
    assert running.duration == 2.5


def test_outcomes_are_words_for_a_log() -> None:
    """They are searched for and become labels of metrics: lower-case words with hyphens, as the names say them."""
    assert {outcome.value for outcome in Outcome} == {outcome.name.lower().replace("_", "-") for outcome in Outcome}
    assert f"{Outcome.CLIENT_STALLED}" == "client-stalled"


class OffersQuietTap(Listener):
    """Offers a tap that does not want the answer's bytes."""

    def __init__(self) -> None:
        self.ended = 0

    def tap(self, exchange: Exchange) -> Tap | None:
        return QuietTap(self)


class QuietTap(Tap):
    def __init__(self, listener: OffersQuietTap) -> None:
        self.listener = listener

    def on_end(self, exchange: Exchange) -> None:
        self.listener.ended += 1


def test_the_relay_is_told_whether_anybody_wants_the_answers_bytes() -> None:
    calls: list[tuple[str, ...]] = []
    quiet = OffersQuietTap()
    for listeners, wanted in ([quiet], False), ([quiet, Told("a", calls)], True), ([OffersBrokenTap()], True):
        tap = Listeners(listeners).tap(exchange())
        assert tap is not None
        assert tap.wants_data is wanted
        see_all(tap)
    assert quiet.ended == 2
    assert ("a", "data", "answer") in calls


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (CacheVerdict("grew"), "grew"),
        (CacheVerdict("changed", "model", lost=5), "changed: model"),
        (CacheVerdict("changed", "message", 12, 3, 5), "changed at block 12 (message 3)"),
    ],
)
def test_a_cache_verdict_in_words(verdict: CacheVerdict, words: str) -> None:
    assert str(verdict) == words


@pytest.mark.parametrize("module", [exchange_module, classes, connection, retry, ticket])
def test_a_global_name_of_a_member_is_that_member(module: ModuleType) -> None:
    """They are assigned in one line, in the order of the enumeration."""
    named = {name: value for name, value in vars(module).items() if isinstance(value, enum.Enum) and name.isupper()}
    assert named
    assert {name: value.name for name, value in named.items()} == {name: name for name in named}
