"""Against the real ntfy server and command, from Debian's package (.ci/ntfy-binary.sh)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.notify import Notifier
from claude_proxy.notify.answer import Verdict
from claude_proxy.notify.command import Command
from claude_proxy.notify.notice import MAX_MESSAGE, Notice
from claude_proxy.notify.ntfy import Http
from tests.deploy.process import free_port, running
from tests.notify.exchanges import answered, failed, settings

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


async def test_300_failures_are_two_messages_and_one_recovery(server: Server) -> None:
    now = 1000.0
    notifier = Notifier(settings(ntfy_server=server.url, ntfy_topic="storm"), clock=lambda: now)
    await notifier.start()
    for n in range(300):
        notifier.on_exchange_end(failed(1000 + n))
    now = 1600.0
    notifier.tick()
    notifier.on_exchange_end(answered(1700))
    await notifier.aclose(10)
    messages = await server.poll("storm")
    assert [message["title"] for message in messages] == [
        "z.ai: concurrency limit (1302)",
        "z.ai: concurrency limit (1302), 299 more",
        "z.ai: works again",
    ]
    assert "300 requests failed" in messages[2]["message"]


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
