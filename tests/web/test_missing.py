import httpx
import pytest
from starlette.requests import Request

from claude_proxy.web import not_found
from tests.web.serving import Front, Pages, WithRootPath, serving


@pytest.mark.parametrize("path", ["/v1", "/v1/messages", "/v1/models?limit=1000", "/anthropic/v1/messages", "/api/v1/messages"])
async def test_a_client_without_the_prefix_is_told_the_right_base_url(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json={})
    assert answer.status_code == 404
    body = answer.json()
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert f"ANTHROPIC_BASE_URL={client.base_url}/api/anthropic " in body["error"]["message"]
    assert answer.headers["x-claude-proxy-error"] == "not_found"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "also"),
    [
        ("//v1/messages", "has a doubled slash"),
        ("//api/anthropic/v1/messages", "has a doubled slash"),
        ("/v1/v1/messages", "repeats /v1"),
        ("/v1/api/anthropic/v1/messages", "repeats /v1"),
        ("/v1/messages/v1/messages", "repeats /v1/messages"),
    ],
)
async def test_what_is_doubled_besides_is_said(client: httpx.AsyncClient, path: str, also: str) -> None:
    answer = await client.post(f"{client.base_url}{path}", json={})
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert message.startswith(f"The API is not at {path} of this proxy but under /api/anthropic (the path also {also}): ")
    assert message.endswith(f"set ANTHROPIC_BASE_URL={client.base_url}/api/anthropic in your client and try again.")


@pytest.mark.parametrize("path", ["/messages", "/messages/count_tokens", "/models"])
async def test_a_client_that_appends_no_version_is_told_a_base_url_with_it(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json={})
    assert answer.status_code == 404
    assert f"set its base URL to {client.base_url}/api/anthropic/v1 and try again" in answer.json()["error"]["message"]


async def test_the_right_base_url_has_the_prefix_of_the_front(pages: Pages) -> None:
    async with serving(WithRootPath(Front(pages.app, "/gw"), "/gw")) as origin, httpx.AsyncClient() as client:
        message = (await client.post(f"{origin}/gw/v1/messages")).json()["error"]["message"]
    assert f"ANTHROPIC_BASE_URL={origin}/gw/api/anthropic" in message
    assert "not at /v1/messages of" in message


@pytest.mark.parametrize("path", ["/nothing", "/v10", "/static/nothing.js", "/static/", "/static", "/docs/"])
async def test_elsewhere_the_envelope_says_where_the_api_is(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["type"] == "not_found_error"
    assert f"nothing at {path}." in error["message"]
    assert f"{client.base_url}/api/anthropic" in error["message"]
    assert "ANTHROPIC_BASE_URL" not in error["message"]


async def test_a_long_path_is_not_repeated_in_full(client: httpx.AsyncClient) -> None:
    answer = await client.get("/" + "x" * 5000)
    assert "xxx…" in answer.json()["error"]["message"]
    assert len(answer.content) < 600


async def test_a_method_that_cannot_be_used_is_refused_with_those_that_can(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/", "/docs", "/static/docs.css"):
        answer = await client.post(path)
        assert answer.status_code == 405
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
        assert answer.headers["x-claude-proxy-error"] == "wrong_method"


def test_the_prefix_is_the_callers() -> None:
    scope = {"type": "http", "method": "GET", "path": "/v1/x", "scheme": "http", "server": None, "headers": []}
    assert b"ANTHROPIC_BASE_URL=http://localhost/elsewhere " in not_found(Request(scope), "/elsewhere").body
