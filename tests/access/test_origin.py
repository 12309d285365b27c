"""Host names and web origins: what a browser can be made to send, and what may pass."""

import pytest

from claude_proxy.access.origin import OriginRules, cors_headers, preflight_headers
from claude_proxy.errors import Forbidden
from tests.access.scopes import scope

RULES = OriginRules()


def refused(rules: OriginRules, *headers: tuple[str, str], method: str = "POST") -> str:
    with pytest.raises(Forbidden) as caught:
        rules.check(scope(*headers, method=method))
    return caught.value.code


# -- hosts


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:3000",
        "LocalHost",
        "localhost.",
        "proxy",
        "proxy:3000",
        "127.0.0.1",
        "127.0.0.1:3000",
        "10.1.2.3:80",
        "203.0.113.9",
        "[::1]",
        "[::1]:3000",
        "[2001:db8::1]:443",
        "proxy.local",
        "a.b.localhost:1",
        "nas.lan",
        "x.internal",
        "llm.home.arpa",
        "proxy.default.svc",
        "proxy.default.svc.cluster.local:80",
        "api_host",
        "",
    ],
)
def test_names_that_no_stranger_can_own_are_allowed(host: str) -> None:
    assert RULES.allows_host(host)
    RULES.check(scope(("host", host)))


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com:3000",
        "EXAMPLE.com.",
        "127.0.0.1.nip.io",
        "localhost.example.com",
        "local.example",
        "notlocal.com",
        "0x7f.1",
        "127.1.",
        "1.2.3.4.5",
        "proxy.localhost.evil.example",
        "xn--hxajbheg2az3al.xn--jxalpdlp",
        "evil.com:localhost",
    ],
)
def test_public_names_are_refused(host: str) -> None:
    assert not RULES.allows_host(host)
    assert refused(RULES, ("host", host)) == "host_not_allowed"


def test_a_request_without_host_is_not_a_browsers() -> None:
    RULES.check(scope())


@pytest.mark.parametrize(
    ("setting", "allowed", "not_allowed"),
    [
        ("p.example.com", ["p.example.com", "P.example.com:8443", "p.example.com."], ["example.com", "a.p.example.com"]),
        ("Proxy.Example.com", ["proxy.example.com"], ["proxy.example.org"]),
        ("proxy.example.com:3000", ["proxy.example.com:3000", "proxy.example.com"], ["example.com"]),
        ("*.example.com", ["a.example.com", "a.b.example.com:1"], ["example.com", "badexample.com", "example.com.evil.io"]),
        ("*", ["anything.at.all", "example.com:1"], []),
    ],
)  # fmt: skip
def test_allowed_hosts_adds_names(setting: str, allowed: list[str], not_allowed: list[str]) -> None:
    rules = OriginRules([setting])
    assert [host for host in allowed if not rules.allows_host(host)] == []
    assert [host for host in not_allowed if rules.allows_host(host)] == []
    assert rules.allows_host("localhost")


def test_the_refusal_names_the_host_and_the_setting() -> None:
    with pytest.raises(Forbidden) as caught:
        RULES.check(scope(("host", "evil.example" + "x" * 500)))
    assert "'evil.example" in caught.value.message
    assert "ALLOWED_HOSTS" in caught.value.message
    assert len(caught.value.message) < 400
    assert (caught.value.status, caught.value.side) == (403, "client")


# -- origins


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:3000", "http://localhost:3000"),
        ("LOCALHOST:3000", "http://localhost:3000"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("proxy.local", "https://proxy.local"),
        ("proxy.local:443", "https://proxy.local"),
        ("proxy.local", "https://proxy.local:443"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
    ],
)
def test_a_page_of_ours_may_call_us(host: str, origin: str) -> None:
    RULES.check(scope(("host", host), ("origin", origin), ("sec-fetch-site", "same-origin")))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:3000", "http://localhost:3001"),
        ("localhost:3000", "http://localhost"),
        ("localhost:443", "http://localhost"),
        ("localhost:80", "https://localhost"),
        ("localhost:3000", "http://127.0.0.1:3000"),
        ("localhost:3000", "https://evil.example"),
        ("localhost:3000", "null"),
        ("localhost:3000", ""),
        ("localhost:3000", "file://"),
        ("localhost:3000", "localhost:3000"),
        ("localhost:3000", "http://localhost:3000.evil.example"),
        ("localhost:3000", "http://user@localhost:3000"),
        ("localhost:3000", "http://["),
        ("localhost:3000", "http://[::1"),
        ("localhost:3000", "http://\xff"),
        ("", "http://evil.example"),
    ],
)
def test_a_page_of_another_origin_may_not(host: str, origin: str) -> None:
    assert refused(RULES, ("host", host), ("origin", origin)) == "origin_not_allowed"


def test_an_origin_without_a_host_to_compare_is_foreign() -> None:
    assert refused(RULES, ("origin", "http://localhost:3000")) == "origin_not_allowed"


@pytest.mark.parametrize("mode", ["cors", "no-cors", "websocket", "nested-navigate", ""])
def test_what_a_foreign_page_fetches_without_an_origin_is_refused(mode: str) -> None:
    headers = ("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode)
    assert refused(RULES, *headers, method="GET") == "origin_not_allowed"


def test_following_a_link_is_allowed_submitting_a_form_is_not() -> None:
    headers = ("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")
    RULES.check(scope(*headers, method="GET"))
    RULES.check(scope(*headers, method="HEAD"))
    assert refused(RULES, *headers, method="POST") == "origin_not_allowed"


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
def test_fetch_metadata_of_the_user_and_of_ours_passes(site: str) -> None:
    RULES.check(scope(("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", "cors")))


def test_clients_that_are_no_browsers_pass() -> None:
    RULES.check(scope(("host", "localhost:3000"), ("user-agent", "claude-cli/2.1.330"), ("authorization", "Bearer x")))


def test_an_origin_that_is_named_may_call_also_across_sites() -> None:
    rules = OriginRules(origins=["https://App.example/", "http://localhost:5173"])
    for origin in ("https://app.example", "https://APP.example", "http://localhost:5173"):
        rules.check(scope(("host", "localhost"), ("origin", origin), ("sec-fetch-site", "cross-site")))
    for origin in ("http://app.example", "https://app.example:8443", "https://a.app.example"):
        assert refused(rules, ("host", "localhost"), ("origin", origin)) == "origin_not_allowed"


def test_a_star_allows_every_origin_but_not_every_host() -> None:
    rules = OriginRules(origins=["*"])
    rules.check(scope(("host", "localhost"), ("origin", "null")))
    rules.check(scope(("host", "localhost"), ("origin", "http://[")))
    assert refused(rules, ("host", "evil.example"), ("origin", "http://evil.example")) == "host_not_allowed"


def test_the_refusal_names_the_origin_and_the_setting() -> None:
    with pytest.raises(Forbidden) as caught:
        RULES.check(scope(("host", "localhost"), ("origin", "https://evil.example")))
    assert "https://evil.example" in caught.value.message
    assert "ALLOWED_ORIGINS" in caught.value.message


def test_only_named_origins_get_cors_answers() -> None:
    rules = OriginRules(origins=["https://app.example"])
    assert rules.any_named
    assert not RULES.any_named
    assert rules.allowed_origin(scope(("origin", "https://App.example"))) == b"https://App.example"
    assert rules.allowed_origin(scope(("origin", "http://localhost"), ("host", "localhost"))) is None
    assert rules.allowed_origin(scope(("host", "localhost"))) is None
    assert OriginRules(origins=["*"]).allowed_origin(scope(("origin", "null"))) == b"null"


def test_a_preflight_is_answered_with_what_was_asked_for() -> None:
    asked = scope(
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, anthropic-beta"),
        ("access-control-request-private-network", "true"),
        method="OPTIONS",
    )
    answer = dict(preflight_headers(asked, b"https://app.example"))
    assert answer[b"access-control-allow-origin"] == b"https://app.example"
    assert answer[b"access-control-allow-headers"] == b"authorization, anthropic-beta"
    assert answer[b"access-control-allow-private-network"] == b"true"
    assert b"POST" in answer[b"access-control-allow-methods"]
    assert answer[b"vary"] == b"Origin"


def test_a_preflight_that_asks_for_little_gets_little() -> None:
    names = {name for name, _ in preflight_headers(scope(("origin", "null")), b"null")}
    assert b"access-control-allow-headers" not in names
    assert b"access-control-allow-private-network" not in names


def test_an_answer_to_a_page_never_allows_credentials() -> None:
    for headers in (cors_headers(b"https://a"), preflight_headers(scope(), b"https://a")):
        assert b"access-control-allow-credentials" not in dict(headers)
    assert b"x-claude-proxy-error" in dict(cors_headers(b"https://a"))[b"access-control-expose-headers"]


# -- changes on the page and the API

CHANGES = ("POST", "PUT", "PATCH", "DELETE")
HOST = ("host", "localhost:3000")


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("origin", "http://localhost:3000")],
        [("origin", "https://localhost:3000"), ("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "none")],
        [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")],
    ],
    ids=repr,
)
def test_a_change_may_come_from_our_page_a_named_origin_or_a_program(method: str, headers: list[tuple[str, str]]) -> None:
    OriginRules(origins=["https://app.example"]).check_page(scope(HOST, *headers, method=method))


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("allowed", [[], ["*"], ["https://app.example"]])
@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
        [("origin", "http://localhost:8080"), ("sec-fetch-site", "same-site")],
        [("origin", "http://localhost")],
        [("origin", "null")],
        [("origin", "")],
        [("origin", "http://[")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
        [("sec-fetch-site", "same-site")],
        [("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")],
    ],
    ids=repr,
)
def test_no_other_page_may_change_anything(method: str, allowed: list[str], headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Forbidden):
        OriginRules(origins=allowed).check_page(scope(HOST, *headers, method=method))


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_rebound_name_may_neither_look_nor_change(method: str) -> None:
    headers = [("host", "rebound.example:3000"), ("origin", "http://rebound.example:3000"), ("sec-fetch-site", "same-origin")]
    with pytest.raises(Forbidden, match="does not serve the host name"):
        OriginRules(origins=["*"]).check_page(scope(*headers, method=method))


def test_a_link_from_elsewhere_may_be_followed() -> None:
    OriginRules().check_page(scope(HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), method="GET"))
