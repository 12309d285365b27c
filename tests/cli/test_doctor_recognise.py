"""Whether the doctor takes what answers at BASE_URL for the API: hand-written upstreams, as users meet them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import pytest

from claude_proxy.cli.doctor.check import Check
from claude_proxy.cli.doctor.recognise import title_of
from claude_proxy.cli.doctor.way import upstream
from claude_proxy.settings import Settings
from tests.cli.servers import Handler, Server, answering, listening

SECRET = "sk-very-secret-1234"
HTML = "content-type: text/html; charset=utf-8\r\n"
JSON = "content-type: application/json\r\n"


async def look(handler: Handler, **settings: Any) -> tuple[Check, list[Check], Server]:
    """The finding on the upstream, all findings, and the server with what it was asked."""
    async with listening(handler) as server:
        stated = Settings(base_url=server.url, upstream_api_key=SECRET, **settings)
        found = await anyio.to_thread.run_sync(lambda: list(upstream(stated, {})))
    [about] = [check for check in found if check.name == "upstream"]
    return about, found, server


def was_told_the_credential(server: Server) -> bool:
    return any(SECRET.encode() in head for head in server.heads)


def by_path(answers: Mapping[str, Handler], otherwise: Handler) -> Handler:
    """Answer by the path of the request line."""

    async def handler(head: bytes, reader: Any, writer: Any) -> None:
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        await answers.get(path, otherwise)(head, reader, writer)

    return handler


MISSING = answering(b'{"detail":"Not Found"}', "404 Not Found", JSON)

FOREIGN = {
    "login page": (answering(b"<!DOCTYPE html><title>Sign in &middot; A</title>", headers=HTML), 'a web page ("Sign in · A")'),
    "login page, 401": (answering(b"<html><head><title>Login</title>", "401 Unauthorized", HTML), '401 with a web page ("Log'),
    "login page, 403": (answering(b"<html><body>no</body>", "403 Forbidden", HTML), "403 with a web page"),
    "page labelled as JSON": (answering(b"\xef\xbb\xbf\n<html>", headers=JSON), "a web page"),
    "page in capitals": (answering(b"<HTML><TITLE>Router</TITLE>", headers="content-type: TEXT/HTML\r\n"), '"Router"'),
    "page behind a comment": (answering(b"<!-- v2 --><html>", headers=HTML), "a web page"),
    "page without a tag": (answering(b"It works!", headers=HTML), "a web page"),
    "parked domain": (answering(b"<html><head><title>example.com is for sale</title>", headers=HTML), "for sale"),
    "router's portal": (answering(b"<script>location='/login'</script>", headers=HTML), "a web page"),
    "portal, 511": (answering(b"<html><title>Hotel WiFi</title>", "511 Network Authentication Required", HTML), "Hotel WiFi"),
    "challenge, 403": (answering(b"<html><title>Just a moment...</title>", "403 Forbidden", HTML), "a challenge page"),
    "challenge, 503": (answering(b"<html><title>Attention Required! | X</title>", "503 Unavailable", HTML), "a challenge page"),
    "challenge by header": (
        answering(b"<html>", "403 Forbidden", f"{HTML}cf-mitigated: challenge\r\n"), "a challenge page",
    ),
    "captcha": (answering(b"<html><title>CAPTCHA</title>", headers=HTML), "a challenge page"),
    "gateway's error page": (answering(b"<html><title>502 Bad Gateway</title>", "502 Bad Gateway", HTML), "502 with a web page"),
    "gateway's error text": (answering(b"no healthy upstream", "503 Service Unavailable"), "503 with a text of something else"),
    "JSON of something else": (answering(b'{"status":"ok"}', headers=JSON), 'JSON of something else ({"status":"ok"})'),
    "JSON with other data": (answering(b'{"data":[1,2]}', headers=JSON), "JSON of something else"),
    "JSON list": (answering(b"[]", headers=JSON), "JSON of something else"),
    "JSON nested deep": (answering(b"[" * 60_000, headers=JSON), "of something else"),
    "empty": (answering(b""), "an empty body"),
    "empty, 204": (answering(b"", "204 No Content"), "an empty body"),
    "plain text": (answering(b"Ollama is running"), "a text of something else (Ollama is running)"),
    "binary": (answering(bytes(range(256))), "a text of something else"),
}  # fmt: skip


@pytest.mark.parametrize(("handler", "said"), FOREIGN.values(), ids=FOREIGN)
async def test_what_is_not_an_api_fails_and_gets_no_credential(handler: Handler, said: str) -> None:
    about, found, server = await look(handler)
    assert about.state == "fail"
    assert said in about.detail
    assert server.url in about.detail
    assert about.fix
    assert not was_told_the_credential(server)
    assert "credential" not in [check.name for check in found]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "fix"),
    [
        ("https://new.example/api/v1/models?limit=1", "Set BASE_URL=https://new.example/api if"),
        ("https://portal.example/login?back=x", "Set BASE_URL to the API's address."),
        ("/login", "Set BASE_URL to the API's address."),
        ("", "Set BASE_URL to the API's address."),
    ],
)
async def test_a_redirect_names_the_setting_and_where_it_leads(status: int, location: str, fix: str) -> None:
    header = f"location: {location}\r\n" if location else ""
    about, _, server = await look(answering(b"<html>", f"{status} Moved", f"{HTML}{header}"))
    assert about.state == "fail"
    assert about.detail.startswith(f"BASE_URL={server.url} redirects ({status}) to {location or 'nowhere'}")
    assert about.fix.startswith(fix)
    assert "portal" in about.fix
    assert len(server.heads) == 1


API = {
    "Anthropic, no key": answering(
        b'{"type":"error","error":{"type":"authentication_error","message":"x-api-key header is required"}}',
        "401 Unauthorized",
        JSON,
    ),
    "z.ai, no key": answering(b'{"code":401,"msg":"token expired or incorrect","success":false}', headers=JSON),
    "a gateway, no key": answering(b'{"message":"Unauthorized"}', "401 Unauthorized", JSON),
    "FastAPI, no key": answering(b'{"detail":"Not authenticated"}', "403 Forbidden", JSON),
    "without a label": answering(b'{"error":{"message":"no key"}}', "401 Unauthorized"),
    "labelled as a page": answering(b'{"error":{"message":"no key"}}', "401 Unauthorized", HTML),
    "Anthropic's list": answering(b'{"data":[{"type":"model","id":"claude-opus-5-5"}],"has_more":false}', headers=JSON),
    "OpenAI's list": answering(b'{"object":"list","data":[{"id":"glm-5.3","object":"model"}]}', headers=JSON),
    "empty list": answering(b'{"data":[]}', headers=JSON),
    "rate limit": answering(b'{"error":{"type":"rate_limit_error","message":"slow down"}}', "429 Too Many Requests", JSON),
    "no list, but messages": by_path(
        {"/v1/messages": answering(b'{"error":{"message":"model is required"}}', "400 Bad Request", JSON)}, MISSING
    ),
    "a page for the list, but messages": by_path(
        {"/v1/messages": answering(b'{"error":{"message":"no key"}}', "401 Unauthorized", JSON)},
        answering(b"<html>404", "404 Not Found", HTML),
    ),
}


@pytest.mark.parametrize("handler", API.values(), ids=API)
async def test_an_api_is_taken_for_one(handler: Handler) -> None:
    about, _, server = await look(handler)
    assert about.state == "ok"
    assert was_told_the_credential(server)


@pytest.mark.parametrize(
    ("handler", "state", "said"),
    [
        (MISSING, "fail", "there is no Anthropic API at BASE_URL="),
        (answering(b"<html>404", "404 Not Found", HTML), "fail", "/v1/messages gives 404"),
        (answering(b"", "405 Method Not Allowed"), "fail", "/v1/messages gives 405"),
        (by_path({"/v1/messages": answering(b"<html>", headers=HTML)}, MISSING), "fail", "a web page"),
        (answering(b"", "401 Unauthorized"), "warn", "answers 401, but nothing shows"),
        (answering(b"Unauthorized", "401 Unauthorized", "www-authenticate: Basic realm=x\r\n"), "warn", "asks for a Basic login"),
    ],
)
async def test_where_the_list_says_nothing_messages_decide(handler: Handler, state: str, said: str) -> None:
    about, _, server = await look(handler)
    assert (about.state, said in about.detail) == (state, True), about
    assert [head.split(b" ")[0] for head in server.heads] == [b"GET", b"POST"]
    assert not was_told_the_credential(server)


async def test_an_upstream_that_dies_before_messages_is_a_warning() -> None:
    about, _, _ = await look(by_path({"/v1/models": MISSING}, answering_nothing))
    assert about.state == "warn"
    assert about.detail.startswith("it answered 404, then not at all")


async def answering_nothing(_: bytes, __: Any, writer: Any) -> None:
    writer.close()


async def test_a_long_title_is_cut() -> None:
    about, _, _ = await look(answering(b"<title>" + b"x" * 400 + b"</title>", headers=HTML))
    assert len(about.detail) < 300


def test_a_hostile_page_is_read_in_no_time() -> None:
    for page in (b"<title " * 10_000, b"<title>" * 10_000, b"<title " + b"x" * 65_000, b"<" * 65_000):
        assert len(title_of(page)) <= 121
