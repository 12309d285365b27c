"""Against the real ntfy server and command (.ci/ntfy-binary.sh). Debian's is older than 2.16, so it replaces nothing in place:
the same tests with `ntfy` of a newer version on the PATH see that too."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.notify import Notifier
from claude_proxy.notify.answer import Verdict
from claude_proxy.notify.command import Command
from claude_proxy.notify.notice import MAX_MESSAGE, Notice
from claude_proxy.notify.ntfy import Http
from tests.deploy.process import free_port, running
from tests.notify.exchanges import WALL, answered, failed, settings, used_up
from tests.notify.test_notifier import Clock

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
NOTICE = Notice("z.ai: überlastet", "-한글 메시지 🙂\nzwei", 4, ("warning", "zap"), "cp-1")


@pytest.fixture(scope="module")
def binary() -> str:
    found = subprocess.run([ROOT / ".ci/ntfy-binary.sh"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


class Server:
    def __init__(self, url: str, binary: str, config: Path) -> None:
        self.url, self.binary, self.config = url, binary, config

    async def poll(self, topic: str) -> list[dict[str, Any]]:
        """What the topic's readers get."""

        def read() -> str:
            with urllib.request.urlopen(f"{self.url}/{topic}/json?poll=1", timeout=10) as reply:
                return reply.read().decode()

        return [json.loads(line) for line in (await asyncio.to_thread(read)).splitlines()]

    async def until(self, topic: str, count: int) -> list[dict[str, Any]]:
        """What they get, once it is so many."""
        while len(messages := await self.poll(topic)) < count:
            pass
        return messages

    async def run(self, *arguments: str, **environ: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self.binary, *arguments, env=dict(os.environ) | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return out.decode()


@pytest.fixture
async def server(binary: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A server on a free port, with users and a topic `private` that needs a token to write."""
    port = free_port()
    config = tmp_path / "server.yml"
    config.write_text(
        f"base-url: http://127.0.0.1:{port}\nlisten-http: 127.0.0.1:{port}\ncache-file: {tmp_path}/cache.db\n"
        f"auth-file: {tmp_path}/auth.db\nauth-default-access: read-write\nvisitor-message-daily-limit: 20\n"
    )
    async with running([binary, "serve", "--config", config], tmp_path, "ntfy") as program:
        await program.until_listening(port)  # it says "Listening on" before it does
        yield Server(f"http://127.0.0.1:{port}", binary, config)


def made(server: Server, topic: str, clock: Clock, **values: Any) -> Notifier:
    given = settings(ntfy_server=server.url, ntfy_topic=topic, **values)
    return Notifier(given, clock=clock, wall=clock.wall)


def fail(notifier: Notifier, clock: Clock, *, minutes: int) -> None:
    """Three failures, then one in each minute."""
    for _ in range(3):
        notifier.on_exchange_end(failed(clock.now))
    for _ in range(minutes):
        clock.now += 60
        notifier.on_exchange_end(failed(clock.now))
        notifier.tick()


async def test_a_nights_outage_is_one_notification_that_updates_itself(server: Server) -> None:
    """On a server before 2.16, which keeps every message, it is one that makes a sound and one when it is over."""
    clock = Clock()
    notifier = made(server, "night", clock)
    await notifier.start()
    fail(notifier, clock, minutes=1)
    (first,) = await server.until("night", 1)
    for _ in range(16):  # eight hours
        fail(notifier, clock, minutes=30)
        while notifier.publisher.waiting:
            await server.poll("night")  # it takes its time
    for _ in range(2):
        clock.now += 5
        notifier.on_exchange_end(answered(clock.now))
    await notifier.aclose(10)
    messages = await server.poll("night")
    assert [message["title"] for message in messages if message.get("priority", 3) > 2] == ["z.ai: concurrency limit (1302)"]
    assert messages[0] == first
    assert messages[-1]["title"] == "z.ai: works again"
    assert "532 requests failed in 8 h" in messages[-1]["message"]
    if notifier.publisher.replaces:
        assert len({message["sequence_id"] for message in messages}) == 1
        assert len(messages) > 8
    else:
        assert len(messages) == 2


async def test_a_burst_that_heals_by_itself_is_no_notification(server: Server) -> None:
    clock = Clock()
    notifier = made(server, "burst", clock)
    await notifier.start()
    for _ in range(300):
        notifier.on_exchange_end(failed(clock.now))
    for _ in range(2):
        clock.now += 5
        notifier.on_exchange_end(answered(clock.now))
    clock.now += 3600
    notifier.tick()
    await notifier.aclose(10)
    assert await server.poll("burst") == []


async def test_each_level_of_the_quota_and_its_reset_arrive_once(server: Server) -> None:
    clock = Clock()
    given = {"timezone": "Asia/Seoul", "ntfy_language": "ko"}
    for share in (0.5, 0.81, 0.84, 0.95, 0.97, 1.0, 1.0):
        notifier = made(server, "quota-levels", clock, data_dir=server.config.parent, **given)  # each time another process
        await notifier.start()
        notifier.quota_seen("default", [("5h", share, WALL + 1000 + 3600)])
        await notifier.aclose(10)
        clock.now += 60
    notifier = made(server, "quota-levels", clock, data_dir=server.config.parent, **given)
    await notifier.start()
    clock.now += 3600
    notifier.tick()
    notifier.tick()
    await notifier.aclose(10)
    assert [message["title"] for message in await server.poll("quota-levels")] == [
        "z.ai: 5시간 한도의 80% 사용",
        "z.ai: 5시간 한도의 95% 사용",
        "z.ai: 5시간 한도 소진",
        "z.ai: 5시간 한도가 초기화됨",
    ]


async def test_a_restart_in_the_middle_loses_and_repeats_nothing(server: Server) -> None:
    clock, folder = Clock(), server.config.parent
    for _ in range(3):
        notifier = made(server, "restart", clock, data_dir=folder)
        await notifier.start()
        notifier.on_exchange_end(used_up(clock.now))
        await notifier.aclose(10)
        clock.now += 10
    notifier = made(server, "restart", clock, data_dir=folder)
    await notifier.start()
    for _ in range(2):
        clock.now += 5
        notifier.on_exchange_end(answered(clock.now))
    await notifier.aclose(10)
    titles = [message["title"] for message in await server.poll("restart")]
    assert titles == ["z.ai: usage window used up (1308)", "z.ai: works again"]


async def test_after_an_outage_of_ntfy_what_is_true_then_arrives_once(binary: str, tmp_path: Path) -> None:
    clock, port = Clock(), free_port()
    config = tmp_path / "server.yml"
    config.write_text(f"base-url: http://127.0.0.1:{port}\nlisten-http: 127.0.0.1:{port}\ncache-file: {tmp_path}/cache.db\n")
    server = Server(f"http://127.0.0.1:{port}", binary, config)
    notifier = made(server, "outage", clock)
    await notifier.start()
    fail(notifier, clock, minutes=30)
    notifier.on_exchange_end(used_up(clock.now))
    for _ in range(2):
        clock.now += 5
        notifier.on_exchange_end(answered(clock.now))
    async with running([binary, "serve", "--config", config], tmp_path, "ntfy") as program:
        await program.until_listening(port)
        notifier.publisher.hurry()
        await notifier.aclose(10)
        titles = [message["title"] for message in await server.poll("outage")]
    assert sorted(titles) == ["z.ai: works again", "z.ai: works again"]  # of two incidents, each in its last form


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_user_and_password_open_a_closed_topic(server: Server, via: str) -> None:
    config = f"--config={server.config}"
    await server.run("user", config, "add", "phil", NTFY_PASSWORD="hush hush")
    await server.run("access", config, "everyone", "private", "deny")
    await server.run("access", config, "phil", "private", "write-only")
    environ = {"PATH": str(Path(server.binary).parent), "HOME": str(server.config.parent)}
    for password, verdict in (("hush hush", Verdict.SENT), ("wrong", Verdict.REFUSED)):
        given = settings(ntfy_server=server.url, ntfy_topic="private", ntfy_user="phil", ntfy_password=password)
        send = Http(given).send if via == "http" else Command(given, environ=environ).send
        assert (await send(NOTICE)).verdict is verdict


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_the_button_arrives(server: Server, via: str) -> None:
    link = "https://claude.example.com/upstreams#incident-cp_6h28x52yemr00"
    notice = replace(NOTICE, link=link, button="Open")
    given = settings(ntfy_server=server.url, ntfy_topic="button")
    environ = {"PATH": str(Path(server.binary).parent), "HOME": str(server.config.parent)}
    await (Http(given).send(notice) if via == "http" else Command(given, environ=environ).send(notice))
    (message,) = await server.poll("button")
    (action,) = message["actions"]
    assert (message["click"], action["action"], action["label"], action["url"]) == (link, "view", "Open", link)


@pytest.mark.parametrize("via", ["http", "cli"])
async def test_a_notice_arrives_as_it_was_meant(server: Server, via: str) -> None:
    given = settings(ntfy_server=server.url, ntfy_topic="plain")
    environ = {"PATH": str(Path(server.binary).parent), "HOME": str(server.config.parent)}
    answer = await (Http(given).send(NOTICE) if via == "http" else Command(given, environ=environ).send(NOTICE))
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
    config = f"--config={server.config}"
    await server.run("user", config, "add", "writer", NTFY_PASSWORD="hush-hush")
    await server.run("access", config, "everyone", "private", "deny")
    await server.run("access", config, "writer", "private", "write-only")
    token = (await server.run("token", config, "add", "writer")).split()[1]
    environ = {"PATH": str(Path(server.binary).parent), "HOME": str(server.config.parent)}

    async def verdict(**values: str) -> Verdict:
        given = settings(ntfy_server=server.url, ntfy_topic="private", **values)
        send = Http(given).send if via == "http" else Command(given, environ=environ).send
        return (await send(NOTICE)).verdict

    assert token.startswith("tk_")
    assert await verdict() is Verdict.REFUSED
    assert await verdict(ntfy_token=token) is Verdict.SENT
    assert await verdict(ntfy_token="tk_wrong") is Verdict.REFUSED


async def test_the_daily_quota_is_recognised(server: Server) -> None:
    http = Http(settings(ntfy_server=server.url, ntfy_topic="quota"))
    verdicts = [(await http.send(NOTICE)).verdict for _ in range(21)]
    assert verdicts == [Verdict.SENT] * 20 + [Verdict.QUOTA]
