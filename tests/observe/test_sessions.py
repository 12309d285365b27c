"""What is known of sessions: what runs, who may ask, the project's name, and what is wrong with an upstream."""

from __future__ import annotations

from typing import Any

import pytest

from claude_proxy.exchange import Exchange, Failure, Kind, Listeners, Outcome
from claude_proxy.observe.credentials import mark, marks
from claude_proxy.observe.sessions import (
    LEARN_AGAIN,
    MAX_CREDENTIALS,
    MAX_OF_SESSION,
    MAX_RECENT,
    MAX_SESSIONS,
    RECENT,
    TROUBLE,
    Sessions,
)
from tests.observe.conversation import Clock
from tests.protocol.prompts import encode, request

MINE = frozenset([mark(b"mine")])
WHERE = "# Environment\nPrimary working directory: "


def exchange(number: int = 1, **values: Any) -> Exchange:
    fields: dict[str, Any] = {
        "session": "s",
        "kind": Kind.MESSAGES,
        "status": 200,
        "outcome": Outcome.COMPLETED,
        "upstream": "one",
    }
    return Exchange(f"x{number}", "POST", "/v1/messages", "c", 0.0, 0.0, **{**fields, **values})


def passed(sessions: Sessions, one: Exchange, *headers: tuple[bytes, bytes], body: bytes = b"{}", whole: bool = True) -> Exchange:
    """Let an exchange pass, as the path does."""
    listeners = Listeners([sessions])
    listeners.exchange_start(one)
    tap = listeners.tap(one)
    if tap is not None:
        tap.on_request(headers, body, whole=whole)
        tap.on_response(200, [])
        tap.on_end(one)
    listeners.exchange_end(one)
    assert listeners.errors == 0
    return one


def in_folder(path: str) -> bytes:
    return encode(request(messages=[{"role": "user", "content": "hi"}, {"role": "system", "content": WHERE + path}]))


def test_what_runs_is_brought_up_to_date_when_asked() -> None:
    sessions, one = Sessions(), exchange()
    one.live = lambda: setattr(one, "bytes_out", 5)
    sessions.on_exchange_start(one)
    sessions.on_exchange_start(exchange(2, kind=Kind.COUNT_TOKENS))
    sessions.on_exchange_start(exchange(3, session="t"))
    assert sessions.running("s") == [one]
    assert one.bytes_out == 5
    sessions.on_exchange_end(one)
    assert sessions.running("s") == []
    assert sessions.running("nobody") == []


def test_what_ended_just_now_is_remembered_for_some_seconds() -> None:
    clock = Clock()
    sessions = Sessions(clock=clock)
    first, second = passed(sessions, exchange(1)), passed(sessions, exchange(2, session="t"))
    assert (sessions.recent("s"), sessions.recent("t")) == ([first], [second])
    clock.now += RECENT + 1
    assert sessions.recent("s") == []
    third = passed(sessions, exchange(3, session="t"))
    assert sessions.recent("t") == [third]
    assert list(sessions._recent) == ["t"]


def test_memory_is_bounded() -> None:
    sessions = Sessions(clock=Clock())
    for number in range(MAX_SESSIONS + MAX_RECENT):
        passed(sessions, exchange(number, session=str(number)), (b"x-api-key", b"mine"))
    assert len(sessions._known) == MAX_SESSIONS
    assert len(sessions._recent) == MAX_RECENT
    for number in range(MAX_OF_SESSION + 1):
        last = passed(sessions, exchange(number, session="busy"))
    assert len(sessions.recent("busy")) == MAX_OF_SESSION
    assert sessions.recent("busy")[-1] is last
    for number in range(2 * MAX_RECENT):
        passed(sessions, exchange(number, session=f"other {number}"))
        last = passed(sessions, exchange(number, session="busy"))
    assert len(sessions.recent("busy")) == MAX_OF_SESSION
    assert sessions.recent("busy")[-1] is last
    assert sessions._running == {}
    assert not sessions.showed("0", MINE)
    assert sessions.showed(str(MAX_SESSIONS + MAX_RECENT - 1), MINE)


@pytest.mark.parametrize(
    "header", [(b"x-api-key", b"mine"), (b"authorization", b"Bearer mine"), (b"authorization", b"bearer  mine ")]
)
def test_a_session_is_asked_about_with_the_credential_it_shows(header: tuple[bytes, bytes]) -> None:
    sessions = Sessions()
    passed(sessions, exchange(), (b"accept", b"x"), header)
    assert sessions.showed("s", marks([(b"authorization", b"Bearer mine")]))
    assert sessions.showed("s", marks([(b"x-api-key", b"mine")]))
    assert not sessions.showed("s", marks([(b"x-api-key", b"another's")]))
    assert not sessions.showed("t", MINE)
    assert not sessions.showed("s", frozenset())
    assert marks([(b"authorization", b"Bearer "), (b"x-api-key", b""), (b"authorization", b"x")]) == frozenset()


@pytest.mark.parametrize("status", [0, 401, 429, 499, 529])
def test_a_credential_that_no_upstream_took_opens_nothing(status: int) -> None:
    sessions = Sessions()
    passed(sessions, exchange(status=status), (b"x-api-key", b"mine"))
    assert not sessions.showed("s", MINE)


def test_a_renewed_credential_is_learned_and_an_old_one_forgotten() -> None:
    sessions = Sessions()
    for number in range(MAX_CREDENTIALS + 1):
        passed(sessions, exchange(), (b"x-api-key", b"key-%d" % number))
    known = [sessions.showed("s", frozenset([mark(b"key-%d" % number)])) for number in range(MAX_CREDENTIALS + 1)]
    assert known == [False, *[True] * MAX_CREDENTIALS]


def test_a_mark_is_no_credential() -> None:
    sessions = Sessions()
    passed(sessions, exchange(), (b"x-api-key", b"sk-a-long-secret"))
    assert b"sk-a-long-secret" not in repr(sessions._known).encode()


def test_the_project_is_read_once_and_every_exchange_of_the_session_has_it() -> None:
    sessions = Sessions()
    assert passed(sessions, exchange(), body=in_folder("/home/me/shop")).project == "shop"
    assert passed(sessions, exchange(), body=b"{}").project == "shop"
    assert passed(sessions, exchange(), body=in_folder("/elsewhere")).project == "shop"
    assert passed(sessions, exchange(kind=Kind.COUNT_TOKENS)).project == "shop"
    assert passed(sessions, exchange(session="t")).project is None
    assert passed(sessions, exchange(session=None), body=in_folder("/x")).project is None


def test_the_main_line_knows_better_than_an_agent_and_the_status_line_best() -> None:
    sessions = Sessions()
    assert passed(sessions, exchange(agent="a"), body=in_folder("/home/me/shop/worktrees/a")).project == "a"
    assert passed(sessions, exchange(), body=in_folder("/home/me/shop")).project == "shop"
    assert passed(sessions, exchange(agent="a"), body=in_folder("/home/me/shop/worktrees/a")).project == "shop"
    sessions.tell_project("s", "told")
    assert passed(sessions, exchange(), body=in_folder("/home/me/shop")).project == "told"
    sessions.tell_project("s", None)
    assert passed(sessions, exchange()).project == "told"


@pytest.mark.parametrize("values", [{"request_class": "auxiliary"}, {"kind": Kind.COUNT_TOKENS}])
def test_the_project_is_not_read_from(values: dict[str, Any]) -> None:
    one = exchange()
    for name, value in values.items():
        setattr(one, name, value)
    assert passed(Sessions(), one, body=in_folder("/home/me/shop")).project is None


def test_nor_from_half_a_body_or_a_huge_one() -> None:
    assert passed(Sessions(), exchange(), body=in_folder("/home/me/shop"), whole=False).project is None
    assert passed(Sessions(), exchange(), body=in_folder("/home/me/shop") + b" " * 5_000_000).project is None


def test_project_names_can_be_switched_off() -> None:
    sessions = Sessions(projects=False)
    sessions.tell_project("s", "shop")
    assert passed(sessions, exchange(), body=in_folder("/home/me/shop")).project is None


def failing(number: int = 1, *, upstream: str = "one", side: Any = "upstream", **values: Any) -> Exchange:
    failure = Failure(side, "overloaded_error", "busy")
    return exchange(number, status=529, failure=failure, upstream=upstream, **values)


def test_failures_in_a_row_are_a_trouble_until_a_good_answer() -> None:
    clock = Clock()
    sessions = Sessions(clock=clock)
    assert sessions.trouble() is None
    for _ in range(3):
        passed(sessions, failing())
        clock.now += 10
    found = sessions.trouble()
    assert found is not None
    assert (found.upstream, found.times, found.status, found.until - found.since) == ("one", 3, 529, 20)
    passed(sessions, exchange(outcome=Outcome.CANCELLED, status=499))
    assert sessions.trouble() is not None, "who left says nothing of the upstream"
    passed(sessions, exchange())
    assert sessions.trouble() is None


def test_the_upstream_that_failed_last_is_named_and_old_failures_are_no_news() -> None:
    clock = Clock()
    sessions = Sessions(clock=clock)
    passed(sessions, failing(upstream="one"))
    clock.now += 5
    passed(sessions, failing(upstream="two"))
    passed(sessions, exchange(upstream="three"))
    found = sessions.trouble()
    assert found is not None
    assert found.upstream == "two"
    clock.now += TROUBLE
    assert sessions.trouble() is None
    passed(sessions, failing(upstream="two"))
    found = sessions.trouble()
    assert found is not None
    assert found.times == 1


@pytest.mark.parametrize("side", ["client", "proxy"])
def test_what_is_not_the_upstreams_fault_is_no_trouble_of_it(side: str) -> None:
    sessions = Sessions()
    passed(sessions, failing(side=side))
    passed(sessions, failing(upstream=""))
    assert sessions.trouble() is None


def test_a_session_that_sends_many_a_second_is_read_once_a_second() -> None:
    clock = Clock()
    sessions = Sessions(clock=clock, projects=False)
    passed(sessions, exchange(), (b"x-api-key", b"mine"))
    passed(sessions, exchange(2), (b"x-api-key", b"new"))
    assert not sessions.showed("s", frozenset([mark(b"new")]))
    clock.now += LEARN_AGAIN
    passed(sessions, exchange(3), (b"x-api-key", b"new"))
    assert sessions.showed("s", frozenset([mark(b"new")]))
    assert sessions.showed("s", MINE)
