"""The gate: keys, held credentials, hosts, draining, sizes."""

from typing import Any

import pytest

from claude_proxy.access import gate as module
from claude_proxy.access.gate import Gate
from claude_proxy.access.origin import OriginRules
from claude_proxy.admission import OPEN, Admission
from claude_proxy.errors import Forbidden, Unauthorized, Unavailable
from claude_proxy.settings import Settings
from tests.access.added import ADDED
from tests.access.scopes import scope

KEY = "pk-1234567890"
REMOTE = ("203.0.113.9", 40000)


def gate(*, draining: bool = False, **settings: Any) -> Gate:
    made = Settings(**settings)
    return Gate(made, OriginRules(made.allowed_hosts, made.allowed_origins), lambda: draining)


def with_key(*fields: bytes) -> Admission:
    """What a request gets that showed PROXY_API_KEY in these fields."""
    return Admission("default", frozenset(fields))


def refusal(which: Gate, *headers: tuple[str, str], **more: Any) -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        which.admit(scope(*headers, **more))
    return caught.value


# -- without anything to protect


def test_without_key_and_credential_everybody_passes_under_any_name() -> None:
    assert gate().admit(scope(client=REMOTE)) == OPEN
    assert gate().admit(scope(("host", "proxy.example.com"), ("origin", "https://app.example"), client=REMOTE)) == OPEN


def test_the_clients_own_credential_is_not_ours_to_withhold() -> None:
    assert gate().admit(scope(("authorization", "Bearer theirs"), ("x-api-key", "theirs"))) == OPEN


# -- with a key


@pytest.mark.parametrize("value", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_key_opens_as_bearer(value: str) -> None:
    assert gate(proxy_api_key=KEY).admit(scope(("authorization", value), client=REMOTE)) == with_key(b"authorization")


@pytest.mark.parametrize("value", [KEY, f" {KEY} "])
def test_the_key_opens_as_x_api_key(value: str) -> None:
    assert gate(proxy_api_key=KEY).admit(scope(("x-api-key", value), client=REMOTE)) == with_key(b"x-api-key")


def test_both_headers_with_the_key_stay_here_both() -> None:
    headers = ("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)
    assert gate(proxy_api_key=KEY).admit(scope(*headers)) == with_key(b"authorization", b"x-api-key")


def test_only_the_header_that_carried_the_key_is_withheld() -> None:
    which = gate(proxy_api_key=KEY)
    assert which.admit(scope(("authorization", "Bearer upstreams"), ("x-api-key", KEY))) == with_key(b"x-api-key")
    assert which.admit(scope(("authorization", f"Bearer {KEY}"), ("x-api-key", "upstreams"))) == with_key(b"authorization")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-api-key", "")],
        [("x-api-key", "wrong")],
        [("x-api-key", KEY[:-1])],
        [("x-api-key", KEY + "x")],
        [("x-api-key", KEY.upper())],
        [("x-api-key", f"Bearer {KEY}")],
        [("authorization", KEY)],
        [("authorization", f"Basic {KEY}")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {KEY} {KEY}")],
        [("authorization", "Bearer \xff\xfe")],
        [("proxy-authorization", f"Bearer {KEY}")],
        [("cookie", KEY)],
    ],
    ids=repr,
)
def test_anything_else_does_not_open(headers: list[tuple[str, str]]) -> None:
    for which in (gate(proxy_api_key=KEY), gate(proxy_api_key=KEY, upstream_api_key="up")):
        error = refusal(which, *headers)
        assert (error.status, error.code, error.should_retry) == (401, "key_wrong", False)
        assert "PROXY_API_KEY" in error.message
        assert KEY not in error.message


def test_this_machine_needs_the_key_too() -> None:
    assert refusal(gate(proxy_api_key=KEY), client=("127.0.0.1", 1)).code == "key_wrong"


def test_the_decision_is_compare_digests_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it takes constant time is its promise; that nothing else looks at the key is ours."""
    compared: list[tuple[bytes, bytes]] = []

    def always(shown: bytes, key: bytes) -> bool:
        compared.append((shown, key))
        return True

    monkeypatch.setattr(module.hmac, "compare_digest", always)
    which = gate(proxy_api_key=KEY)
    headers = ("x-api-key", "w"), ("authorization", "Bearer a much longer wrong key")
    assert which.admit(scope(*headers)) == with_key(b"x-api-key", b"authorization")
    assert compared == [(b"w", KEY.encode()), (b"a much longer wrong key", KEY.encode())]


# -- with a held credential


def test_a_held_credential_without_a_key_serves_this_machine_only() -> None:
    which = gate(upstream_api_key="up")
    assert which.admit(scope(("host", "localhost:3000"))) == OPEN
    error = refusal(which, ("host", "10.0.0.2:3000"), client=REMOTE)
    assert error.code == "key_needed"
    assert "PROXY_API_KEY" in error.message


@pytest.mark.parametrize("front", ADDED)
def test_what_came_through_a_front_does_not_spend_a_held_credential(front: str) -> None:
    for name in ADDED[front]:
        error = refusal(gate(upstream_api_key="up"), (name.lower(), "127.0.0.1"))
        assert (error.status, error.code) == (401, "key_needed")
        assert "reverse proxy or tunnel" in error.message


@pytest.mark.parametrize("front", ADDED)
def test_a_front_needs_no_key_where_nothing_is_held_and_may_show_one(front: str) -> None:
    added = [(name.lower(), "203.0.113.9") for name in ADDED[front]]
    assert gate().admit(scope(*added)) == OPEN
    assert gate(upstream_api_key="up", proxy_api_key=KEY).admit(scope(*added, ("x-api-key", KEY))) == with_key(b"x-api-key")


def test_with_a_key_too_it_serves_the_world() -> None:
    which = gate(upstream_api_key="up", proxy_api_key=KEY)
    assert which.admit(scope(("host", "10.0.0.2:3000"), ("x-api-key", KEY), client=REMOTE)) == with_key(b"x-api-key")


@pytest.mark.parametrize("settings", [{}, {"proxy_api_key": KEY}], ids=["no key", "key"])
def test_a_held_credential_is_not_spent_by_web_pages_and_rebound_names(settings: dict[str, Any]) -> None:
    which = gate(upstream_api_key="up", **settings)
    key = ("x-api-key", KEY)
    for headers in (
        [("host", "evil.example")],
        [("host", "localhost"), ("origin", "https://evil.example")],
        [("host", "localhost"), ("sec-fetch-site", "cross-site")],
    ):
        with pytest.raises(Forbidden):
            which.admit(scope(key, *headers))


def test_allowed_hosts_and_origins_reach_the_gate() -> None:
    which = gate(upstream_api_key="up", allowed_hosts=["p.example"], allowed_origins=["https://app.example"])
    assert which.admit(scope(("host", "p.example"), ("origin", "https://app.example"))) == OPEN


# -- draining and sizes


def test_a_draining_process_sends_everybody_on_to_its_successor() -> None:
    which = gate(draining=True, proxy_api_key=KEY)
    for headers in ([], [("x-api-key", KEY)]):
        with pytest.raises(Unavailable) as caught:
            which.admit(scope(*headers))
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "draining", 1)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/messages", 1),
        ("/v1/messages/count_tokens", 1),
        ("/v1/messages/batches", 2),
        ("/v1/messages/batches/b_1/cancel", 2),
        ("/v1/files", 3),
        ("/v1/files/f_1", 3),
        ("/v1/models", 1),
        ("", 1),
    ],
)
def test_each_path_has_its_limit(path: str, limit: int) -> None:
    assert gate(max_body=1, max_body_batches=2, max_body_files=3).body_limit(path) == limit
