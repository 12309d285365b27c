"""Listeners: who is called, in which order, and that none can break an exchange."""

import pytest

from claude_proxy.exchange import Attempt, Exchange, Listener, Listeners, Outcome, Tap, overrides

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
        return lambda data: self.calls.append((self.name, "tap", data.decode()))


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


class BrokenTap(Listener):
    def tap(self, exchange: Exchange) -> Tap | None:
        def fail(data: bytes) -> None:
            raise RuntimeError("in the tap")

        return fail


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


def test_taps_see_the_bytes_and_none_is_no_tap() -> None:
    told = Told()
    taps = Listeners([Listener(), told, EndOnly()]).taps(exchange())
    assert len(taps) == 1
    taps[0](b"bytes")
    assert told.calls == [("", "tap", "bytes")]


class Declining(Listener):
    def tap(self, exchange: Exchange) -> Tap | None:
        return None


def test_a_listener_may_decline_to_tap() -> None:
    assert Listeners([Declining()]).taps(exchange()) == []


def test_a_tap_that_fails_is_contained_at_the_offer_and_at_the_bytes() -> None:
    reports: list[str] = []
    listeners = Listeners([Broken(), BrokenTap(), Told()], lambda hook, error: reports.append(f"{hook}: {error}"))
    taps = listeners.taps(exchange())
    for tap in taps:
        tap(b"x")
    assert (len(taps), listeners.errors) == (2, 2)
    assert reports == ["tap: tap", "tap: in the tap"]


def test_no_listeners_is_fine() -> None:
    listeners = Listeners()
    call_all(listeners)
    assert listeners.taps(exchange()) == []


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
    assert listeners.taps(exchange()) == []
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
