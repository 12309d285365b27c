"""The retry table: only what cannot have reached the upstream is sent again."""

import inspect

import pytest

from claude_proxy import errors
from claude_proxy.errors import ConnectionLost, ProxyError
from claude_proxy.routing.retry import MAX_STALE, Verdict, decide

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ProxyError)]


def stale() -> ConnectionLost:
    return ConnectionLost("closed before anything was written", code="stale_connection")


@pytest.mark.parametrize("tries", range(1, MAX_STALE + 1))
def test_a_stale_connection_is_replaced(tries: int) -> None:
    assert decide(stale(), tries=tries, can_resend=True) is Verdict.AGAIN


def test_not_for_ever() -> None:
    assert decide(stale(), tries=MAX_STALE + 1, can_resend=True) is Verdict.GIVE_UP


def test_not_without_the_body() -> None:
    assert decide(stale(), tries=1, can_resend=False) is Verdict.GIVE_UP


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_everything_else_is_the_clients_to_repeat(kind: type[ProxyError]) -> None:
    """`POST /v1/messages` is billed: a second copy could be billed twice."""
    for tries in (1, 2):
        assert decide(kind("x"), tries=tries, can_resend=True) is Verdict.GIVE_UP
