"""Header fields: open lists both ways, and the closed list of what stays (docs/design.md, "What is changed")."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.proxy.headers import (
    CREDENTIALS,
    HOP_BY_HOP,
    Header,
    get,
    named_by_connection,
    refuse_breaks,
    request_head,
    response_headers,
)
from tests.access.added import CLIENTS as CLIENT_NAMES
from tests.access.added import NAMES

# As Claude Code 2.1.330 sends them (docs/facts.md, "Claude Code").
CLIENTS: list[Header] = [
    (b"accept", b"application/json"),
    (b"authorization", b"Bearer sk-client"),
    (b"x-api-key", b"sk-client-2"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"claude-code-20250219,context-1m-2025-08-07"),
    (b"anthropic-dangerous-direct-browser-access", b"true"),
    (b"user-agent", b"claude-cli/2.1.330 (external, cli)"),
    (b"x-app", b"cli"),
    (b"x-claude-code-session-id", b"0f0e"),
    (b"x-stainless-retry-count", b"0"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"content-type", b"application/json"),
    (b"x-unheard-of", b'caf\xe9; a="b"'),
    (b"x-twice", b"1"),
    (b"x-twice", b"2"),
    (b"x-empty", b""),
]
STAY_HERE: list[Header] = [
    (b"host", b"localhost:3000"),
    (b"content-length", b"12"),
    (b"transfer-encoding", b"chunked"),
    (b"te", b"trailers"),
    (b"trailer", b"x"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-connection", b"keep-alive"),
    (b"proxy-authorization", b"Basic x"),
    (b"proxy-authenticate", b"Basic"),
    (b"upgrade", b"h2c"),
    (b"http2-settings", b"AAMAAABkAAQAAP__"),
    (b"expect", b"100-continue"),
    (b"cookie", b"session=1"),
    *((name.encode(), b"203.0.113.9") for name in NAMES),
    (b"x-forwarded-anything", b"x"),
]


def head(
    headers: list[Header],
    *,
    credential: Header | None = None,
    withheld: frozenset[bytes] = frozenset(),
    framing: bytes = b"",
    target: bytes = b"/api/anthropic/v1/messages?beta=true",
) -> bytes:
    named = dict(headers)
    return request_head(b"POST", target, b"api.z.ai", headers, named, credential=credential, withheld=withheld, framing=framing)


def passed(headers: list[Header]) -> list[Header]:
    return response_headers(headers, dict(headers))


def sent(raw: bytes) -> list[Header]:
    """The fields of a head, without request line and host."""
    assert raw.endswith(b"\r\n\r\n")
    lines = raw[:-4].split(b"\r\n")
    assert lines[0] == b"POST /api/anthropic/v1/messages?beta=true HTTP/1.1"
    assert lines[1] == b"host: api.z.ai"
    found: list[Header] = []
    for line in lines[2:]:
        name, _, value = line.partition(b": ")
        found.append((name, value))
    return found


def test_what_a_client_sends_goes_on_unchanged_and_in_order() -> None:
    assert sent(head(CLIENTS)) == CLIENTS


@pytest.mark.parametrize("pair", STAY_HERE, ids=lambda pair: pair[0].decode())
def test_the_closed_list_stays_here_wherever_it_stands(pair: Header) -> None:
    for headers in ([pair, *CLIENTS], [*CLIENTS, pair], [*CLIENTS[:5], pair, *CLIENTS[5:], pair]):
        assert sent(head(headers)) == CLIENTS


@pytest.mark.parametrize("name", sorted(set(CLIENT_NAMES) - {"host", "connection", "content-length"}))
def test_a_field_that_only_looks_like_a_fronts_goes_on(name: str) -> None:
    assert sent(head([(name.encode(), b"x")])) == [(name.encode(), b"x")]


def test_no_via_is_added_and_host_is_the_upstreams() -> None:
    raw = head([(b"host", b"evil"), *CLIENTS])
    assert raw.count(b"host: ") == 1
    assert b"via" not in raw.lower()


@pytest.mark.parametrize(
    ("connection", "gone"),
    [
        ([b"close"], []),
        ([b"keep-alive, X-Twice"], [b"x-twice"]),
        ([b"x-app", b"x-empty , ,X-Unheard-Of"], [b"x-app", b"x-empty", b"x-unheard-of"]),
        ([b"host"], []),
        ([b""], []),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_fields_that_connection_names_stay_here(connection: list[bytes], gone: list[bytes], first: bool) -> None:
    named = [(b"connection", value) for value in connection]
    headers = [*named, *CLIENTS] if first else [*CLIENTS, *named]
    assert sent(head(headers)) == [pair for pair in CLIENTS if pair[0] not in gone]


def test_connection_cannot_take_the_held_credential_or_the_framing_away() -> None:
    headers = [(b"connection", b"authorization, content-length"), *CLIENTS]
    held = (b"authorization", b"Bearer held")
    raw = head(headers, credential=held, withheld=frozenset(CREDENTIALS), framing=b"content-length: 3\r\n")
    assert sent(raw)[-2:] == [held, (b"content-length", b"3")]


@pytest.mark.parametrize("held", [(b"authorization", b"Bearer held"), (b"x-api-key", b"held")])
def test_with_a_held_credential_none_of_the_clients_goes_upstream(held: Header) -> None:
    fields = sent(head(CLIENTS, credential=held, withheld=frozenset(CREDENTIALS)))
    assert [pair for pair in fields if pair[0] in CREDENTIALS] == [held]
    assert [pair for pair in fields if pair[0] not in CREDENTIALS] == [p for p in CLIENTS if p[0] not in CREDENTIALS]


def test_our_own_key_is_withheld_and_the_other_credential_goes_on() -> None:
    fields = sent(head(CLIENTS, withheld=frozenset({b"x-api-key"})))
    assert get(fields, b"authorization") == b"Bearer sk-client"
    assert get(fields, b"x-api-key") is None


def test_the_framing_is_ours() -> None:
    raw = head([(b"content-length", b"999"), (b"transfer-encoding", b"chunked")], framing=b"content-length: 5\r\n")
    assert raw.endswith(b"\r\ncontent-length: 5\r\n\r\n")
    assert raw.count(b"content-length") == 1
    assert b"transfer-encoding" not in raw


@pytest.mark.parametrize("evil", [b"\r\nx: y", b"\n", b"\r", b"a\r\n\r\nGET / HTTP/1.1", b"\0", b"x\0y"])
@pytest.mark.parametrize("field", [(b"x%b", b"v"), (b"x", b"v%b")], ids=["name", "value"])
def test_a_line_break_in_a_field_is_refused(evil: bytes, field: Header) -> None:
    name, value = (part % evil if b"%" in part else part for part in field)
    refuse_breaks(CLIENTS)
    with pytest.raises(ValueError, match="line break"):
        refuse_breaks([*CLIENTS, (name, value)])
    with pytest.raises(ValueError, match="line break"):
        refuse_breaks([(name, value), *CLIENTS])


def test_two_lengths_of_one_body_are_refused_and_the_same_twice_is_one() -> None:
    with pytest.raises(ValueError, match="two lengths"):
        head([(b"content-length", b"5"), *CLIENTS, (b"content-length", b"6")])
    assert sent(head([(b"content-length", b"5"), *CLIENTS, (b"content-length", b"5")])) == CLIENTS


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=6))
def test_no_field_can_make_a_second_one(fields: list[Header]) -> None:
    headers = [(b"x-" + name, value) for name, value in fields]
    try:
        refuse_breaks(headers)
    except ValueError:
        return
    raw = head(headers)
    assert raw.count(b"\r\n") == len(headers) + 3
    assert raw.count(b"\r\n\r\n") == 1
    assert raw.count(b"\n") == raw.count(b"\r") == len(headers) + 3


# -- the way back

UPSTREAMS: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"content-encoding", b"gzip"),
    (b"content-length", b"3"),
    (b"request-id", b"req_1"),
    (b"anthropic-ratelimit-requests-remaining", b"9"),
    (b"retry-after", b"3"),
    (b"x-should-retry", b"true"),
    (b"set-cookie", b"a=1"),
    (b"set-cookie", b"b=2"),
    (b"via", b"1.1 google"),
    (b"cf-ray", b"x"),
]


def test_what_an_upstream_sends_comes_back_unchanged_and_in_order() -> None:
    assert passed(UPSTREAMS) == UPSTREAMS


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {b"date", b"server"}))
def test_hop_by_hop_fields_date_and_server_do_not_come_back(name: bytes) -> None:
    assert passed([(name, b"x"), *UPSTREAMS, (name, b"y")]) == UPSTREAMS


def test_fields_that_the_upstreams_connection_names_do_not_come_back() -> None:
    headers = [*UPSTREAMS, (b"connection", b"close, CF-Ray"), (b"connection", b"via")]
    assert passed(headers) == [pair for pair in UPSTREAMS if pair[0] not in (b"cf-ray", b"via")]
    assert passed([*UPSTREAMS, (b"connection", b"keep-alive")]) == UPSTREAMS


# -- reading


def test_get_finds_the_first() -> None:
    assert get(CLIENTS, b"x-twice") == b"1"
    assert get(CLIENTS, b"x-never") is None


def test_connection_names_are_a_list_of_lower_case_tokens() -> None:
    assert named_by_connection(b" Close,X-A ,, x-b") == {b"close", b"x-a", b"x-b"}
    assert named_by_connection(b"") == frozenset()
