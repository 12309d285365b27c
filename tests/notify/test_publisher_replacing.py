"""What replaces a message on the phone, and what must not: updates, and notices that should make a sound."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

import msgspec
import pytest

from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.publisher import MAX_NAMES, Known, Publisher
from tests.notify.test_publisher import SENT, Ntfy, again, close, in_sequence, notice


@pytest.mark.parametrize(("replaces", "tries"), [(True, ["a", "update"]), (None, ["a", "update"]), (False, ["a"])])
async def test_an_update_is_not_sent_where_it_would_be_one_more_message(replaces: bool | None, tries: list[str]) -> None:
    ntfy, known = Ntfy(Answer(Verdict.SENT, replaces=replaces)), asyncio.Event()
    publisher = Publisher(ntfy.send, on_result=lambda one, answer: known.set())
    publisher.start()
    publisher.put(notice("a"))
    await known.wait()
    publisher.put(in_sequence("update", update=True))
    await close(publisher)
    assert ntfy.tries == tries
    assert publisher.lost == 0


@pytest.mark.parametrize(
    ("updates", "known", "tries"), [(True, None, ["update"]), (True, True, ["update"]), (True, False, []), (False, True, [])]
)
async def test_an_update_after_a_restart_goes_by_what_is_wanted_and_known(
    updates: bool, known: bool | None, tries: list[str]
) -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send, updates=updates)
    publisher.restore([], Known(replaces=known))
    publisher.start()
    publisher.put(in_sequence("update", update=True))
    await close(publisher)
    assert ntfy.tries == tries
    assert (publisher.waiting, publisher.lost) == ((), 0)


async def test_an_update_of_an_alert_that_waits_is_sent_even_where_updates_are_not_wanted() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send, updates=False)
    publisher.put(in_sequence("alert"))
    publisher.put(in_sequence("alert, up to date", update=True))
    publisher.start()
    await close(publisher)
    assert ntfy.tries == ["alert, up to date"]


async def test_an_update_that_is_withdrawn_during_the_stop_does_not_end_it() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send, updates=False, on_result=lambda one, answer: publisher.withdraw("update"))
    for name, update in (("a", False), ("update", True), ("b", False)):
        publisher.put(replace(notice(name), update=update))
    publisher.start()
    await close(publisher)
    assert ntfy.tries == ["a", "b"]


LOUD, QUIET = 3, 2


@pytest.mark.parametrize(
    ("priorities", "names"),
    [
        ([LOUD, QUIET, QUIET], ["one", "one", "one"]),
        ([LOUD, LOUD, QUIET], ["one", "one_1", "one_1"]),
        ([LOUD, QUIET, LOUD, QUIET, LOUD, LOUD], ["one", "one", "one_1", "one_1", "one_2", "one_3"]),
        ([QUIET, LOUD], ["one", "one_1"]),
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
async def test_what_makes_a_sound_replaces_nothing_on_the_phone(priorities: list[int], names: list[str], restarts: bool) -> None:
    sent, known = [], Known()

    async def send(one: Notice) -> Answer:
        sent.append(one.sequence)
        return SENT

    publisher = Publisher(send)
    for priority in priorities:
        if restarts:
            publisher = Publisher(send)
            publisher.restore([], known)
        publisher.put(in_sequence("a", priority))
        await publisher._attempt_and_settle(publisher.waiting[0])
        known = msgspec.json.decode(msgspec.json.encode(publisher.known), type=Known)
    assert sent == names


async def test_a_loud_notice_keeps_its_name_until_it_is_delivered() -> None:
    """It may have arrived although the answer was lost: it then replaces itself."""
    sent, answers = [], deque([SENT, again(), again(), SENT])

    async def send(one: Notice) -> Answer:
        sent.append(one.sequence)
        return answers.popleft()

    publisher = Publisher(send)
    for title, attempts in (("a", 1), ("b", 3)):
        publisher.put(in_sequence(title))
        for _ in range(attempts):
            await publisher._attempt_and_settle(publisher.waiting[0])
    assert sent == ["one", "one_1", "one_1", "one_1"]


async def test_names_of_long_ago_are_forgotten() -> None:
    publisher = Publisher(Ntfy().send)
    for number in range(MAX_NAMES + 10):
        publisher.put(notice(f"n{number}"))
        await publisher._attempt_and_settle(publisher.waiting[0])
    assert len(publisher.known.names) == MAX_NAMES
    assert "n0" not in publisher.known.names
