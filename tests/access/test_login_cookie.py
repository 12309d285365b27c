"""The cookie of a login."""

from __future__ import annotations

import pytest

from claude_proxy.access.login_cookie import name_in, set_cookie, values_in
from tests.access.scopes import scope


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:3000", "claude_proxy_3000"),
        ("localhost:3001", "claude_proxy_3001"),
        ("[::1]:3000", "claude_proxy_3000"),
        ("[::1]", "claude_proxy"),
        ("proxy.example", "claude_proxy"),
        ("host:99999999", "claude_proxy"),
        ("host:3;x", "claude_proxy"),
        ("host:\xb2", "claude_proxy"),
    ],
)
def test_each_port_of_a_host_has_its_own_name(host: str, name: str) -> None:
    assert name_in(scope(("host", host))) == name


def test_without_a_host_it_still_has_one() -> None:
    assert name_in(scope()) == "claude_proxy"


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ([], []),
        (["claude_proxy_3000=a.b"], ["a.b"]),
        (["x=1; claude_proxy_3000=a.b;y=2"], ["a.b"]),
        (["claude_proxy_3000=a; claude_proxy_3000=b", "claude_proxy_3000=c"], ["a", "b", "c"]),
        (["claude_proxy_3001=a; claude_proxy=b; xclaude_proxy_3000=c; claude_proxy_3000"], []),
        (["claude_proxy_3000=" + "; claude_proxy_3000=".join("abcdefgh")], list("abcde")),
        (["claude_proxy_3000=\xff"], ["\xff"]),
    ],
)
def test_values_are_read_from_any_cookie_field(fields: list[str], values: list[str]) -> None:
    headers = [("cookie", field) for field in fields]
    assert list(values_in(scope(("host", "localhost:3000"), *headers))) == values


def attributes(cookie: str) -> set[str]:
    return set(cookie.split("; ")[1:])


def test_it_is_for_the_server_alone_and_not_for_other_sites() -> None:
    cookie = set_cookie(scope(("host", "localhost:3000")), "id.secret", "", 60)
    assert cookie.startswith("claude_proxy_3000=id.secret; ")
    assert attributes(cookie) == {"HttpOnly", "SameSite=Lax", "Max-Age=60"}


@pytest.mark.parametrize(
    ("scheme", "origin", "secure"),
    [
        ("http", None, False),
        ("http", "http://proxy.example", False),
        ("https", None, True),
        ("https", "null", True),
        ("http", "https://proxy.example", True),
    ],
)
def test_it_is_secure_behind_tls(scheme: str, origin: str | None, secure: bool) -> None:
    headers = [] if origin is None else [("origin", origin)]
    assert ("Secure" in attributes(set_cookie(scope(*headers, scheme=scheme), "x", "", None))) is secure


@pytest.mark.parametrize(("root", "path"), [("/claude", "Path=/claude"), ("/a b;c", "Path=/a%20b%3Bc")])
def test_its_path_is_the_prefix(root: str, path: str) -> None:
    assert path in attributes(set_cookie(scope(), "x", root, None))


def test_an_empty_value_removes_it() -> None:
    assert "Max-Age=0" in attributes(set_cookie(scope(), "", "", None))
