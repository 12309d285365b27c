"""What a front proxy of deploy/ does by itself: plain http, a proxy that is down, a prefix it passes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from claude_proxy.simulator import Simulator
from tests.deploy.calls import MESSAGES, Call, Way, stream
from tests.deploy.fronts import FRONTS, NAME, Certificate, Front, front, shipped_files
from tests.deploy.process import free_port
from tests.deploy.servers import server

PASSED_ON = "/gateway"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One certificate for all fronts."""
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=FRONTS)
async def alone(
    request: pytest.FixtureRequest, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Front]:
    """A front with nothing behind it."""
    async with front(request.param, tmp_path_factory.mktemp(request.param), certificate, free_port()) as running:
        yield running


@pytest.mark.system
async def test_a_browser_on_plain_http_is_sent_to_https(alone: Front) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{alone.http}", headers={"host": NAME}) as client:
        response = await client.get("/docs?x=1")
    assert response.status_code in (301, 308)
    assert response.headers["location"] == f"https://{NAME}/docs?x=1"


@pytest.mark.system
@pytest.mark.parametrize("prefix", ["", "/claude", PASSED_ON])
async def test_an_api_client_on_plain_http_is_refused_not_redirected(alone: Front, prefix: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{alone.http}", headers={"host": NAME}) as client:
        response = await client.post(prefix + MESSAGES, json={})
    assert response.status_code in (403, 404)
    if alone.name != "traefik":  # it can only say 404
        assert response.json()["error"]["type"] == "permission_error"


@pytest.mark.system
async def test_a_proxy_that_is_down_is_an_error_in_the_envelope(alone: Front, certificate: Certificate) -> None:
    way = Way(alone.https, True, certificate)
    async with way.client() as client:
        response = await client.post(MESSAGES, json={}, extensions=way.extensions)
    assert response.status_code in (502, 503)
    if alone.name != "traefik":  # its own errors are plain text
        assert response.headers["content-type"] == "application/json"
        assert response.json()["error"]["type"] == "api_error"


@pytest.mark.system
async def test_a_prefix_that_is_passed_on_is_known_to_the_proxy(
    certificate: Certificate, simulator: Simulator, tmp_path: Path
) -> None:
    async with server("serve", tmp_path, simulator.base_url, prefix=PASSED_ON) as started:
        for name in FRONTS:
            folder = tmp_path / name
            folder.mkdir()
            async with front(name, folder, certificate, started.port) as before:
                way, call = Way(before.https, True, certificate), Call()
                async with way.client() as client:
                    async with stream(client, way, call, PASSED_ON) as events:
                        assert [event async for event in events][-1] == "message_stop"
                    facts = await client.get(f"{PASSED_ON}/", headers={"accept": "application/json"}, extensions=way.extensions)
            assert call.at(simulator).target == b"/api/anthropic/v1/messages"
            assert facts.json()["base_url"] == f"https://{way.host}{PASSED_ON}/api/anthropic"


@pytest.mark.parametrize("path", [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in shipped_files()])
def test_a_shipped_file_names_nothing_of_a_machine(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert "proxy.example.com" in text or "server_name" not in text
    assert "insecure" not in text.lower()
