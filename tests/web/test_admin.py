"""What those get who may not look."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request

from claude_proxy.access.viewers import Viewers
from claude_proxy.errors import TooManyTries
from claude_proxy.web.admin import LoginNeeded, require_viewer
from claude_proxy.web.metrics import metrics
from tests.access.scopes import scope
from tests.web.serving import Pages, serving

TOKEN = "the-admin-token"
FAR = ("192.0.2.7", 40000)


def request(*headers: tuple[str, str]) -> Request:
    return Request(scope(*headers, client=FAR))


async def test_who_may_look_is_handed_on_with_the_request() -> None:
    asked = request(("authorization", f"Bearer {TOKEN}"))
    await require_viewer(Viewers(SecretStr(TOKEN)))(asked)
    assert asked.state.viewer.by == "token"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "login_needed"),
        ([("authorization", f"Basic {TOKEN}")], "login_needed"),
        ([("authorization", f"Bearer {TOKEN}x")], "admin_token_wrong"),
        ([("cookie", "claude_proxy=0123456789abcdef.x")], "login_needed"),
    ],
    ids=repr,
)
async def test_others_are_refused_with_a_sentence(headers: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(LoginNeeded, match="needs a login or the proxy's ADMIN_TOKEN") as caught:
        await require_viewer(Viewers(SecretStr(TOKEN)))(request(*headers))
    assert caught.value.code == code
    assert TOKEN not in str(caught.value)


async def test_without_a_token_the_sentence_says_that_one_can_be_set() -> None:
    with pytest.raises(LoginNeeded, match="set ADMIN_TOKEN at the proxy") as caught:
        await require_viewer(Viewers())(request(("authorization", "Bearer x")))
    assert caught.value.code == "login_needed"


async def test_who_guesses_tokens_is_held_up() -> None:
    check = require_viewer(Viewers(SecretStr(TOKEN)))
    for _ in range(10):
        with pytest.raises(LoginNeeded):
            await check(request(("authorization", "Bearer guess")))
    with pytest.raises(TooManyTries) as caught:
        await check(request(("authorization", f"Bearer {TOKEN}")))
    assert caught.value.retry_after == 30


async def told(*, openmetrics: bool, gzipped: bool) -> bytes:
    return b"up 1\n"


async def test_a_refusal_is_an_error_of_ours_with_a_challenge() -> None:
    """Over a real socket; with a token, this machine's own peers have to show it too."""
    pages = Pages()
    pages.app.include_router(metrics(told, require_viewer(Viewers(SecretStr(TOKEN)))))
    async with (
        serving(pages.app) as origin,
        httpx.AsyncClient(base_url=origin, headers={"accept-encoding": ""}) as client,
    ):
        answer = await client.get("/metrics")
        shown = await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert "ADMIN_TOKEN" in answer.json()["error"]["message"]
    assert answer.headers["www-authenticate"] == 'Bearer realm="claude-proxy"'
    assert answer.headers["x-claude-proxy-error"] == "login_needed"
    assert answer.headers["cache-control"] == "no-store"
    assert (shown.status_code, shown.content) == (200, b"up 1\n")
