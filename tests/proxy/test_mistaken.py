"""What a path tells of a wrong base URL, and the paths that it must not be told of: those an API could have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.proxy.mistaken import advice, fault, is_meant_for_api

BASE = "http://localhost:3000/api/anthropic"
MISTAKEN = {
    "//v1/messages": "has a doubled slash",
    "///v1/messages": "has a doubled slash",
    "//v1/files/abc/content": "has a doubled slash",
    "/v1//messages": "has a doubled slash",
    "/v1/v1/messages": "repeats /v1",
    "/v1/v1/v1/messages/count_tokens": "repeats /v1",
    "//v1/v1/messages": "repeats /v1",
    "/v1//v1/messages": "repeats /v1",
    "/v1/v1": "repeats /v1",
    "/v1/v1/anything": "repeats /v1",
    "/api/anthropic/v1/messages": "repeats /api/anthropic",
    "/api/anthropic/messages": "repeats /api/anthropic",
    "/api/anthropic/api/hello": "repeats /api/anthropic",
    "//api/anthropic/v1/models": "repeats /api/anthropic",
    "/v1/api/anthropic/v1/messages": "repeats /api/anthropic",
    "/v1/messages/v1/messages": "repeats /v1/messages",
    "/v1/messages/v1/messages/count_tokens": "repeats /v1/messages",
    "/messages": "lacks /v1",
    "/messages/count_tokens": "lacks /v1",
    "//messages": "lacks /v1",
    "/models": "lacks /v1",
    "/files/abc/content": "lacks /v1",
}
POSSIBLE = [
    "", "/", "//", "/v1", "/v1/", "/v1/messages", "/v1/messages/", "/v1/messages/count_tokens", "/v1/messages/batches/v1",
    "/v1/messages/batches/msgbatch_1/results", "/v1/models", "/v1/models/v1", "/v1/models/org/name", "/v1/files/v1/content",
    "/v1/files//content", "/v1/complete", "/v1/skills/s/versions/v1/content", "/v1/organizations/v1/users", "/v1/oauth/token",
    "/api/hello", "/api/event_logging/batch", "/managed/settings", "/protocol", "/v2/messages", "/v1beta/messages",
    "/v1/%2F/messages", "/%2Fv1/messages", "/v1messages", "/messagesx", "v1/v1/messages", "*",
]  # fmt: skip


@pytest.mark.parametrize(("path", "found"), MISTAKEN.items())
def test_a_path_that_no_api_has_is_explained(path: str, found: str) -> None:
    wanted = f"{BASE}/v1" if found == "lacks /v1" else BASE
    said = advice(path, BASE)
    assert said is not None
    assert said.startswith(f"The path {found}: ")
    assert wanted in said.replace(",", "").split(" ")


@pytest.mark.parametrize("path", POSSIBLE)
def test_a_path_that_an_api_could_have_is_the_upstreams(path: str) -> None:
    assert advice(path, BASE) is None


def test_without_an_address_the_sentence_still_says_what_to_do() -> None:
    assert "/api/anthropic, with nothing behind it." in str(advice("/v1/v1/messages"))


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/"), min_size=1))
def test_below_v1_every_name_is_the_upstreams(name: str) -> None:
    if name != "v1":
        assert advice(f"/v1/{name}", BASE) is None


def test_a_long_path_is_read_in_one_go() -> None:
    for path in ("/" * 100_000, "/v1" * 100_000, "/api/anthropic" * 50_000):
        assert advice(path) is not None or path == "/" * 100_000


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/anthropic/v1/messages", None),
        ("//api/anthropic/v1/messages", "has a doubled slash"),
        ("/api/anthropic/api/anthropic/v1/messages", "repeats /api/anthropic"),
        ("/api/anthropic/messages", "lacks /v1"),
    ],
)
def test_a_whole_path_may_have_the_prefix_once(path: str, found: str | None) -> None:
    assert fault(path, prefixes=1) == found


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1", True), ("/v1/anything", True), ("//v1/messages", True), ("/messages", True), ("/anthropic/v1/messages", True),
        ("/api/v1/models", True), ("/", False), ("/docs", False), ("/v10", False), ("/docs/v1", False), ("/api", False),
    ],
)  # fmt: skip
def test_a_client_that_looks_for_the_api_is_known_by_the_start_of_its_path(path: str, meant: bool) -> None:
    assert is_meant_for_api(path) is meant
