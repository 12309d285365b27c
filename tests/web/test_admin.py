"""Who may read what this proxy knows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request

from claude_proxy.errors import Unauthorized
from claude_proxy.web.admin import require_admin, shows
from claude_proxy.web.metrics import metrics
from tests.access.scopes import scope
from tests.web.serving import Pages, serving

TOKEN = "the-admin-token"
FAR = ("192.0.2.7", 40000)


def request(*headers: tuple[str, str], client: tuple[str, int] | None = FAR) -> Request:
    return Request(scope(*headers, client=client))


@pytest.mark.parametrize("token", [None, SecretStr(TOKEN)])
@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None])
async def test_this_machines_own_peers_need_no_token(token: SecretStr | None, client: Any) -> None:
    await require_admin(token)(request(client=client))


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
async def test_others_show_the_token(value: str) -> None:
    await require_admin(SecretStr(TOKEN))(request(("authorization", value)))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Bearer {TOKEN.upper()}")],
        [("authorization", "Bearer \xff\xfe")],
        [("x-api-key", TOKEN)],
        [("cookie", f"token={TOKEN}")],
    ],
    ids=repr,
)
async def test_anything_else_is_refused_with_a_sentence(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthorized, match="needs the proxy's ADMIN_TOKEN") as caught:
        await require_admin(SecretStr(TOKEN))(request(*headers))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer None")], [("authorization", "Bearer ")]])
async def test_without_a_token_nobody_passes_from_elsewhere(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthorized, match="until ADMIN_TOKEN is set"):
        await require_admin(None)(request(*headers))


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip"])
async def test_a_front_on_this_machine_speaks_for_others(name: str) -> None:
    with pytest.raises(Unauthorized):
        await require_admin(SecretStr(TOKEN))(request((name, "127.0.0.1"), client=("127.0.0.1", 1)))


def test_a_second_authorization_field_does_not_hide_the_first() -> None:
    fields = [(b"authorization", b"Bearer x"), (b"authorization", b"Bearer " + TOKEN.encode())]
    assert shows(fields, TOKEN.encode())
    assert shows(reversed(fields), TOKEN.encode())


async def told(*, openmetrics: bool, gzipped: bool) -> bytes:
    return b"up 1\n"


async def test_a_refusal_is_an_error_of_ours_with_a_challenge() -> None:
    """Over a real socket, behind a front: on loopback every peer is this machine's own."""
    pages = Pages()
    pages.app.include_router(metrics(told, require_admin(SecretStr(TOKEN))))
    front = {"x-forwarded-for": "192.0.2.7"}
    async with (
        serving(pages.app) as origin,
        httpx.AsyncClient(base_url=origin, headers=front | {"accept-encoding": ""}) as client,
    ):
        answer = await client.get("/metrics")
        shown = await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert "ADMIN_TOKEN" in answer.json()["error"]["message"]
    assert answer.headers["www-authenticate"] == 'Bearer realm="claude-proxy"'
    assert answer.headers["x-claude-proxy-error"] == "admin_token_wrong"
    assert answer.headers["cache-control"] == "no-store"
    assert (shown.status_code, shown.content) == (200, b"up 1\n")
