"""What a refusal means for sending: its class, when the quota is back, how long to wait, whether the account is dead."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.protocol.judge import judge
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Class, Provider, by_name, find
from claude_proxy.protocol.ruling import MAX_AHEAD, Ruling, rule
from claude_proxy.protocol.usage import ErrorBody, read_answer

NOW = 1_788_000_000.0  # 2026-08-29 10:40 UTC
ZAI, ANTHROPIC, KIMI, MOONSHOT = by_name("zai"), by_name("anthropic"), by_name("kimi"), by_name("moonshot")
coded = [pytest.param(provider, word, id=f"{provider.name}-{word}") for provider in PROVIDERS for word in provider.codes]


def ruled(
    status: int,
    error: ErrorBody | None,
    provider: Provider = ZAI,
    headers: dict[bytes, bytes] | None = None,
    now: float = NOW,
) -> Ruling:
    ruling = rule(status, error, provider=provider, headers=headers or {}, now=now)
    assert ruling is not None
    return ruling


def worded(number: str, text: str = "some words") -> ErrorBody:
    return ErrorBody("rate_limit_error", f"[{number}][{text}][202609011200]")


# z.ai's codes


@pytest.mark.parametrize(
    ("number", "group"),
    [
        ("1302", Class.CONCURRENCY),
        ("1303", Class.RATE),
        ("1305", Class.OVERLOAD),
        ("1312", Class.OVERLOAD),
        ("1308", Class.STOP_UNTIL),
        ("1310", Class.STOP_UNTIL),
        ("1304", Class.STOP_UNTIL),
        ("1309", Class.ACCOUNT),
        ("1311", Class.ACCOUNT),
        ("1313", Class.ACCOUNT),
        ("1113", Class.ACCOUNT),
        ("1002", Class.AUTH),
        ("1211", Class.CLIENT),
        ("1261", Class.CLIENT),
        ("1234", Class.SERVER),
    ],
)
@pytest.mark.parametrize("status", [200, 429, 529, 500])
def test_a_code_says_the_class_whatever_the_status(number: str, group: Class, status: int) -> None:
    """Also at 200: a burst limit comes as the first event of a stream that has begun well."""
    for error in (worded(number), ErrorBody("api_error", "text", number), ErrorBody(number, "text")):
        ruling = ruled(status, error)
        assert (ruling.group, ruling.code, ruling.provider) == (group, number, "zai")


SENTENCES = {
    ("anthropic", "credit_balance"): "Your credit balance is too low to access the Anthropic API.",
    ("anthropic", "spend_limit"): "You have reached your specified workspace API usage limits.",
    ("anthropic", "organization_disabled"): "This organization has been disabled.",
    ("anthropic", "concurrent_connections"): "Number of concurrent connections has exceeded your rate limit.",
    ("deepseek", "insufficient_balance"): "Insufficient Balance",
    ("kimi", "client_not_allowed"): "Kimi For Coding is currently only available for Coding Agents",
    ("kimi", "concurrent_limit"): "You've reached your concurrent request limit.",
    ("kimi", "membership"): "We're unable to verify your membership benefits at this time.",
    ("kimi", "overloaded"): "The engine is currently overloaded, please try again later",
    ("kimi", "too_many_requests"): "We're receiving too many requests at the moment.",
    ("kimi", "usage_limit"): "You've reached your weekly (7-day) usage limit.",
    ("moonshot", "max_concurrency"): "Your account org-1<ak-1> request reached max organization concurrency: 1",
    ("moonshot", "tokens_per_day"): "request reached organization TPD rate limit, current: 1518025, limit: 1500000",
    ("ollama", "cloud_overloaded"): "Server overloaded, please retry shortly (ref: aaa65c70)",
    ("ollama", "queue_full"): "server busy, please try again.  maximum pending requests exceeded",
    ("openrouter", "free_models_per_day"): "Rate limit exceeded: free-models-per-day-high-balance.",
}


@pytest.mark.parametrize(("name", "word"), SENTENCES)
@pytest.mark.parametrize("status", [200, 400, 403, 429, 503])
def test_a_sentence_that_alone_tells_an_error_is_understood_at_any_status(name: str, word: str, status: int) -> None:
    provider = by_name(name)
    error = ErrorBody("invalid_request_error", SENTENCES[name, word])
    ruling = ruled(status, error, provider)
    assert (ruling.code, ruling.group, ruling.provider) == (word, provider.codes[word].class_, name)


@pytest.mark.parametrize(("provider", "word"), coded)
def test_every_word_of_a_table_is_the_providers_own_or_has_a_way_to_it(provider: Provider, word: str) -> None:
    ways = {way for _, way in provider.patterns} | {mark.word for mark in provider.marks} | set(provider.statuses.values())
    own = word.isdigit() or word.endswith("_error") or word in ("content_filter", "enforced_spend_limit_reached")
    assert own or word in ways


@pytest.mark.parametrize(("provider", "word"), coded)
def test_ruling_and_judgement_agree_on_every_code(provider: Provider, word: str) -> None:
    for error in (ErrorBody("api_error", "words", word), ErrorBody(word, "words"), ErrorBody("x", f"[{word}][words][id]")):
        failure = judge(418, error, provider=provider, credential_held=True)
        ruling = ruled(418, error, provider)
        assert failure is not None
        assert ruling.provider == failure.provider
        if ruling.provider is not None:
            assert ruling.code == (failure.provider_code or failure.kind)
            assert ruling.group is by_name(ruling.provider).codes[str(ruling.code)].class_


@pytest.mark.parametrize(
    ("name", "status", "group"),
    [
        ("deepseek", 402, Class.ACCOUNT),
        ("deepseek", 422, Class.CLIENT),
        ("deepseek", 429, Class.RATE),
        ("deepseek", 500, Class.SERVER),
        ("deepseek", 503, Class.OVERLOAD),
        ("generic", 503, Class.SERVER),
        ("llamacpp", 503, Class.SERVER),
    ],
)
@pytest.mark.parametrize("error", [None, ErrorBody("unknown_error", "words")])
def test_a_status_may_mean_something_special_at_one_provider(
    name: str, status: int, group: Class, error: ErrorBody | None
) -> None:
    assert ruled(status, error, by_name(name)).group is group


def test_a_code_in_the_details_is_read() -> None:
    body = {"type": "rate_limit_error", "message": "words", "details": {"error_code": "enforced_spend_limit_reached"}}
    error = read_answer(json.dumps({"type": "error", "error": body}).encode()).error
    ruling = ruled(429, error, ANTHROPIC)
    assert (ruling.group, ruling.code) == (Class.STOP_UNTIL, "enforced_spend_limit_reached")


# Resets


@pytest.mark.parametrize("number", ["1308", "1310"])
def test_a_stated_reset_is_read_in_the_providers_zone(number: str) -> None:
    error = worded(number, "Usage limit reached for 5 hour. Your limit will reset at 2026-08-29 19:00:00")
    assert ruled(429, error).resets_at == 1_788_001_200.0  # 11:00 UTC


@pytest.mark.parametrize("stated", ["2026-08-29 18:39:59", "2020-01-01 00:00:00", "2026-10-30 00:00:00", "2026-13-01 00:00:00"])
def test_a_reset_that_is_over_or_absurd_is_none(stated: str) -> None:
    """With the wrong zone assumed, a reset may seem to be over; to wait until then would mean not at all."""
    ruling = ruled(429, worded("1308", f"Your limit will reset at {stated}"))
    assert (ruling.group, ruling.resets_at) == (Class.STOP_UNTIL, None)


@pytest.mark.parametrize(
    ("status", "headers", "group", "resets_at"),
    [
        (429, {b"anthropic-ratelimit-unified-status": b"rejected"}, Class.STOP_UNTIL, None),
        (
            429,
            {b"anthropic-ratelimit-unified-status": b"rejected", b"anthropic-ratelimit-unified-reset": b"1788003600"},
            Class.STOP_UNTIL,
            1_788_003_600.0,
        ),
        (429, {b"anthropic-ratelimit-unified-status": b"allowed_warning"}, Class.RATE, None),
        (429, {}, Class.RATE, None),
        (429, {b"anthropic-ratelimit-unified-reset": b"soon"}, Class.RATE, None),
        (429, {b"anthropic-ratelimit-unified-reset": b"9" * 400}, Class.RATE, None),
    ],
)
def test_anthropics_headers_tell_a_used_up_plan_from_a_rate_limit(
    status: int, headers: dict[bytes, bytes], group: Class, resets_at: float | None
) -> None:
    error = ErrorBody("rate_limit_error", "This request would exceed your account's rate limit. Please try again later.")
    ruling = ruled(status, error, ANTHROPIC, headers)
    assert (ruling.group, ruling.resets_at) == (group, resets_at)


def test_another_providers_headers_mean_nothing() -> None:
    headers = {b"anthropic-ratelimit-unified-status": b"rejected", b"anthropic-ratelimit-unified-reset": b"1788003600"}
    ruling = ruled(429, worded("1302"), ZAI, headers)
    assert (ruling.group, ruling.resets_at) == (Class.CONCURRENCY, None)


# Waits


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b" 0 "}, 0.0),
        ({b"retry-after": b"7", b"retry-after-ms": b"1500"}, 1.5),
        ({b"retry-after": b"Sat, 29 Aug 2026 10:41:00 GMT"}, 60.0),
        ({b"retry-after": b"Sat, 29 Aug 2026 10:39:00 GMT"}, 0.0),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"-3"}, None),
        ({b"retry-after": b"1.5"}, None),
        ({b"retry-after": b"9" * 400}, None),
        ({b"retry-after": b"\xff\xfe"}, None),
        ({b"retry-after-ms": b"never"}, None),
    ],
)
def test_how_long_the_upstream_asks_to_wait(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert ruled(429, worded("1303"), headers=headers).retry_after == seconds


def test_a_delay_in_words_counts_where_the_provider_writes_so_and_no_header_does() -> None:
    error = ErrorBody("rate_limit_reached_error", "request reached organization max RPM: 3, please try again after 1 seconds")
    assert ruled(429, error, MOONSHOT).retry_after == 1.0
    assert ruled(429, error, MOONSHOT, {b"retry-after": b"9"}).retry_after == 9.0
    assert ruled(429, error, ZAI).retry_after is None


# Errors that no table explains


@pytest.mark.parametrize(
    ("status", "kind", "group"),
    [
        (400, "invalid_request_error", Class.CLIENT),
        (401, "authentication_error", Class.AUTH),
        (402, "billing_error", Class.ACCOUNT),
        (403, "permission_error", Class.AUTH),
        (404, "not_found_error", Class.CLIENT),
        (409, "conflict_error", Class.CLIENT),
        (413, "request_too_large", Class.CLIENT),
        (422, "something_new", Class.CLIENT),
        (429, "rate_limit_error", Class.RATE),
        (429, "something_new", Class.RATE),
        (429, "invalid_request_error", Class.RATE),
        (429, "1999", Class.RATE),
        (500, "api_error", Class.SERVER),
        (500, "invalid_request_error", Class.SERVER),
        (500, "rate_limit_error", Class.RATE),
        (502, "bad_gateway", Class.SERVER),
        (503, "service_unavailable", Class.SERVER),
        (503, "overloaded_error", Class.OVERLOAD),
        (504, "timeout_error", Class.SERVER),
        (529, "overloaded_error", Class.OVERLOAD),
        (529, "api_error", Class.OVERLOAD),
        (200, "overloaded_error", Class.OVERLOAD),
        (200, "rate_limit_error", Class.RATE),
        (200, "api_error", Class.SERVER),
        (200, "something_new", Class.SERVER),
        (200, "invalid_request_error", Class.CLIENT),
    ],
)
def test_the_type_and_the_status_say_the_class(status: int, kind: str, group: Class) -> None:
    ruling = ruled(status, ErrorBody(kind, "words"), GENERIC)
    assert (ruling.group, ruling.provider, ruling.scope) == (group, None, "upstream")


@pytest.mark.parametrize(
    ("status", "group", "dead"),
    [
        (401, Class.AUTH, True),
        (402, Class.ACCOUNT, True),
        (403, Class.CLIENT, False),
        (404, Class.CLIENT, False),
        (429, Class.RATE, False),
        (500, Class.SERVER, False),
        (502, Class.SERVER, False),
        (529, Class.OVERLOAD, False),
    ],
)
def test_an_answer_that_is_not_the_apis_is_ruled_by_its_status(status: int, group: Class, dead: bool) -> None:
    """A firewall's 403 may concern one prompt; it must not take the key out of rotation."""
    ruling = ruled(status, None, GENERIC)
    assert (ruling.group, ruling.account_dead) == (group, dead)


@pytest.mark.parametrize("status", [200, 204, 304])
def test_no_error_no_ruling(status: int) -> None:
    assert rule(status, None, now=NOW) is None


# Dead accounts


@pytest.mark.parametrize("number", sorted(ZAI.codes))
def test_an_account_is_dead_until_a_person_acts(number: str) -> None:
    dead = {n for n in ZAI.codes if n.startswith(("100", "11"))} | {"1309", "1313"}
    ruling = ruled(429, worded(number))
    assert ruling.account_dead is (number in dead)
    assert ruling.scope == ("model" if number in ("1311", "1312") else "upstream")


@pytest.mark.parametrize(
    ("status", "kind", "dead"),
    [(401, "authentication_error", True), (403, "permission_error", True), (402, "billing_error", True)],
)
def test_a_refused_key_is_dead(status: int, kind: str, dead: bool) -> None:
    assert ruled(status, ErrorBody(kind, "words"), GENERIC).account_dead is dead


def test_kimis_403_is_read_by_its_sentence() -> None:
    """The type and status of a refused key, but the key is good."""
    for sentence, group in (
        ("You've reached your usage limit for this billing cycle.", Class.STOP_UNTIL),
        ("You've reached your concurrent request limit.", Class.CONCURRENCY),
        ("Kimi For Coding is currently only available for Coding Agents", Class.CLIENT),
    ):
        ruling = ruled(403, ErrorBody("permission_error", sentence), find("api.kimi.com"))
        assert (ruling.group, ruling.account_dead) == (group, False)


# Whatever an upstream sends


fields = st.dictionaries(
    st.sampled_from(
        [b"retry-after", b"retry-after-ms", b"anthropic-ratelimit-unified-reset", b"anthropic-ratelimit-unified-status"]
    ),
    st.binary(max_size=40) | st.integers(0, 10**15).map(lambda n: b"%d" % n),
)
errors = st.none() | st.builds(ErrorBody, st.text(max_size=20), st.text(max_size=200), st.none() | st.text(max_size=12))


@given(st.sampled_from(PROVIDERS), st.integers(100, 599), errors, fields)
def test_whatever_an_upstream_sends_is_ruled(
    provider: Provider, status: int, error: ErrorBody | None, headers: dict[bytes, bytes]
) -> None:
    ruling = rule(status, error, provider=provider, headers=headers, now=NOW)
    if ruling is None:
        assert error is None
        assert status < 400
        return
    assert ruling.retry_after is None or ruling.retry_after >= 0
    assert ruling.resets_at is None or NOW < ruling.resets_at <= NOW + MAX_AHEAD
    assert not (ruling.account_dead and ruling.group.retry)
