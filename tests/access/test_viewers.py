"""Who may look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from claude_proxy.access.logins import LOGIN_SECONDS, SIGNED_SECONDS, Kept, Logins
from claude_proxy.access.viewers import Viewer, Viewers, shows
from claude_proxy.errors import TooManyTries, Unauthorized
from tests.access.scopes import scope

TOKEN = "the-admin-token"
FAR = ("192.0.2.7", 40000)
LOOPBACK = [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None]
Kind = tuple[Viewers, Logins]


def with_token(logins: Logins | None = None) -> Viewers:
    return Viewers(SecretStr(TOKEN), logins)


def far(*headers: tuple[str, str]) -> dict[str, Any]:
    return scope(("host", "localhost:3000"), *headers, client=FAR)


def code_of(viewers: Viewers) -> str:
    code = viewers.logins.make_code()
    assert code is not None
    return code


# -- this machine


@pytest.mark.parametrize("client", LOOPBACK)
async def test_this_machines_own_peers_need_no_login(client: Any) -> None:
    viewer = await Viewers().viewer(scope(client=client))
    assert viewer is not None
    assert (viewer.by, viewer.login) == ("local", None)


@pytest.mark.parametrize("client", LOOPBACK)
async def test_with_a_token_they_show_it_too(client: Any) -> None:
    assert await with_token().viewer(scope(client=client)) is None
    assert await with_token().viewer(scope(("authorization", f"Bearer {TOKEN}"), client=client)) is not None


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip", "via", "cf-ray"])
async def test_a_front_on_this_machine_speaks_for_others(name: str) -> None:
    assert await Viewers().viewer(scope((name, "127.0.0.1"))) is None


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer None")], [("authorization", "Bearer ")], [("cookie", "a=b")]])
async def test_without_a_token_nobody_passes_from_elsewhere(headers: list[tuple[str, str]]) -> None:
    assert await Viewers().viewer(far(*headers)) is None


# -- the token


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
async def test_others_show_the_token(value: str) -> None:
    viewer = await with_token().viewer(far(("authorization", value)))
    assert viewer is not None
    assert viewer.by == "token"


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
        [("cookie", f"claude_proxy_3000={TOKEN}")],
    ],
    ids=repr,
)
async def test_nothing_else_is_the_token(headers: list[tuple[str, str]]) -> None:
    assert await with_token().viewer(far(*headers)) is None


def test_a_second_authorization_field_does_not_hide_the_first() -> None:
    fields = [(b"authorization", b"Bearer x"), (b"authorization", b"Bearer " + TOKEN.encode())]
    assert shows(fields, TOKEN.encode())
    assert shows(reversed(fields), TOKEN.encode())


async def test_a_peer_that_guesses_is_refused_and_others_are_not() -> None:
    viewers = with_token()
    for number in range(10):
        assert await viewers.viewer(far(("authorization", f"Bearer {number}"))) is None
    for shown in ("guess", TOKEN):
        with pytest.raises(TooManyTries):
            await viewers.viewer(far(("authorization", f"Bearer {shown}")))
    assert await viewers.viewer(scope(("authorization", f"Bearer {TOKEN}"), client=("192.0.2.8", 1)))


async def test_requests_without_a_token_are_no_guesses() -> None:
    viewers = with_token()
    for _ in range(50):
        assert await viewers.viewer(far(("cookie", "claude_proxy_3000=0123456789abcdef.x"))) is None
    assert await viewers.viewer(far(("authorization", f"Bearer {TOKEN}")))


# -- logins


async def test_a_code_logs_a_browser_in_until_it_logs_out() -> None:
    viewers = Viewers()
    value, seconds = await viewers.log_in(far(("user-agent", "Firefox")), code_of(viewers))
    assert seconds == LOGIN_SECONDS
    seen = far(("cookie", f"claude_proxy_3000={value}"))
    viewer = await viewers.viewer(seen)
    assert viewer is not None
    assert viewer.login is not None
    assert (viewer.by, viewer.login.peer, viewer.login.browser) == ("login", "192.0.2.7", "Firefox")
    await viewers.log_out(seen)
    assert await viewers.viewer(seen) is None


async def test_the_token_does_too() -> None:
    viewers = with_token()
    value, _ = await viewers.log_in(far(), f" {TOKEN} ")
    assert await viewers.viewer(far(("cookie", f"claude_proxy_3000={value}")))


async def test_the_right_one_of_several_cookies_counts() -> None:
    viewers = Viewers()
    value, _ = await viewers.log_in(far(), code_of(viewers))
    assert await viewers.viewer(far(("cookie", f"claude_proxy_3000=0123456789abcdef.x; claude_proxy_3000={value}")))


async def test_a_new_login_replaces_the_browsers_old_one() -> None:
    viewers = Viewers()
    old, _ = await viewers.log_in(far(), code_of(viewers))
    new, _ = await viewers.log_in(far(("cookie", f"claude_proxy_3000={old}")), code_of(viewers))
    assert len(viewers.logins.all()) == 1
    assert await viewers.viewer(far(("cookie", f"claude_proxy_3000={new}")))


@pytest.mark.parametrize("secret", ["", "x", TOKEN + "x", "\ud800"])
@pytest.mark.parametrize("viewers", [Viewers(), with_token()], ids=["no token", "token"])
async def test_anything_else_is_refused(viewers: Viewers, secret: str) -> None:
    with pytest.raises(Unauthorized, match="not a valid code"):
        await viewers.log_in(far(), secret)
    assert viewers.logins.all() == []


async def test_without_a_token_an_empty_one_logs_nobody_in() -> None:
    for secret in ("", "None", " "):
        with pytest.raises(Unauthorized):
            await Viewers().log_in(far(), secret)


async def test_brute_force_is_held_up_but_does_not_lock_a_code_out() -> None:
    viewers = with_token()
    code = code_of(viewers)
    for number in range(10):
        with pytest.raises(Unauthorized):
            await viewers.log_in(far(), f"guess {number}")
    for secret in ("guess", TOKEN):
        with pytest.raises(TooManyTries, match="in 30 seconds"):
            await viewers.log_in(far(), secret)
    assert await viewers.log_in(far(), code)


async def test_logins_and_refusals_are_logged_without_secrets() -> None:
    viewers = with_token()
    code = code_of(viewers)
    with capture_logs() as lines:
        value, _ = await viewers.log_in(far(), code)
        with pytest.raises(Unauthorized):
            await viewers.log_in(far(), "a guess")
    [done, refused] = lines
    [login] = viewers.logins.all()
    assert (done["event"], done["login"], done["peer"]) == ("logged_in", login.id, "192.0.2.7")
    assert (refused["event"], refused["peer"]) == ("login_refused", "192.0.2.7")
    assert not any(secret in str(lines) for secret in (code, "a guess", TOKEN, value.partition(".")[2]))


# -- several workers without a folder


def nowhere(tmp_path: Path) -> Logins:
    (tmp_path / "file").write_text("")
    logins = Logins(tmp_path / "file")
    logins.start(alone=False)
    assert logins.kept is Kept.NOWHERE
    return logins


async def test_workers_without_a_folder_know_a_login_by_its_signature(tmp_path: Path) -> None:
    value, seconds = await with_token(nowhere(tmp_path)).log_in(far(), TOKEN)
    assert seconds == SIGNED_SECONDS
    another = with_token(nowhere(tmp_path))
    seen = far(("cookie", f"claude_proxy_3000={value}"))
    viewer = await another.viewer(seen)
    assert viewer is not None
    assert (viewer.by, viewer.login) == ("login", None)
    assert await Viewers(SecretStr("another token"), nowhere(tmp_path)).viewer(seen) is None
    assert await with_token().viewer(seen) is None  # nor where logins are kept and could be revoked


async def test_one_may_look_until_the_login_ends(tmp_path: Path) -> None:
    now = [1_000_000.0]
    stored = Logins(tmp_path, lambda: now[0])
    stored.start(alone=True)
    unstored = Logins(tmp_path / "no" / "such", lambda: now[0])
    unstored.kept = Kept.NOWHERE
    for viewers, seconds in ((with_token(stored), LOGIN_SECONDS), (with_token(unstored), SIGNED_SECONDS)):
        value, _ = await viewers.log_in(far(), TOKEN)
        viewer = await viewers.viewer(far(("cookie", f"claude_proxy_3000={value}")))
        assert viewer is not None
        assert viewers.may_look(viewer)
        now[0] += seconds - 1
        assert viewers.may_look(viewer)
        now[0] += 1
        assert not viewers.may_look(viewer)
    assert not Viewers(None, unstored).may_look(viewer)


@pytest.mark.parametrize("by", ["local", "token"])
async def test_one_without_a_login_may_look_on(by: Any) -> None:
    assert with_token().may_look(Viewer(by))


async def test_without_a_token_they_let_nobody_in(tmp_path: Path) -> None:
    viewers = Viewers(None, nowhere(tmp_path))
    with pytest.raises(Unauthorized):
        await viewers.log_in(far(), "x")
    signed = viewers.logins.sign(b"")
    assert await viewers.viewer(far(("cookie", f"claude_proxy_3000={signed}"))) is None
