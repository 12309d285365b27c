"""Against two real ntfy servers and their commands (.ci/ntfy-binary.sh): one replaces messages in place, the older keeps each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.notify import Notifier
from claude_proxy.notify.answer import RATE_WAIT, Answer, Verdict
from claude_proxy.notify.command import Command
from claude_proxy.notify.notice import MAX_MESSAGE, Notice
from claude_proxy.notify.ntfy import Http
from claude_proxy.settings import Settings
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.deploy.process import free_port
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.served import Served, served
from tests.integration.wire import ask
from tests.notify.exchanges import WALL, answered, failed, settings, used_up
from tests.notify.real_ntfy import Program, Server, heard, ntfy_server, program, shown, titles
from tests.notify.test_notifier import Clock

pytestmark = pytest.mark.system
NOTICE = Notice("z.ai: überlastet", "-한글 메시지 🙂\nzwei", 4, ("warning", "zap"), "cp-1")
LIMITED, WORKS = "z.ai: concurrency limit (1302)", "z.ai: works again"


@pytest.fixture(scope="module", params=["new", "old"])
def ntfy(request: pytest.FixtureRequest) -> Program:
    return program(request.param)


@pytest.fixture
async def server(ntfy: Program, tmp_path: Path) -> AsyncIterator[Server]:
    async with ntfy_server(ntfy, tmp_path) as running:
        yield running


def made(server: Server, topic: str, clock: Clock, **values: Any) -> Notifier:
    given = settings(ntfy_server=server.url, ntfy_topic=topic, **values)
    send = Command(given, environ=server.environ).send if given.ntfy_via == "cli" else None
    return Notifier(given, send=send, clock=clock, wall=clock.wall)


async def send_by(via: str, server: Server, given: Settings, notice: Notice = NOTICE) -> Answer:
    return await (Http(given).send(notice) if via == "http" else Command(given, environ=server.environ).send(notice))


async def pass_minutes(notifier: Notifier, clock: Clock, server: Server, minutes: int) -> None:
    """Three failures, then one in each minute; what is to be said is delivered before the next."""
    for _ in range(3):
        notifier.on_exchange_end(failed(clock.now))
    for _ in range(minutes):
        clock.now += 60
        notifier.on_exchange_end(failed(clock.now))
        notifier.tick()
        while notifier.publisher.waiting:
            await server.poll("any")  # it takes its time


def recover(notifier: Notifier, clock: Clock) -> None:
    for _ in range(2):
        clock.now += 5
        notifier.on_exchange_end(answered(clock.now))


@pytest.mark.parametrize(("via", "updates"), [("http", True), ("cli", True), ("http", False)])
async def test_a_nights_outage_is_one_notification_that_updates_itself(server: Server, via: str, updates: bool) -> None:
    """On a server that keeps every message, or without updates, it is one that makes a sound and one when it is over."""
    clock = Clock()
    notifier = made(server, "night", clock, ntfy_via=via, ntfy_updates=updates)
    await notifier.start()
    await pass_minutes(notifier, clock, server, 1)
    (first,) = await server.until("night", 1)
    for _ in range(16):  # eight hours
        await pass_minutes(notifier, clock, server, 30)
    recover(notifier, clock)
    await notifier.aclose(10)
    messages = await server.poll("night")
    assert notifier.publisher.known.replaces is server.program.replaces
    assert heard(messages) == [LIMITED]
    assert messages[0] == first
    assert messages[-1]["title"] == WORKS
    assert "532 requests failed in 8 h" in messages[-1]["message"]
    if server.program.replaces:
        assert shown(messages) == [messages[-1]]
        assert {message["event"] for message in messages} == {"message"}  # how the server marks a replacement: by nothing more
    assert len(messages) == (12 if server.program.replaces and updates else 2)


async def test_updates_go_on_after_a_restart_and_never_begin_on_a_server_that_keeps_them(server: Server) -> None:
    clock = Clock()
    for hours in range(1, 5):
        notifier = made(server, "restarts", clock, data_dir=server.folder)  # each time another process
        await notifier.start()
        await pass_minutes(notifier, clock, server, 60)
        await notifier.aclose(10)
        messages = await server.poll("restarts")
        assert heard(messages) == [LIMITED]
        assert len(shown(messages)) == 1
        assert len(messages) == (3 + hours if server.program.replaces else 1)


async def test_an_incident_that_comes_back_can_be_heard(server: Server) -> None:
    clock = Clock()
    notifier = made(server, "back-again", clock)
    await notifier.start()
    for _ in range(2):
        await pass_minutes(notifier, clock, server, 20)
        recover(notifier, clock)
        while notifier.publisher.waiting:
            await server.poll("back-again")
    await notifier.aclose(10)
    messages = await server.poll("back-again")
    assert heard(messages) == [LIMITED, LIMITED]
    if server.program.replaces:
        assert titles(shown(messages)) == [WORKS, WORKS]
        assert len(messages) == 6  # each has an update between


async def test_a_burst_that_heals_by_itself_is_no_notification(server: Server) -> None:
    clock = Clock()
    notifier = made(server, "burst", clock)
    await notifier.start()
    for _ in range(300):
        notifier.on_exchange_end(failed(clock.now))
    recover(notifier, clock)
    clock.now += 3600
    notifier.tick()
    await notifier.aclose(10)
    assert await server.poll("burst") == []


async def test_each_level_of_the_quota_and_its_reset_arrive_once(server: Server) -> None:
    clock = Clock()
    given = {"timezone": "Asia/Seoul", "ntfy_language": "ko"}
    for share in (0.5, 0.81, 0.84, 0.95, 0.97, 1.0, 1.0):
        notifier = made(server, "quota-levels", clock, data_dir=server.folder, **given)  # each time another process
        await notifier.start()
        notifier.quota_seen("default", [("5h", share, WALL + 1000 + 3600)])
        await notifier.aclose(10)
        clock.now += 60
    notifier = made(server, "quota-levels", clock, data_dir=server.folder, **given)
    await notifier.start()
    clock.now += 3600
    notifier.tick()
    notifier.tick()
    await notifier.aclose(10)
    messages = await server.poll("quota-levels")
    assert titles(messages) == [
        "z.ai: 5시간 한도의 80% 사용",
        "z.ai: 5시간 한도의 95% 사용",
        "z.ai: 5시간 한도 소진",
        "z.ai: 5시간 한도가 초기화됨",
    ]
    assert heard(messages) == titles(messages)
    assert shown(messages) == messages  # one that replaced another would make no sound


async def test_a_restart_in_the_middle_loses_and_repeats_nothing(server: Server) -> None:
    clock, folder = Clock(), server.folder
    for _ in range(3):
        notifier = made(server, "restart", clock, data_dir=folder)
        await notifier.start()
        notifier.on_exchange_end(used_up(clock.now))
        await notifier.aclose(10)
        clock.now += 10
    notifier = made(server, "restart", clock, data_dir=folder)
    await notifier.start()
    recover(notifier, clock)
    await notifier.aclose(10)
    messages = await server.poll("restart")
    assert titles(messages) == ["z.ai: usage window used up (1308)", WORKS]
    assert len(shown(messages)) == (1 if server.program.replaces else 2)


@pytest.mark.parametrize("restarted", [False, True])
async def test_after_an_outage_of_ntfy_what_is_true_then_arrives_once(ntfy: Program, tmp_path: Path, restarted: bool) -> None:
    clock, port = Clock(), free_port()
    down = Server(f"http://127.0.0.1:{port}", ntfy, tmp_path)
    notifier = made(down, "outage", clock, data_dir=tmp_path)
    await notifier.start()
    for _ in range(30):
        notifier.on_exchange_end(failed(clock.now))
        clock.now += 60
        notifier.tick()
    notifier.on_exchange_end(used_up(clock.now))
    recover(notifier, clock)
    if restarted:
        await notifier.aclose(10)
        notifier = made(down, "outage", clock, data_dir=tmp_path)
        await notifier.start()
    async with ntfy_server(ntfy, tmp_path, port) as server:
        notifier.publisher.hurry()
        await server.until("outage", 2)
        await notifier.aclose(10)
        messages = await server.poll("outage")
    assert titles(messages) == [WORKS, WORKS]  # of two incidents, each in its last form


async def test_a_message_on_the_phone_is_brought_up_to_date_when_ntfy_is_back(ntfy: Program, tmp_path: Path) -> None:
    clock, port = Clock(), free_port()
    async with ntfy_server(ntfy, tmp_path, port) as server:
        notifier = made(server, "back", clock)
        await notifier.start()
        await pass_minutes(notifier, clock, server, 1)
        await server.until("back", 1)
    for _ in range(180):  # three hours in which ntfy is down
        clock.now += 60
        notifier.on_exchange_end(failed(clock.now))
        notifier.tick()
    async with ntfy_server(ntfy, tmp_path, port) as server:
        notifier.publisher.hurry()
        if ntfy.replaces:
            _, update = await server.until("back", 2)
            assert "187 requests" not in update["message"]  # what was true when it was last due
        recover(notifier, clock)
        await notifier.aclose(10)
        messages = await server.poll("back")
    assert heard(messages) == [LIMITED]
    assert messages[-1]["title"] == WORKS
    assert len(messages) == (3 if ntfy.replaces else 2)


async def refuse(simulator: Simulator, process: Served) -> None:
    simulator.scenario = Scenario(fault=faults.status(401))
    for _ in range(3):
        assert (await ask(process.port, "POST", MESSAGES, [JSON], body())).status == 401


async def test_from_a_whole_proxy_an_incident_that_outlives_a_restart_is_one_notification(
    server: Server, simulator: Simulator, tmp_path: Path
) -> None:
    environ = {"NTFY_TOPIC": "whole", "NTFY_SERVER": server.url, "QUEUE": "off", "UPSTREAM_API_KEY": "sk-held-key"}
    async with served(simulator.base_url, tmp_path, **environ) as process:
        await refuse(simulator, process)
        await server.until("whole", 1)
    async with served(simulator.base_url, tmp_path, **environ) as process:
        await refuse(simulator, process)
        simulator.scenario = Scenario()
        while len(await server.poll("whole")) < 2:  # answers that are heard of together with the failures do not count
            assert (await ask(process.port, "POST", MESSAGES, [JSON], body())).status == 200
    messages = await server.poll("whole")
    assert titles(messages) == ["upstream: API key refused", "upstream: works again"]
    assert len(shown(messages)) == (1 if server.program.replaces else 2)


@pytest.mark.parametrize(("command", "of_server"), [("new", "new"), ("old", "new"), ("new", "old")])
async def test_the_command_shows_whether_messages_replace_each_other(command: str, of_server: str, tmp_path: Path) -> None:
    """Both have to know sequences: the command to send one, the server to keep it."""
    async with ntfy_server(program(of_server), tmp_path) as server:
        given = settings(ntfy_server=server.url, ntfy_topic="said")
        answer = await Command(given, environ=server.environ | {"PATH": str(program(command).path.parent)}).send(NOTICE)
        (message,) = await server.poll("said")
    assert (answer.verdict, answer.id) == (Verdict.SENT, message["id"])
    assert answer.replaces is (command == of_server == "new")
    assert answer.replaces is ("sequence_id" in message)


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_user_and_password_open_a_closed_topic(server: Server, via: str) -> None:
    await server.run("user", server.config, "add", "phil", NTFY_PASSWORD="hush hush")
    await server.run("access", server.config, "everyone", "private", "deny")
    await server.run("access", server.config, "phil", "private", "write-only")
    for password, verdict in (("hush hush", Verdict.SENT), ("wrong", Verdict.REFUSED)):
        given = settings(ntfy_server=server.url, ntfy_topic="private", ntfy_user="phil", ntfy_password=password)
        assert (await send_by(via, server, given)).verdict is verdict


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_the_button_arrives(server: Server, via: str) -> None:
    link = "https://claude.example.com/upstreams#incident-cp_6h28x52yemr00"
    given = settings(ntfy_server=server.url, ntfy_topic="button")
    await send_by(via, server, given, replace(NOTICE, link=link, button="Open"))
    (message,) = await server.poll("button")
    (action,) = message["actions"]
    assert (message["click"], action["action"], action["label"], action["url"]) == (link, "view", "Open", link)


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_a_notice_arrives_as_it_was_meant(server: Server, via: str) -> None:
    answer = await send_by(via, server, settings(ntfy_server=server.url, ntfy_topic="plain"))
    assert answer.verdict is Verdict.SENT
    (message,) = await server.poll("plain")
    assert message["title"] == NOTICE.title
    assert message["message"] == NOTICE.message
    assert message["priority"] == 4
    assert message["tags"] == ["warning", "zap"]


async def test_the_longest_message_stays_a_message(server: Server) -> None:
    long = Notice("long", "가" * 3000, 3, (), "cp-2").scrubbed()
    answer = await Http(settings(ntfy_server=server.url, ntfy_topic="long")).send(long)
    assert answer.verdict is Verdict.SENT
    (message,) = await server.poll("long")
    assert "attachment" not in message
    assert MAX_MESSAGE - 3 < len(message["message"].encode()) <= MAX_MESSAGE


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_a_token_opens_a_closed_topic_and_its_lack_is_told(server: Server, via: str) -> None:
    await server.run("user", server.config, "add", "writer", NTFY_PASSWORD="hush-hush")
    await server.run("access", server.config, "everyone", "private", "deny")
    await server.run("access", server.config, "writer", "private", "write-only")
    token = (await server.run("token", server.config, "add", "writer")).split()[1]

    async def verdict(**values: str) -> Verdict:
        return (await send_by(via, server, settings(ntfy_server=server.url, ntfy_topic="private", **values))).verdict

    assert token.startswith("tk_")
    assert await verdict() is Verdict.REFUSED
    assert await verdict(ntfy_token=token) is Verdict.SENT
    assert await verdict(ntfy_token="tk_wrong") is Verdict.REFUSED


async def test_the_daily_quota_is_recognised(server: Server) -> None:
    http = Http(settings(ntfy_server=server.url, ntfy_topic="quota"))
    verdicts = [(await http.send(NOTICE)).verdict for _ in range(21)]
    assert verdicts == [Verdict.SENT] * 20 + [Verdict.QUOTA]


async def test_too_many_requests_at_once_are_recognised(ntfy: Program, tmp_path: Path) -> None:
    async with ntfy_server(ntfy, tmp_path, burst=3) as server:
        http = Http(settings(ntfy_server=server.url, ntfy_topic="burst"))
        answers = [await http.send(NOTICE) for _ in range(4)]
    assert [answer.verdict for answer in answers] == [Verdict.SENT] * 3 + [Verdict.AGAIN]
    assert answers[-1].after == RATE_WAIT
    assert answers[-1].reached
