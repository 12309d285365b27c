"""`/` for programs: JSON that says what this is. For browsers it is the page (tests/web/pages)."""

import httpx
import pytest
from pydantic import SecretStr

from claude_proxy.access.viewers import Viewers
from tests.web.serving import BROWSER, Pages, serving


async def test_a_program_gets_the_facts_as_json(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "name": "claude-proxy",
        "what": "A self-hosted proxy for the Anthropic API.",
        "version": "1.2.3",
        "status": "ready",
        "base_url": f"{client.base_url}/api/anthropic",
        "environment": {
            "ANTHROPIC_BASE_URL": f"{client.base_url}/api/anthropic",
            "ANTHROPIC_AUTH_TOKEN": "<your key>",
            "ANTHROPIC_DEFAULT_FABLE_MODEL": "glm-5.3",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-5.3",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "glm-5.3",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "glm-5.3-flash",
            "API_TIMEOUT_MS": "3000000",
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS": "1800000",
            "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
            "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        },
        "upstreams": [{"name": "default", "base_url": "https://api.z.ai/api/anthropic"}],
        "holds_credential": False,
        "needs_key": False,
        "notices": True,
        "links": {
            "docs": f"{client.base_url}/docs",
            "redoc": f"{client.base_url}/redoc",
            "openapi": f"{client.base_url}/openapi.json",
            "health": f"{client.base_url}/health",
            "ready": f"{client.base_url}/ready",
        },
    }
    assert answer.text.endswith("}\n")


async def test_caches_know_what_the_answer_depends_on(client: httpx.AsyncClient) -> None:
    for accept in (BROWSER, "*/*"):
        answer = await client.get("/", headers={"accept": accept})
        assert {"Accept", "Accept-Language", "Cookie"} <= set(answer.headers["vary"].split(", "))
        assert answer.headers["cache-control"] == "no-store"


async def test_head_answers_as_get_without_a_body(client: httpx.AsyncClient) -> None:
    for accept in (BROWSER, "*/*"):
        head, get = [await client.request(method, "/", headers={"accept": accept}) for method in ("HEAD", "GET")]
        assert head.content == b""
        assert head.status_code == 200
        assert head.headers["content-type"] == get.headers["content-type"]


async def test_a_draining_proxy_says_so(client: httpx.AsyncClient, pages: Pages) -> None:
    pages.ready = (False, "told to stop")
    assert (await client.get("/")).json()["status"] == "draining"


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
async def test_a_stranger_is_told_what_this_is_and_no_more(accept: str) -> None:
    pages = Pages(viewers=Viewers(SecretStr("the-admin-token")))
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin, headers={"accept": accept}) as client:
        told = (await client.get("/")).json()
        seen = (await client.get("/", headers={"authorization": "Bearer the-admin-token"})).json()
    assert set(told) == {"name", "what", "status", "base_url", "links"}
    assert {"environment", "upstreams", "version"} <= set(seen)


async def test_a_strangers_browser_gets_a_401_that_says_how_to_log_in() -> None:
    pages = Pages(viewers=Viewers(SecretStr("the-admin-token")))
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin, headers={"accept": BROWSER}) as client:
        answer = await client.get("/")
    assert answer.status_code == 401
    assert "Log in to see this page" in answer.text
    assert "api.z.ai" not in answer.text
