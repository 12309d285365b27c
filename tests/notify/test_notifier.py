"""The listener as a whole: exchanges in, pushes out at a server on loopback; nothing waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from claude_proxy.exchange import Failure, Listeners, Outcome
from claude_proxy.notify import Notice, Notifier, secrets_of
from claude_proxy.notify.answer import Answer, Verdict
from tests.notify.exchanges import WALL, answered, failed, settings
from tests.notify.fake_ntfy import FakeNtfy, Reply


class Clock:
    """Loop seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sent:
    """Takes every notice at once."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._changed = asyncio.Condition()

    async def __call__(self, notice: Notice) -> Answer:
        self.notices.append(notice)
        async with self._changed:
            self._changed.notify_all()
        return Answer(Verdict.SENT)

    async def until(self, count: int) -> None:
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(lambda: len(self.notices) >= count)


def test_notices_are_wanted_when_a_topic_is_set() -> None:
    assert Notifier.enabled(settings())
    assert not Notifier.enabled(settings(ntfy_topic=None))


async def test_300_failures_and_a_recovery_push_two_messages_and_one_recovery() -> None:
    clock = Clock()
    async with FakeNtfy() as ntfy:
        notifier = Notifier(settings(ntfy_server=ntfy.url), clock=clock)
        await notifier.start()
        for n in range(300):
            notifier.on_exchange_end(failed(1000 + n))
        clock.now = 1600
        notifier.tick()
        notifier.on_exchange_end(answered(1700))
        await notifier.aclose()
    assert [message["title"] for message in ntfy.messages] == [
        "z.ai: concurrency limit (1302)",
        "z.ai: concurrency limit (1302), 299 more",
        "z.ai: works again",
    ]
    assert [message["priority"] for message in ntfy.messages] == [3, 3, 2]
    assert len({message["sequence_id"] for message in ntfy.messages}) == 1


async def test_the_timer_says_what_is_due() -> None:
    sent = Sent()
    loop = asyncio.get_running_loop()
    notifier = Notifier(settings(), send=sent)
    await notifier.start()
    early = loop.time() - 599.9
    notifier.on_exchange_end(failed(early))
    notifier.on_exchange_end(failed(early + 1))
    await sent.until(2)
    assert "1 more" in sent.notices[1].title
    await notifier.aclose()


async def test_an_earlier_due_time_moves_the_timer_forward() -> None:
    sent = Sent()
    loop = asyncio.get_running_loop()
    notifier = Notifier(settings(), send=sent)
    await notifier.start()
    notifier.on_exchange_end(failed(loop.time()))
    notifier.on_exchange_end(failed(loop.time()))  # due in ten minutes
    notifier.on_exchange_end(failed(loop.time() - 599.9, None, "api_error"))
    notifier.on_exchange_end(failed(loop.time() - 599.9, None, "api_error"))  # due now
    await sent.until(3)
    assert "server error, 1 more" in sent.notices[2].title
    await notifier.aclose()


async def test_the_stop_tells_what_was_only_counted() -> None:
    sent = Sent()
    notifier = Notifier(settings(), send=sent, clock=Clock())
    await notifier.start()
    notifier.on_exchange_end(failed(1000))
    notifier.on_exchange_end(failed(1000))
    await notifier.aclose()
    await notifier.aclose()
    assert [notice.title for notice in sent.notices] == [
        "z.ai: concurrency limit (1302)",
        "z.ai: concurrency limit (1302), 1 more",
    ]


async def test_what_failed_before_the_start_is_sent_after_it() -> None:
    sent = Sent()
    notifier = Notifier(settings(), send=sent, clock=Clock())
    notifier.on_exchange_end(failed(1000))
    await notifier.start()
    await notifier.aclose()
    assert len(sent.notices) == 1


async def test_a_running_exchange_without_an_end_time_is_dated_now() -> None:
    sent = Sent()
    notifier = Notifier(settings(), send=sent)
    one = failed(0.0)
    one.ended = None
    await notifier.start()
    notifier.on_exchange_end(one)
    await notifier.aclose()
    assert len(sent.notices) == 1


async def test_an_ejection_is_told() -> None:
    sent = Sent()
    notifier = Notifier(settings(), send=sent, clock=Clock(), wall=lambda: WALL)
    await notifier.start()
    notifier.on_upstream_state("backup", "ejected")
    notifier.on_upstream_state("backup", "healthy")
    await notifier.aclose()
    assert [notice.title for notice in sent.notices] == ["backup: taken out of rotation", "backup: works again"]


@pytest.mark.parametrize(
    ("upstream", "base_url", "label"),
    [
        ("default", "https://api.z.ai/api/anthropic", "z.ai"),
        ("", "https://api.anthropic.com", "Anthropic"),
        ("default", "https://llm.corp.example", "upstream"),
        ("api.anthropic.com", "https://api.z.ai/api/anthropic", "Anthropic"),
        ("night shift", "https://api.z.ai/api/anthropic", "night shift"),
    ],
)
async def test_a_title_names_the_upstream(upstream: str, base_url: str, label: str) -> None:
    sent = Sent()
    notifier = Notifier(settings(base_url=base_url), send=sent, clock=Clock())
    await notifier.start()
    notifier.on_exchange_end(failed(1000, upstream=upstream))
    await notifier.aclose()
    assert sent.notices[0].title.startswith(f"{label}: ")


async def test_no_secret_and_no_private_host_is_pushed() -> None:
    secrets = {"upstream_api_key": "upstream-hush", "proxy_api_key": "proxy-hush", "ntfy_token": "ntfy-hush"}
    told = "upstream-hush proxy-hush ntfy-hush llm.corp.example:8443 llm.corp.example sk-ant-abcdef123 http://u:pw@host/"
    base = settings(base_url="https://llm.corp.example:8443/llm", **secrets)
    sent = Sent()
    notifier = Notifier(base, send=sent, clock=Clock())
    await notifier.start()
    notifier.on_exchange_end(failed(1000, None, "hush-proxy-hush", message=told, model="upstream-hush"))
    await notifier.aclose()
    text = sent.notices[0].title + sent.notices[0].message
    for secret in (*secrets.values(), "corp", "abcdef123", "pw"):
        assert secret not in text


def test_a_public_providers_host_is_no_secret() -> None:
    assert secrets_of(settings()) == []
    assert secrets_of(settings(base_url="http://box:4000")) == ["box:4000", "box"]


async def test_a_stuck_ntfy_costs_an_exchange_nothing() -> None:
    async with FakeNtfy(*[Reply(silent=True)] * 5) as ntfy:
        notifier = Notifier(settings(ntfy_server=ntfy.url), clock=Clock())
        await notifier.start()
        notifier.on_exchange_end(failed(1000))
        await ntfy.until(1)
        for n in range(2000):
            notifier.on_exchange_end(failed(1000 + n / 100, None, f"odd_{n % 7}_error"))
        async with asyncio.timeout(10):
            await notifier.aclose(0.05)
    assert len(ntfy.published) == 1


async def test_a_good_exchange_leaves_nothing_behind() -> None:
    sent = Sent()
    notifier = Notifier(settings(), send=sent)
    await notifier.start()
    before = len(asyncio.all_tasks())
    for n in range(100):
        notifier.on_exchange_end(answered(1000.0 + n))
    assert len(asyncio.all_tasks()) == before
    await notifier.aclose()
    assert sent.notices == []


async def test_as_a_listener_it_hears_of_ends_and_states_only() -> None:
    sent = Sent()
    notifier = Notifier(settings(), send=sent, clock=Clock())
    listeners = Listeners([notifier])
    await notifier.start()
    one: Any = failed(1000, outcome=Outcome.CUT, status=200)
    one.failure = Failure("upstream", "stream_cut", "The upstream broke off its answer.")
    listeners.exchange_start(one)
    listeners.exchange_end(one)
    listeners.upstream_state("default", "ejected")
    await notifier.aclose()
    assert listeners.errors == 0
    assert [notice.title for notice in sent.notices] == ["z.ai: answers break off"]
