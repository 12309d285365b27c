"""The stand-in for ntfy takes what a publisher sends, in each of ntfy's forms."""

from __future__ import annotations

import asyncio
import json

import pytest

from claude_proxy.cli.rehearse.stand_in import Push, StandIn
from claude_proxy.cli.rehearse.wire import Deadlines, call
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.ntfy import Http
from claude_proxy.settings import Settings

NOTICE = Notice("무제", "첫 줄\n둘째 줄", 4, ("hourglass",), "")


async def test_a_notice_of_the_publisher_is_shown() -> None:
    shown: list[Push] = []
    async with StandIn(lambda: 2.5, shown.append) as ntfy:
        answer = await Http(Settings(ntfy_topic="t", ntfy_server=ntfy.url)).send(NOTICE)
    assert answer.verdict.name == "SENT"
    assert [(push.minute, push.title, push.message, push.priority, push.tags) for push in shown] == [
        (2.5, "무제", "첫 줄\n둘째 줄", 4, ("hourglass",))
    ]
    assert ntfy.pushes == shown


async def send(ntfy: StandIn, path: str, body: bytes, **headers: str) -> int:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await call(ntfy.url + path, fields, body, Deadlines(5, 5))).status


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/", json.dumps({"topic": "t", "title": "a", "message": "b", "priority": 2, "sequence_id": "s"}).encode(), {}),
        ("/t", b"b", {"title": "a", "x_priority": "2", "x_sequence_id": "s"}),
        ("/t/s", b"b", {"x_title": "a", "prio": "2"}),
    ],
)
async def test_an_update_in_place_is_told_from_a_new_notice(path: str, body: bytes, headers: dict[str, str]) -> None:
    async with StandIn(lambda: 0.0, lambda _: None) as ntfy:
        for _ in range(2):
            assert await send(ntfy, path, body, **headers) == 200
    assert [(push.title, push.message, push.priority, push.sequence, push.replaces) for push in ntfy.pushes] == [
        ("a", "b", 2, "s", False),
        ("a", "b", 2, "s", True),
    ]


async def test_notices_without_a_sequence_are_new_ones() -> None:
    async with StandIn(lambda: 0.0, lambda _: None) as ntfy:
        for _ in range(2):
            await send(ntfy, "/t", b"words")
    assert [push.replaces for push in ntfy.pushes] == [False, False]


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{}}", b""])
async def test_nonsense_is_answered_with_silence(data: bytes) -> None:
    async with StandIn(lambda: 0.0, lambda _: None) as ntfy:
        host, port = ntfy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert ntfy.pushes == []
