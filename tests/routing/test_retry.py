"""The retry table: only what cannot have reached the upstream is sent again."""

import itertools

import pytest

from claude_proxy.routing.retry import MAX_STALE, Kind, Verdict, decide


@pytest.mark.parametrize("tries", range(1, MAX_STALE + 1))
def test_a_stale_connection_is_replaced(tries: int) -> None:
    assert decide(Kind.NOT_SENT, stale=True, tries=tries, can_resend=True) is Verdict.AGAIN


def test_not_for_ever() -> None:
    assert decide(Kind.NOT_SENT, stale=True, tries=MAX_STALE + 1, can_resend=True) is Verdict.GIVE_UP


def test_not_without_the_body() -> None:
    assert decide(Kind.NOT_SENT, stale=True, tries=1, can_resend=False) is Verdict.GIVE_UP


@pytest.mark.parametrize("kind", Kind)
def test_everything_else_is_the_clients_to_repeat(kind: Kind) -> None:
    """`POST /v1/messages` is billed: a second copy could be billed twice."""
    for stale, tries, can_resend in itertools.product((False, True), (1, 2), (False, True)):
        if not (kind is Kind.NOT_SENT and stale and can_resend):
            assert decide(kind, stale=stale, tries=tries, can_resend=can_resend) is not Verdict.AGAIN


@pytest.mark.parametrize("kind", [Kind.ANSWERED, Kind.REFUSED, Kind.BROKE_OFF])
def test_what_the_upstream_said_is_passed_on(kind: Kind) -> None:
    assert decide(kind, stale=False, tries=1, can_resend=True) is Verdict.RELAY


@pytest.mark.parametrize("kind", [Kind.NOT_SENT, Kind.FAILED])
def test_without_an_answer_we_give_up(kind: Kind) -> None:
    assert decide(kind, stale=False, tries=1, can_resend=True) is Verdict.GIVE_UP
