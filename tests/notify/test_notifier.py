"""The listener as a whole: exchanges in, pushes out at a server on loopback; nothing waits for it, no restart loses anything."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from claude_proxy.exchange import Attempt, Failure, Listeners, Outcome
from claude_proxy.notify import Figures, Notice, Notifier, Report, Surroundings, secrets_of
from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.notifier import MAX_BATCH, state_name
from claude_proxy.settings import Settings
from tests.notify.exchanges import WALL, answered, failed, settings, used_up
from tests.notify.fake_ntfy import FakeNtfy, Reply


class Clock:
    """Loop seconds that stand still until they are moved; `wall` goes with them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


class Sent:
    """Takes every notice at once, or answers as it is told."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.notices: list[Notice] = []
        self.answer = answer or Answer(Verdict.SENT, replaces=True)
        self._changed = asyncio.Condition()

    async def __call__(self, notice: Notice) -> Answer:
        self.notices.append(notice)
        async with self._changed:
            self._changed.notify_all()
        return self.answer

    async def until(self, count: int) -> None:
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(lambda: len(self.notices) >= count)

    @property
    def titles(self) -> list[str]:
        return [notice.title for notice in self.notices]


DOWN = Answer(Verdict.AGAIN, "not now", reached=False)


def made(sent: Any, clock: Clock, given: Settings | None = None, **around: Any) -> Notifier:
    return Notifier(given or settings(), send=sent, clock=clock, wall=clock.wall, around=Surroundings(**around))


def test_notices_are_wanted_when_a_topic_is_set() -> None:
    assert Notifier.enabled(settings())
    assert not Notifier.enabled(settings(ntfy_topic=None))


def outage(notifier: Notifier, clock: Clock, count: int = 3) -> None:
    """Failures that are worth a notice, which is then asked for."""
    for _ in range(count):
        notifier.on_exchange_end(failed(clock.now))
    clock.now += 30
    notifier.tick()


async def test_an_outage_of_hours_and_its_end_are_one_sequence_with_one_sound() -> None:
    clock = Clock()
    async with FakeNtfy() as ntfy:
        notifier = Notifier(settings(ntfy_server=ntfy.url), clock=clock, wall=clock.wall)
        await notifier.start()
        outage(notifier, clock)
        await ntfy.until(1)
        for count, minutes in ((2, 30), (3, 30), (4, 60), (5, 60)):
            for _ in range(minutes):
                clock.now += 60
                notifier.on_exchange_end(failed(clock.now))
                notifier.tick()
            await ntfy.until(count)
        for _ in range(2):
            clock.now += 5
            notifier.on_exchange_end(answered(clock.now))
        await notifier.aclose()
    messages = ntfy.messages
    assert len({message["sequence_id"] for message in messages}) == 1
    assert [message["priority"] for message in messages] == [3] + [2] * (len(messages) - 1)
    assert messages[0]["title"] == "z.ai: concurrency limit (1302)"
    assert messages[-1]["title"] == "z.ai: works again"
    assert "183 requests failed" in messages[-1]["message"]


async def test_an_older_server_gets_no_updates_because_it_would_keep_each() -> None:
    clock = Clock()
    async with FakeNtfy(old=True) as ntfy:
        notifier = Notifier(settings(ntfy_server=ntfy.url), clock=clock, wall=clock.wall)
        await notifier.start()
        outage(notifier, clock)
        await ntfy.until(1)
        for _ in range(60):
            clock.now += 60
            notifier.on_exchange_end(failed(clock.now))
            notifier.tick()
        for _ in range(2):
            clock.now += 5
            notifier.on_exchange_end(answered(clock.now))
        await notifier.aclose()
    assert [message["title"] for message in ntfy.messages] == ["z.ai: concurrency limit (1302)", "z.ai: works again"]


async def test_a_burst_that_heals_by_itself_pushes_nothing() -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    await notifier.start()
    for _ in range(300):
        notifier.on_exchange_end(failed(clock.now))
    for _ in range(2):
        clock.now += 3
        notifier.on_exchange_end(answered(clock.now))
    clock.now += 3600
    notifier.tick()
    await notifier.aclose()
    assert sent.notices == []


async def test_the_timer_says_what_is_due() -> None:
    """On the real clock, with a hold that is nearly over."""
    sent = Sent()
    loop = asyncio.get_running_loop()
    offset = 0.0
    notifier = Notifier(settings(), send=sent, clock=lambda: loop.time() + offset)
    await notifier.start()
    for _ in range(3):
        notifier.on_exchange_end(failed(loop.time()))
    offset = 29.9
    notifier.tick()
    assert sent.notices == []
    await sent.until(1)
    await notifier.aclose()


async def test_what_failed_before_the_start_is_sent_after_it() -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    notifier.on_exchange_end(used_up(1000))
    await notifier.start()
    await notifier.aclose()
    assert sent.titles == ["z.ai: usage window used up (1308)"]


async def test_an_attempt_that_a_retry_hid_is_counted_and_not_pushed() -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    await notifier.start()
    for _ in range(5):
        one = answered(clock.now)
        refused = Failure("upstream", "overloaded_error", "busy", "1305", "zai")
        one.attempts = [Attempt("default", clock.now, status=529, failure=refused) for _ in range(2)]
        one.attempts.append(Attempt("default", clock.now, head_at=clock.now + 1, status=200))
        notifier.on_exchange_end(one)
    await notifier.aclose()
    assert sent.notices == []
    assert notifier.hidden == {"default": 10}


async def test_an_ejection_alone_is_no_harm_that_a_client_saw() -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    listeners = Listeners([notifier])
    await notifier.start()
    listeners.upstream_state("backup", "ejected")
    await notifier.aclose()
    assert sent.notices == []


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
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock, settings(base_url=base_url))
    await notifier.start()
    notifier.on_exchange_end(used_up(1000, upstream=upstream))
    await notifier.aclose()
    assert sent.titles[0].startswith(f"{label}: ")


async def test_no_secret_and_no_private_host_is_pushed_or_kept() -> None:
    secrets = {"upstream_api_key": "upstream-hush", "proxy_api_key": "proxy-hush", "ntfy_token": "ntfy-hush"}
    told = "upstream-hush proxy-hush ntfy-hush llm.corp.example:8443 llm.corp.example sk-ant-abcdef123 http://u:pw@host/"
    given = settings(base_url="https://llm.corp.example:8443/llm", **secrets)
    clock, sent, reports = Clock(), Sent(), list[Report]()
    notifier = made(sent, clock, given, record=reports.append)
    await notifier.start()
    for kind in ("http_403", "hush-proxy-hush"):
        for _ in range(3):
            notifier.on_exchange_end(failed(1000, None, kind, message=told, model="upstream-hush"))
    clock.now += 30
    notifier.tick()
    await notifier.aclose()
    kept = (given.data_dir / "notices" / f"{state_name(given)}.json").read_text("utf-8")
    assert len(sent.notices) == 2
    for text in (*(notice.title + notice.message for notice in sent.notices), kept, repr(reports)):
        for secret in (*secrets.values(), "corp", "abcdef123", "pw"):
            assert secret not in text


def test_a_public_providers_host_is_no_secret() -> None:
    assert secrets_of(settings()) == []
    assert secrets_of(settings(base_url="http://box:4000")) == ["box:4000", "box"]
    assert "hush" in secrets_of(settings(ntfy_password="hush"))


async def test_a_stuck_ntfy_costs_an_exchange_nothing() -> None:
    clock = Clock()
    async with FakeNtfy(*[Reply(silent=True)] * 5) as ntfy:
        notifier = Notifier(settings(ntfy_server=ntfy.url), clock=clock, wall=clock.wall)
        await notifier.start()
        notifier.on_exchange_end(used_up(1000))
        await ntfy.until(1)
        for n in range(2000):
            notifier.on_exchange_end(failed(1000 + n / 100, None, f"odd_{n % 7}_error"))
        async with asyncio.timeout(10):
            await notifier.aclose(0.05)
    assert len(ntfy.published) == 1


async def test_good_exchanges_are_taken_in_batches_and_leave_nothing_behind() -> None:
    clock, sent = Clock(), Sent()
    given = settings()
    notifier = made(sent, clock, given)
    await notifier.start()
    before = len(asyncio.all_tasks())
    for _ in range(3 * MAX_BATCH + 10):
        notifier.on_exchange_end(answered(1000.0))
    assert len(asyncio.all_tasks()) == before
    await notifier.aclose()
    assert sent.notices == []


async def test_a_bug_in_the_rules_costs_one_event() -> None:
    clock, sent, calls = Clock(), Sent(), list[int]()

    def make_id() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return len(calls)

    notifier = made(sent, clock, make_id=make_id)
    await notifier.start()
    for _ in range(2):
        notifier.on_exchange_end(used_up(1000))
    await notifier.aclose()
    assert len(sent.notices) == 1


# -- what other rooms give


async def test_incidents_are_handed_to_the_books_from_open_to_close_with_what_was_pushed() -> None:
    clock, sent, reports = Clock(), Sent(), list[Report]()
    numbers = iter(range(7, 100))
    notifier = made(sent, clock, record=reports.append, make_id=lambda: next(numbers))
    await notifier.start()
    outage(notifier, clock)
    for _ in range(2):
        clock.now += 1
        notifier.on_exchange_end(answered(clock.now))
    await notifier.aclose()
    assert {report.id for report in reports} == {7}
    assert [(report.failures, report.told, report.closed) for report in (reports[0], reports[-1])] == [
        (1, False, None),
        (3, True, WALL + 1032),
    ]
    assert [title for _, title in reports[-1].pushed] == ["z.ai: concurrency limit (1302)", "z.ai: works again"]
    assert notifier.reports() == [reports[-1]]


async def test_the_plans_windows_are_told() -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock, settings(timezone="Asia/Seoul"))
    await notifier.start()
    notifier.quota_seen("default", [("5h", 0.81, WALL + 3600), ("week", 0.2, None)])
    await notifier.aclose()
    assert sent.titles == ["z.ai: 80 % of the 5-hour quota used"]
    assert "KST" in sent.notices[0].message


@pytest.mark.parametrize(
    ("account", "who"), [(None, "z.ai"), ("default", "z.ai"), ("client-4ce1428d23a7", "z.ai"), ("work", "z.ai/work")]
)
async def test_a_plan_is_named_with_its_account_if_the_user_named_that(account: str | None, who: str) -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    await notifier.start()
    notifier.quota_seen("default", [("5h", 0.81, WALL + 3600)], account)
    await notifier.aclose()
    assert sent.titles == [f"{who}: 80 % of the 5-hour quota used"]


@pytest.mark.parametrize("early", [True, False])
async def test_a_killed_process_is_told_from_any_thread_before_and_after_the_start(early: bool) -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    found = threading.Thread(target=notifier.was_killed, args=(WALL,))
    if early:
        found.start()
        found.join()
        await notifier.start()
    else:
        await notifier.start()
        found.start()
    await sent.until(1)
    found.join()
    await notifier.aclose()
    assert sent.titles == ["claude-proxy: was killed and has started again"]
    assert "It was last seen at 2026-09-21 14:13 UTC." in sent.notices[0].message


@pytest.mark.parametrize("broken", [True, False])
async def test_the_daily_summary_asks_the_books_and_does_without_them(broken: bool) -> None:
    clock, sent = Clock(), Sent()

    async def figures(since: float, until: float) -> Figures:
        if broken:
            raise OSError("no books")
        return Figures(since, until, 100, 3, 5000, 1.25)

    notifier = made(sent, clock, settings(daily_summary="15:00"), figures=figures)
    await notifier.start()
    clock.now += 3600
    notifier.tick()
    await sent.until(1)
    await notifier.aclose()
    assert ("Requests: 100, failed: 3." in sent.notices[0].message) is not broken


async def test_a_button_opens_the_page_at_the_incident() -> None:
    clock = Clock()
    async with FakeNtfy() as ntfy:
        given = settings(ntfy_server=ntfy.url, public_url="https://claude.example.com")
        notifier = made(None, clock, given)
        await notifier.start()
        notifier.on_exchange_end(used_up(1000))
        await notifier.aclose()
    (message,) = ntfy.messages
    (action,) = message["actions"]
    assert action["url"] == message["click"]
    assert message["click"].startswith("https://claude.example.com/upstreams#incident-cp_")
    assert (action["action"], action["label"]) == ("view", "Open")


# -- restarts and outages of ntfy


async def test_a_restart_in_the_middle_loses_and_repeats_nothing() -> None:
    given = settings()
    clock, first, second = Clock(), Sent(), Sent()
    notifier = made(first, clock, given)
    await notifier.start()
    outage(notifier, clock)
    await notifier.aclose()
    notifier = made(second, clock, given)
    await notifier.start()
    notifier.on_exchange_end(failed(clock.now))
    for _ in range(2):
        clock.now += 1
        notifier.on_exchange_end(answered(clock.now))
    await notifier.aclose()
    assert (first.titles, second.titles) == (["z.ai: concurrency limit (1302)"], ["z.ai: works again"])
    assert {notice.sequence for notice in first.notices + second.notices} == {first.notices[0].sequence}


async def test_a_kill_after_the_decision_does_not_lose_the_notice() -> None:
    """The attempt hangs, the process is killed: the file has had the notice since before the attempt."""
    given = settings()
    clock, sent = Clock(), Sent()
    hanging = asyncio.Event()

    async def hang(notice: Notice) -> Answer:
        hanging.set()
        await asyncio.Event().wait()
        raise AssertionError

    killed = made(hang, clock, given)
    await killed.start()
    killed.on_exchange_end(used_up(1000))
    await hanging.wait()
    notifier = made(sent, clock, given)
    await notifier.start()
    await sent.until(1)
    await notifier.aclose()
    assert sent.titles == ["z.ai: usage window used up (1308)"]
    await killed.aclose(0.01)


async def test_while_ntfy_is_down_the_news_grows_old_and_is_delivered_once_in_its_last_form() -> None:
    given = settings()
    clock, down, up = Clock(), Sent(DOWN), Sent()
    notifier = made(down, clock, given)
    await notifier.start()
    outage(notifier, clock)
    await down.until(1)
    for _ in range(30):
        clock.now += 60
        notifier.on_exchange_end(failed(clock.now))
        notifier.tick()
    for _ in range(2):
        clock.now += 1
        notifier.on_exchange_end(answered(clock.now))
    await notifier.aclose(0.5)
    notifier = made(up, clock, given)
    await notifier.start()
    await up.until(1)
    await notifier.aclose()
    assert up.titles == ["z.ai: works again"]
    assert "33 requests failed" in up.notices[0].message


async def test_the_file_is_for_this_user_alone_and_a_damaged_one_begins_empty() -> None:
    given = settings()
    clock, sent = Clock(), Sent()
    path = given.data_dir / "notices" / f"{state_name(given)}.json"
    for content in (b"", b"{", b"[]", json.dumps({"format": 99}).encode(), b"\xff" * 100):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        notifier = made(sent, clock, given)
        await notifier.start()
        await notifier.aclose()
        assert json.loads(path.read_bytes())["format"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("step", [-400 * 86_400.0, -3600.0, 3600.0, 400 * 86_400.0])
async def test_a_clock_that_is_set_changes_nothing_but_the_times_in_the_text(step: float) -> None:
    clock, sent = Clock(), Sent(DOWN)
    stepped = 0.0
    notifier = Notifier(settings(), send=sent, clock=clock, wall=lambda: clock.wall() + stepped)
    await notifier.start()
    outage(notifier, clock)
    await sent.until(1)
    stepped = step
    for _ in range(9):
        clock.now += 60
        notifier.on_exchange_end(failed(clock.now))
        notifier.tick()
    sent.answer = Answer(Verdict.SENT)
    await notifier.aclose()
    assert set(sent.titles) == {"z.ai: concurrency limit (1302)"}
    (report,) = notifier.reports()
    assert (report.closed, report.failures) == (None, 12)
    assert notifier.publisher.waiting == ()
    assert notifier.publisher.lost == 0


async def test_a_folder_that_cannot_be_written_costs_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    clock, sent = Clock(), Sent()
    with structlog.testing.capture_logs() as lines:
        notifier = made(sent, clock, settings(data_dir=tmp_path / "file"))
        await notifier.start()
        for number in range(3):
            notifier.on_exchange_end(used_up(1000, upstream=f"u{number}"))
        await notifier.aclose()
    assert len(sent.notices) == 3
    assert len([line for line in lines if "cannot be kept" in line["event"]]) == 1


async def test_as_a_listener_it_hears_of_ends_only() -> None:
    clock, sent = Clock(), Sent()
    notifier = made(sent, clock)
    listeners = Listeners([notifier])
    await notifier.start()
    for _ in range(3):
        one: Any = failed(1000, outcome=Outcome.CUT, status=200)
        one.failure = Failure("upstream", "stream_cut", "The upstream broke off its answer.")
        listeners.exchange_start(one)
        listeners.exchange_end(one)
    clock.now += 30
    notifier.tick()
    await notifier.aclose()
    assert listeners.errors == 0
    assert sent.titles == ["z.ai: answers break off"]
