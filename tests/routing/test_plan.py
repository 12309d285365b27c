"""What follows an attempt: only what was certainly not worked on is sent again."""

from __future__ import annotations

import itertools

import pytest

from claude_proxy.routing.plan import FAKE_AFTER, LONG_WAIT, TABLE, Event, Facts, Step, plan

RELAY = (Step.RELAY, 0.0)


def test_every_event_has_its_row() -> None:
    assert TABLE.keys() == set(Event)


@pytest.mark.parametrize("event", [Event.BROKEN, Event.STARTED])
def test_what_may_have_been_worked_on_is_never_sent_again(event: Event) -> None:
    for tries, other, left in itertools.product((1, 2), (False, True), (0.0, 60.0)):
        assert plan(event, Facts(tries=tries, other=other, time_left=left)) == RELAY


@pytest.mark.parametrize("event", Event)
def test_nothing_is_sent_again_without_its_body(event: Event) -> None:
    assert plan(event, Facts(can_resend=False, other=True)) == RELAY


@pytest.mark.parametrize("event", [Event.UNREACHABLE, Event.CERTIFICATE, Event.OVERLOAD, Event.STOP])
def test_another_account_is_asked_at_once(event: Event) -> None:
    assert plan(event, Facts(other=True)) == (Step.OTHER, 0.0)
    assert plan(event, Facts(other=True, time_left=0.0)) == RELAY, "but not after the deadline"


@pytest.mark.parametrize(
    ("event", "delays"),
    [(Event.UNREACHABLE, (0.2, 0.5, 1.0)), (Event.OVERLOAD, (2.0, 5.0)), (Event.CERTIFICATE, ()), (Event.STOP, ())],
)
def test_the_only_account_is_asked_again_a_few_times(event: Event, delays: tuple[float, ...]) -> None:
    for tries, delay in enumerate(delays, 1):
        assert plan(event, Facts(tries=tries)) == (Step.AGAIN, delay)
    assert plan(event, Facts(tries=len(delays) + 1)) == RELAY


@pytest.mark.parametrize("event", [Event.CONCURRENCY, Event.RATE])
def test_a_refusal_that_passes_goes_back_into_the_queue(event: Event) -> None:
    assert plan(event, Facts(tries=99, other=True, bucket_open=False)) == (Step.QUEUE, 0.0)
    assert plan(event, Facts(retry_after=LONG_WAIT)) == (Step.QUEUE, 0.0)


@pytest.mark.parametrize("event", [Event.CONCURRENCY, Event.RATE, Event.OVERLOAD])
def test_a_long_retry_after_is_passed_on_unless_there_is_another_account(event: Event) -> None:
    assert plan(event, Facts(retry_after=LONG_WAIT + 1)) == RELAY
    assert plan(event, Facts(retry_after=LONG_WAIT + 1, other=True)) == (Step.OTHER, 0.0)


def test_retry_after_is_obeyed_where_it_is_longer() -> None:
    assert plan(Event.OVERLOAD, Facts(retry_after=7.0)) == (Step.AGAIN, 7.0)
    assert plan(Event.OVERLOAD, Facts(retry_after=0.5)) == (Step.AGAIN, 2.0)
    assert plan(Event.OVERLOAD, Facts(retry_after=7.0, time_left=6.0)) == RELAY


@pytest.mark.parametrize("event", [Event.UNREACHABLE, Event.OVERLOAD])
def test_an_empty_bucket_stops_hidden_retries(event: Event) -> None:
    assert plan(event, Facts(bucket_open=False)) == RELAY


def test_a_prompt_that_is_refused_each_time_is_not_sent_again() -> None:
    """z.ai answers 1305 to certain system prompts, whatever the load (docs/facts.md)."""
    assert plan(Event.OVERLOAD, Facts(same_prompt=FAKE_AFTER - 1))[0] is Step.AGAIN
    assert plan(Event.OVERLOAD, Facts(same_prompt=FAKE_AFTER)) == RELAY
    assert plan(Event.OVERLOAD, Facts(same_prompt=FAKE_AFTER, other=True))[0] is Step.OTHER  # which may be another provider
    assert plan(Event.OVERLOAD, Facts(same_prompt=FAKE_AFTER, later=True)) == (Step.OTHER, 0.0)  # once it may be asked again
