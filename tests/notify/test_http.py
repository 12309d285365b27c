"""Publishing over HTTP, against a server on loopback."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from claude_proxy.notify.answer import Verdict
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.ntfy import Http
from tests.notify.exchanges import settings
from tests.notify.fake_ntfy import FakeNtfy, Reply

SOURCE = Path(__file__).parents[2] / "src"
NOTICE = Notice("z.ai: überlastet", "한글 메시지 🙂", 4, ("warning", "zap"), "cp-1")


async def test_a_notice_is_one_json_post_to_the_root() -> None:
    async with FakeNtfy() as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url, ntfy_token="tk_secret")).send(NOTICE)
    (request,) = ntfy.published
    assert (answer.verdict, answer.id) == (Verdict.SENT, "msg1")
    assert (request.method, request.path) == ("POST", "/")
    assert request.headers["authorization"] == "Bearer tk_secret"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "topic": "topic-1",
        "title": "z.ai: überlastet",
        "message": "한글 메시지 🙂",
        "priority": 4,
        "tags": ["warning", "zap"],
        "sequence_id": "cp-1",
    }


async def test_without_a_token_no_credential_is_sent() -> None:
    async with FakeNtfy() as ntfy:
        await Http(settings(ntfy_server=ntfy.url)).send(NOTICE)
    assert "authorization" not in ntfy.published[0].headers


async def test_an_error_reply_is_judged() -> None:
    async with FakeNtfy(Reply(403, {"code": 40301, "http": 403, "error": "forbidden"})) as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url)).send(NOTICE)
    assert answer.verdict is Verdict.REFUSED
    assert "NTFY_TOPIC" in answer.sentence


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 503])
async def test_a_page_in_front_of_ntfy_is_not_taken_for_its_word(status: int) -> None:
    page = b"<!DOCTYPE html><title>Just a moment...</title>"
    async with FakeNtfy(Reply(status, page, {"content-type": "text/html"})) as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url, ntfy_token="tk_secret")).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert f"NTFY_SERVER answered {status} with a web page." in answer.sentence


async def test_retry_after_is_read_whatever_its_case() -> None:
    async with FakeNtfy(Reply(429, {"code": 42901}, {"Retry-After": "9"})) as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url)).send(NOTICE)
    assert (answer.verdict, answer.after) == (Verdict.AGAIN, 9)


async def test_a_token_is_not_carried_to_where_a_redirect_points() -> None:
    async with FakeNtfy() as elsewhere, FakeNtfy(Reply(302, {}, {"location": f"{elsewhere.url}/"})) as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url, ntfy_token="tk_secret")).send(NOTICE)
        assert elsewhere.published == []
    assert answer.verdict is Verdict.AGAIN


async def test_a_closed_port_is_tried_again_later() -> None:
    async with FakeNtfy() as ntfy:
        pass
    answer = await Http(settings(ntfy_server=ntfy.url)).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert "refused" in answer.sentence


@pytest.mark.parametrize("raw", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort"])
async def test_a_broken_reply_is_tried_again_or_refused_but_never_raised(raw: bytes) -> None:
    async with FakeNtfy(Reply(raw=raw)) as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url)).send(NOTICE)
    assert answer.verdict in (Verdict.AGAIN, Verdict.REFUSED)
    assert answer.sentence


async def test_a_silent_server_is_given_up() -> None:
    async with FakeNtfy(Reply(silent=True)) as ntfy:
        answer = await Http(settings(ntfy_server=ntfy.url), silence=0.05).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert "does not answer" in answer.sentence


async def test_a_try_that_takes_too_long_is_left_and_not_doubled() -> None:
    async with FakeNtfy(Reply(silent=True)) as ntfy:
        http = Http(settings(ntfy_server=ntfy.url), silence=30, whole=0.05)
        assert "within 0.05 s" in (await http.send(NOTICE)).sentence
        assert "has not answered the previous attempt" in (await http.send(NOTICE)).sentence
        assert len(await ntfy.until(1)) == 1


EXITS = """
import asyncio, sys
from claude_proxy.notify import Notice
from claude_proxy.notify.ntfy import Http
from claude_proxy.settings import Settings
http = Http(Settings(ntfy_topic="t", ntfy_server=sys.argv[1]), silence=100, whole=0.05)
print(asyncio.run(http.send(Notice("a", "b", 3, (), "c"))).verdict)
"""


async def test_a_hanging_try_does_not_hold_up_the_exit() -> None:
    async with FakeNtfy(Reply(silent=True)) as ntfy:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", EXITS, ntfy.url), env=os.environ | {"PYTHONPATH": str(SOURCE)}, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"again\n")


async def test_the_loop_runs_on_while_a_try_hangs() -> None:
    async with FakeNtfy(Reply(silent=True)) as ntfy:
        pending = asyncio.create_task(Http(settings(ntfy_server=ntfy.url)).send(NOTICE))
        await ntfy.until(1)
        assert not pending.done()
        pending.cancel()
        await asyncio.wait([pending])


async def test_a_certificate_that_is_not_trusted_is_named() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await Http(settings(ntfy_server=f"https://127.0.0.1:{port}")).send(NOTICE)
    assert answer.verdict is Verdict.AGAIN
    assert "certificate is not valid" in answer.sentence


async def test_the_outbound_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeNtfy() as gateway:
        monkeypatch.setenv("http_proxy", gateway.url)
        monkeypatch.setenv("no_proxy", "")
        answer = await Http(settings(ntfy_server="http://ntfy.example")).send(NOTICE)
    assert answer.verdict is Verdict.SENT
    assert gateway.published[0].path == "http://ntfy.example/"
