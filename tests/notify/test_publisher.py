"""The queue: in order, bounded, retried, and emptied at the stop."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
import structlog

from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.ntfy import Http
from claude_proxy.notify.publisher import MAX_AGE, Item, Publisher
from tests.notify.exchanges import settings
from tests.notify.fake_ntfy import FakeNtfy, Reply

SENT = Answer(Verdict.SENT)
REFUSED = Answer(Verdict.REFUSED, "no")
QUOTA = Answer(Verdict.QUOTA, "no more today")
NOON = 1_790_000_000.0 // 86_400 * 86_400 + 43_200


def again(after: float | None = None) -> Answer:
    return Answer(Verdict.AGAIN, "not now", after)


def notice(name: str) -> Notice:
    return Notice(name, "text", 3, (), name)


class Ntfy:
    """Answers in order, then takes everything; `tries` is what it was asked to send."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = deque(answers)
        self.tries: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.taken = asyncio.Condition()

    async def send(self, one: Notice) -> Answer:
        self.tries.append(one.title)
        async with self.taken:
            self.taken.notify_all()
        await self.gate.wait()
        return self.answers.popleft() if self.answers else SENT

    async def until(self, count: int) -> None:
        async with self.taken, asyncio.timeout(20):
            await self.taken.wait_for(lambda: len(self.tries) >= count)


class Wall:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def close(publisher: Publisher) -> None:
    await publisher.aclose(10)


async def test_notices_are_sent_in_order() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send)
    publisher.put(notice("a"))
    publisher.start()
    publisher.start()
    publisher.put(notice("b"))
    await ntfy.until(2)
    await close(publisher)
    assert ntfy.tries == ["a", "b"]
    assert (publisher.sent, publisher.lost) == (2, 0)


async def test_a_failing_try_is_repeated_before_the_next_notice() -> None:
    ntfy = Ntfy(again(), again())
    publisher = Publisher(ntfy.send, first_wait=0.001)
    publisher.start()
    publisher.put(notice("a"))
    publisher.put(notice("b"))
    await ntfy.until(4)
    await close(publisher)
    assert ntfy.tries == ["a", "a", "a", "b"]
    assert publisher.lost == 0


async def test_the_servers_wait_is_kept() -> None:
    ntfy = Ntfy(again(0.1))
    publisher = Publisher(ntfy.send, first_wait=0.001)
    publisher.start()
    begun = asyncio.get_running_loop().time()
    publisher.put(notice("a"))
    await ntfy.until(2)
    assert asyncio.get_running_loop().time() - begun >= 0.09
    await close(publisher)


async def test_a_refused_notice_is_not_repeated_and_leaves_one_line() -> None:
    ntfy = Ntfy(REFUSED)
    publisher = Publisher(ntfy.send)
    with structlog.testing.capture_logs() as lines:
        publisher.start()
        publisher.put(notice("a"))
        publisher.put(notice("b"))
        await ntfy.until(2)
        await close(publisher)
    assert ntfy.tries == ["a", "b"]
    assert (publisher.sent, publisher.lost) == (1, 1)
    assert [line["reason"] for line in lines if line["log_level"] == "warning"] == ["no"]


async def test_a_delay_is_logged_once_per_notice() -> None:
    ntfy = Ntfy(again(), again(), again())
    publisher = Publisher(ntfy.send, first_wait=0.001)
    with structlog.testing.capture_logs() as lines:
        publisher.start()
        publisher.put(notice("a"))
        await ntfy.until(4)
        await close(publisher)
    assert [line["event"] for line in lines] == ["notice delayed", "notice sent"]


async def test_after_the_daily_quota_everything_waits_for_midnight_utc() -> None:
    ntfy = Ntfy(QUOTA)
    publisher = Publisher(ntfy.send, wall=Wall(NOON + 43_199.9), first_wait=0.001)
    publisher.put(notice("a"))
    publisher.put(notice("b"))
    begun = asyncio.get_running_loop().time()
    publisher.start()
    await ntfy.until(3)
    assert asyncio.get_running_loop().time() - begun >= 0.09
    await close(publisher)
    assert ntfy.tries == ["a", "a", "b"]
    assert publisher.lost == 0


async def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send, limit=3)
    for name in "abcde":
        publisher.put(notice(name))
    publisher.start()
    await ntfy.until(3)
    await close(publisher)
    assert ntfy.tries == ["c", "d", "e"]
    assert (publisher.sent, publisher.lost) == (3, 2)


async def test_a_notice_that_is_dropped_while_it_waits_is_not_tried_again() -> None:
    ntfy = Ntfy(again())
    publisher = Publisher(ntfy.send, limit=1, first_wait=0.001)
    ntfy.gate.clear()
    publisher.start()
    publisher.put(notice("a"))
    await ntfy.until(1)
    publisher.put(notice("b"))
    ntfy.gate.set()
    await ntfy.until(2)
    await close(publisher)
    assert ntfy.tries == ["a", "b"]


async def test_old_news_is_given_up() -> None:
    ntfy, wall = Ntfy(again(), again()), Wall()
    publisher = Publisher(ntfy.send, wall=wall, first_wait=0.001)
    ntfy.gate.clear()
    publisher.start()
    publisher.put(notice("a"))
    await ntfy.until(1)
    wall.now += MAX_AGE + 1
    ntfy.gate.set()
    publisher.put(notice("b"))
    await ntfy.until(3)
    await close(publisher)
    assert ntfy.tries == ["a", "b", "b"]
    assert publisher.lost == 1


async def test_the_stop_sends_what_waits_and_keeps_the_rest() -> None:
    ntfy = Ntfy(again(3600), again())
    publisher = Publisher(ntfy.send)
    publisher.start()
    for name in "abc":
        publisher.put(notice(name))
    await ntfy.until(1)
    await close(publisher)
    assert ntfy.tries == ["a", "a", "b", "c"]  # one more try each, without the wait
    assert [item.notice.title for item in publisher.waiting] == ["a"]
    assert (publisher.sent, publisher.lost) == (2, 0)


async def test_the_stop_is_bounded_when_ntfy_hangs() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send)
    ntfy.gate.clear()
    publisher.start()
    publisher.put(notice("a"))
    publisher.put(notice("b"))
    await ntfy.until(1)
    async with asyncio.timeout(5):
        await publisher.aclose(0.05)
    assert len(publisher.waiting) == 2
    publisher.put(notice("late"))
    assert publisher.lost == 1


async def test_a_stop_without_a_start_keeps_what_is_left() -> None:
    publisher = Publisher(Ntfy().send)
    publisher.put(notice("a"))
    await close(publisher)
    assert len(publisher.waiting) == 1


async def test_what_an_earlier_run_left_goes_first() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send, wall=Wall())
    publisher.put(notice("b"))
    publisher.restore([Item(notice("a"), NOON - 60)])
    publisher.start()
    await ntfy.until(2)
    await close(publisher)
    assert ntfy.tries == ["a", "b"]


# -- one notice per sequence


def in_sequence(title: str, priority: int = 3, *, update: bool = False) -> Notice:
    return Notice(title, "text", priority, (), "one", update=update)


async def test_a_notice_takes_the_place_of_the_one_that_waits_under_its_sequence() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send)
    for one in (in_sequence("fails", 4), notice("other"), in_sequence("fails more", 2, update=True), in_sequence("works", 2)):
        publisher.put(one)
    publisher.start()
    await ntfy.until(2)
    await close(publisher)
    assert ntfy.tries == ["works", "other"]


def test_an_update_is_as_loud_as_the_alert_that_nobody_has_heard() -> None:
    publisher = Publisher(Ntfy().send)
    publisher.put(in_sequence("fails", 4))
    publisher.put(in_sequence("fails more", 2, update=True))
    (item,) = publisher.waiting
    assert (item.notice.title, item.notice.priority, item.notice.update) == ("fails more", 4, False)


async def test_what_is_being_sent_is_not_replaced() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send)
    ntfy.gate.clear()
    publisher.start()
    publisher.put(in_sequence("fails"))
    await ntfy.until(1)
    publisher.put(in_sequence("works"))
    publisher.withdraw("nothing")
    ntfy.gate.set()
    await ntfy.until(2)
    await close(publisher)
    assert ntfy.tries == ["fails", "works"]


async def test_what_is_withdrawn_is_not_sent() -> None:
    ntfy = Ntfy()
    publisher = Publisher(ntfy.send)
    publisher.put(notice("a"))
    publisher.put(notice("b"))
    publisher.withdraw("a")
    publisher.start()
    await ntfy.until(1)
    await close(publisher)
    assert ntfy.tries == ["b"]


async def test_an_attempt_is_made_only_once_the_queue_is_on_disk() -> None:
    ntfy, order = Ntfy(), []

    async def saved() -> None:
        order.append([item.notice.title for item in publisher.waiting])

    publisher = Publisher(ntfy.send, saved=saved, on_result=lambda one, answer: order.append([f"tried {one.title}"]))
    publisher.put(notice("a"))
    publisher.start()
    await ntfy.until(1)
    await close(publisher)
    assert order == [["a"], ["tried a"], []]


async def test_a_pause_ends_when_the_network_is_back() -> None:
    ntfy = Ntfy(again())
    publisher = Publisher(ntfy.send, first_wait=3600)
    publisher.start()
    publisher.put(notice("a"))
    await ntfy.until(1)
    while len(ntfy.tries) < 2:
        publisher.hurry()
        await asyncio.sleep(0)
    await close(publisher)
    assert publisher.sent == 1


async def test_a_fault_in_one_try_does_not_end_the_rest() -> None:
    tries = []

    async def send(one: Notice) -> Answer:
        tries.append(one.title)
        if one.title == "a":
            raise RuntimeError("a bug")
        return SENT

    publisher = Publisher(send)
    publisher.put(notice("a"))
    publisher.put(notice("b"))
    publisher.start()
    await close(publisher)
    assert tries == ["a", "b"]
    assert (publisher.sent, publisher.lost) == (1, 1)


@pytest.mark.parametrize("first", [Reply(503), Reply(429, {"code": 42901}, {"retry-after": "0"}), Reply(raw=b"")])
async def test_over_a_real_connection_a_failed_try_is_made_good(first: Reply) -> None:
    async with FakeNtfy(first) as ntfy:
        publisher = Publisher(Http(settings(ntfy_server=ntfy.url)).send, first_wait=0.001)
        publisher.start()
        publisher.put(notice("a"))
        await ntfy.until(2)
        await close(publisher)
    assert [message["title"] for message in ntfy.messages] == ["a", "a"]
    assert (publisher.sent, publisher.lost) == (1, 0)


async def test_a_stuck_server_does_not_hold_up_the_stop() -> None:
    async with FakeNtfy(Reply(silent=True)) as ntfy:
        publisher = Publisher(Http(settings(ntfy_server=ntfy.url)).send)
        publisher.start()
        publisher.put(notice("a"))
        await ntfy.until(1)
        async with asyncio.timeout(5):
            await publisher.aclose(0.05)
    assert len(publisher.waiting) == 1
