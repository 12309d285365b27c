import httpx
import pytest

from tests.web.serving import Pages


async def test_health_says_alive_and_which_version(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": "1.2.3"})


async def test_ready_while_requests_are_welcome(client: httpx.AsyncClient) -> None:
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "reason": ""})


async def test_while_draining_it_is_alive_but_not_ready(client: httpx.AsyncClient, pages: Pages) -> None:
    pages.ready = (False, "told to stop")
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "draining", "reason": "told to stop"})
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_a_probe_is_never_cached_and_takes_head(client: httpx.AsyncClient, path: str) -> None:
    head, get = await client.head(path), await client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.headers["cache-control"] == get.headers["cache-control"] == "no-store"
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_head_of_a_draining_proxy_is_503(client: httpx.AsyncClient, pages: Pages) -> None:
    pages.ready = (False, "told to stop")
    assert (await client.head("/ready")).status_code == 503
