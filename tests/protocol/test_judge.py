"""What an upstream's error means: whose side, whether to try again, and no secrets in the words."""

import time
from collections.abc import Callable

import pytest

from claude_proxy.exchange import Failure
from claude_proxy.protocol.judge import MAX_MESSAGE, MAX_READ, code_of, explain, judge, retry_hint, text_of
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Class, Provider, by_name, find, find_at
from claude_proxy.protocol.usage import ErrorBody, read_answer
from tests.protocol.samples import content

ZAI = by_name("zai")
MINIMAX = by_name("minimax")
KIMI = by_name("kimi")
RELAYS = [provider for provider in PROVIDERS if provider.relays]
DIRECT = [provider for provider in PROVIDERS if not provider.relays and provider.codes is not ZAI.codes]

RETRY = {"1234", "1302", "1303", "1305", "1312"}
CLIENT = {"1210", "1211", "1212", "1213", "1214", "1215", "1261", "1301"}
STOP = {"1113", "1308", "1309", "1310", "1311", "1313"}


def worded(number: str, text: str = "some words") -> ErrorBody:
    return ErrorBody("rate_limit_error", f"[{number}][{text}][202609011200]")


def failure_of(status: int, error: ErrorBody | None, *, held: bool = False, provider: Provider = ZAI) -> Failure:
    failure = judge(status, error, provider=provider, credential_held=held)
    assert failure is not None
    return failure


@pytest.mark.parametrize("number", sorted(ZAI.codes))
def test_each_code_is_recognised_in_all_three_places(number: str) -> None:
    for error in (worded(number), ErrorBody("api_error", "text", number), ErrorBody(number, "text")):
        assert code_of(error) == number
        failure = failure_of(429, error)
        assert (failure.provider_code, failure.provider) == (number, "zai")
        assert explain(failure) is ZAI.codes[number]


@pytest.mark.parametrize("number", sorted(ZAI.codes))
def test_each_code_has_its_side_and_its_hint(number: str) -> None:
    failure = failure_of(429, worded(number))
    expected = "client" if number in CLIENT or number.startswith("100") else "upstream"
    assert failure.side == expected
    assert retry_hint(failure) is (None if number in RETRY else False)


def test_the_table_knows_the_codes_that_facts_name() -> None:
    assert set(ZAI.codes) >= RETRY | CLIENT | STOP
    assert {"1000", "1001", "1002", "1003", "1004", "1304"} <= set(ZAI.codes)
    assert {number for number, code in ZAI.codes.items() if code.retry} == RETRY


@pytest.mark.parametrize("number", ["1000", "1001", "1002", "1003", "1004"])
def test_a_credential_is_for_its_holder_to_fix(number: str) -> None:
    assert failure_of(401, worded(number), held=True).side == "proxy"
    assert failure_of(401, worded(number), held=False).side == "client"
    assert failure_of(200, worded(number), held=True).side == "proxy"


@pytest.mark.parametrize(
    ("status", "kind", "side"),
    [
        (400, "invalid_request_error", "client"),
        (401, "authentication_error", "client"),
        (402, "billing_error", "upstream"),
        (403, "permission_error", "client"),
        (404, "not_found_error", "client"),
        (408, "timeout_error", "upstream"),
        (409, "conflict_error", "client"),
        (413, "request_too_large", "client"),
        (422, "invalid_request_error", "client"),
        (429, "rate_limit_error", "upstream"),
        (500, "api_error", "upstream"),
        (502, "bad_gateway", "upstream"),
        (504, "timeout_error", "upstream"),
        (529, "overloaded_error", "upstream"),
        (200, "overloaded_error", "upstream"),
        (200, "invalid_request_error", "client"),
        (200, "billing_error", "upstream"),
        (200, "authentication_error", "client"),
        (200, "something_new", "upstream"),
        (418, "something_new", "client"),
    ],
)
def test_anthropics_own_errors_have_their_side(status: int, kind: str, side: str) -> None:
    assert failure_of(status, ErrorBody(kind, "words")) == Failure(side, kind, "words", None)  # type: ignore[arg-type] # a table


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (401, "authentication_error")]
)
def test_a_bare_number_as_type_gives_way_to_the_statuss_type(status: int, kind: str) -> None:
    assert failure_of(status, ErrorBody("1302", "words")).kind == kind
    assert failure_of(500, ErrorBody("1302", "words")).kind == "api_error"


def test_an_error_without_a_readable_body_is_told_by_its_status() -> None:
    assert failure_of(502, None) == Failure("upstream", "http_502", "the upstream answered 502", None)
    assert failure_of(404, None).side == "client"
    assert judge(200, None, credential_held=False) is None
    assert judge(304, None, credential_held=False) is None


def test_a_known_code_without_words_gets_the_tables() -> None:
    assert failure_of(429, ErrorBody("1302", "")).message == "concurrency limit"
    assert failure_of(429, ErrorBody("9999", "")).message == "the upstream answered 429"


def test_an_unknown_code_is_passed_on_without_a_hint() -> None:
    failure = failure_of(429, worded("1999"))
    assert (failure.provider_code, failure.side, retry_hint(failure)) == ("1999", "upstream", None)
    assert retry_hint(None) is None
    assert retry_hint(Failure("upstream", "api_error", "x")) is None


@pytest.mark.parametrize(
    ("message", "number", "text"),
    [
        ("[1261][Prompt exceeds max length]", "1261", "Prompt exceeds max length"),
        ("[1302][Too many][2026]", "1302", "Too many"),
        ("[1302] [Too many] [2026] ", "1302", "Too many"),
        ("[1210][a [b] c][x]", "1210", "a [b] c"),
        ("[1301][two\nlines][x]", "1301", "two lines"),
        ("1302 Too many", None, "1302 Too many"),
        ("see [1302][x] in the docs", None, "see [1302][x] in the docs"),
        ("[12][x]", None, "[12][x]"),
        ("", None, ""),
    ],
)
def test_the_bracketed_form_is_taken_apart(message: str, number: str | None, text: str) -> None:
    error = ErrorBody("rate_limit_error", message)
    assert (code_of(error), text_of(error)) == (number, text)


SECRETS = [
    "sk-ant-api03-abcDEF_123-xyz",
    "tk_abcdef123456",
    "Bearer abc.def.ghi",
    "bearer  abc",
    "0123456789abcdef0123456789abcdef.AbCdEfGh1234",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_redacted_from_an_upstreams_words(secret: str) -> None:
    for message in (f"bad key {secret} given", f"[1002][bad key {secret} given][x]", f'"{secret}"'):
        text = text_of(ErrorBody("authentication_error", message))
        assert secret.split()[-1] not in text
        assert "[redacted]" in text


def test_a_secret_across_the_cut_is_redacted_too() -> None:
    text = text_of(ErrorBody("x", "a" * (MAX_MESSAGE - 12) + " sk-ant-api03-secretsecret"))
    assert "secret" not in text
    assert len(text) <= MAX_MESSAGE


def test_ordinary_words_are_not_taken_for_secrets() -> None:
    words = "ask-me-anything, disk-usage, invalid x-api-key, model glm-5.3"
    assert text_of(ErrorBody("x", words)) == words


def test_words_are_cut_and_their_control_characters_taken_out() -> None:
    assert len(text_of(ErrorBody("x", "word " * 500))) == MAX_MESSAGE
    assert text_of(ErrorBody("x", "a\x1b[31mred\x9b2J\x00\r\n\tb\x7f한")) == "a [31mred 2J b 한"


HOSTILE = {
    "brackets": lambda size: "[1302][" + "]" * size,
    "blanks behind the form": lambda size: "[1302][x]" + " " * size + "y",
    "half forms": lambda size: "[1302][" + "] [" * (size // 3),
    "parentheses": lambda size: "(1234)" * (size // 6),
    "open parentheses": lambda size: "(" * size,
    "digits": lambda size: "0" * size,
    "bearer": lambda size: "bearer " * (size // 7),
    "keys": lambda size: "sk-" * (size // 3),
    "hex": lambda size: "abcdef01" * (size // 8),
    "limits": lambda size: "reached your " * (size // 13),
    "one long limit": lambda size: "reached your " + "a" * size,
    "an open limit": lambda size: "reached your a (" + "a" * size,
    "resets": lambda size: "reset at 2026-08-31 " * (size // 20),
    "controls": lambda size: "\x00" * size,
}


def cost(provider: Provider, message: str) -> float:
    """CPU seconds to judge an error, the best of three."""
    error, spent = ErrorBody("x", message), []
    for _ in range(3):
        started = time.thread_time()
        failure = failure_of(429, error, provider=provider)
        provider.reset(failure.message)
        spent.append(time.thread_time() - started)
    return min(spent)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("provider", [ZAI, MINIMAX, KIMI, GENERIC], ids=lambda provider: provider.name)
def test_long_hostile_words_take_no_time(provider: Provider, hostile: Callable[[int], str]) -> None:
    """The expressions meet text that an upstream chose: they must not backtrack."""
    assert len(text_of(ErrorBody("x", hostile(1 << 20)), ["secret"], provider)) <= MAX_MESSAGE
    assert cost(provider, hostile(1 << 20)) < 0.05


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_a_code_in_a_message_of_any_sensible_length_is_found(provider: Provider) -> None:
    words = "word " * (MAX_READ // 5 - 10)
    assert code_of(ErrorBody("x", f"[1302][{words}]"), ZAI) == "1302"
    assert code_of(ErrorBody("x", f"{words}(2056)"), MINIMAX) == "2056"


@pytest.mark.parametrize(
    ("name", "status", "side", "number", "hint"),
    [
        ("error_401.json", 401, "client", None, None),
        ("error_zai_1308.json", 429, "upstream", "1308", False),
        ("error_zai_1113.json", 429, "upstream", "1113", False),
        ("error_zai_no_envelope.json", 500, "upstream", "500", None),
    ],
)
def test_bodies_of_the_corpus_are_judged(name: str, status: int, side: str, number: str | None, hint: bool | None) -> None:
    failure = failure_of(status, read_answer(content(name)).error)
    assert (failure.side, failure.provider_code, retry_hint(failure)) == (side, number, hint)


# whose numbers


@pytest.mark.parametrize("provider", RELAYS, ids=lambda provider: provider.name)
@pytest.mark.parametrize("number", sorted(ZAI.codes))
def test_a_relay_in_front_of_zai_is_understood_by_the_bracketed_form(number: str, provider: Provider) -> None:
    failure = failure_of(429, worded(number), provider=provider)
    assert (failure.provider, failure.provider_code, failure.message) == ("zai", number, "some words")
    assert explain(failure) is ZAI.codes[number]


@pytest.mark.parametrize("number", [number for number in sorted(ZAI.codes) if number < "1100"])
def test_a_bare_number_that_several_use_is_nobodys_at_an_unknown_host(number: str) -> None:
    for error in (ErrorBody("rate_limit_error", "words", number), ErrorBody(number, "words")):
        failure = failure_of(429, error, provider=GENERIC)
        assert (failure.provider_code, failure.provider, failure.side) == (number, None, "upstream")
        assert retry_hint(failure) is None


@pytest.mark.parametrize("provider", RELAYS, ids=lambda provider: provider.name)
@pytest.mark.parametrize("number", [number for number in sorted(ZAI.codes) if number >= "1100"])
def test_a_bare_number_that_only_zai_uses_is_understood_behind_a_relay(number: str, provider: Provider) -> None:
    for error in (ErrorBody("rate_limit_error", "words", number), ErrorBody(number, "words")):
        failure = failure_of(429, error, provider=provider)
        assert (failure.provider, failure.provider_code) == ("zai", number)


def test_no_other_provider_uses_the_numbers_that_are_understood_behind_a_relay() -> None:
    for provider in PROVIDERS:
        others = {code for other in PROVIDERS if other is not provider for code in other.codes if code not in provider.codes}
        assert not [code for code in others if code.isdigit() and int(code) in provider.numbers]


@pytest.mark.parametrize("provider", DIRECT, ids=lambda provider: provider.name)
@pytest.mark.parametrize("number", sorted(ZAI.codes))
def test_no_provider_is_read_with_anothers_table(number: str, provider: Provider) -> None:
    for error in (worded(number), ErrorBody("rate_limit_error", "words", number), ErrorBody(number, "words")):
        failure = failure_of(429, error, provider=provider)
        assert failure.provider in (None, provider.name)
        assert explain(failure) is (provider.codes[failure.provider_code or failure.kind] if failure.provider else None)
        assert failure.provider_code != number or failure.provider is None or number in provider.codes


def test_the_same_number_means_what_its_own_provider_says() -> None:
    error = ErrorBody("rate_limit_error", "rate limit (1002)")
    assert explain(failure_of(429, error, provider=MINIMAX)) is MINIMAX.codes["1002"]
    assert retry_hint(failure_of(429, error, provider=MINIMAX)) is None
    assert failure_of(429, error, provider=ZAI).provider is None
    assert retry_hint(failure_of(401, ErrorBody("1002", "x"), provider=ZAI)) is False


@pytest.mark.parametrize(
    ("host", "status", "error", "kind_of"),
    [
        (
            "api.kimi.com",
            403,
            ErrorBody("permission_error", "You've reached your usage limit for this billing cycle."),
            Class.STOP_UNTIL,
        ),
        (
            "api.kimi.com",
            403,
            ErrorBody("access_terminated_error", "You've reached your weekly (7-day) usage limit."),
            Class.STOP_UNTIL,
        ),
        ("api.kimi.com", 403, ErrorBody("permission_error", "You've reached your concurrent request limit."), Class.CONCURRENCY),
        ("api.kimi.com", 403, ErrorBody("access_terminated_error", "Access terminated."), Class.ACCOUNT),
        ("api.kimi.com", 429, ErrorBody("rate_limit_reached_error", "We're receiving too many requests"), Class.RATE),
        ("api.moonshot.ai", 429, ErrorBody("engine_overloaded_error", "The engine is currently overloaded"), Class.OVERLOAD),
        ("api.moonshot.cn", 403, ErrorBody("exceeded_current_quota_error", "no balance"), Class.ACCOUNT),
        ("api.minimax.io", 429, ErrorBody("rate_limit_error", "usage limit exceeded, resets at x (2056)"), Class.STOP_UNTIL),
        ("api.minimaxi.com", 401, ErrorBody("authentication_error", "invalid api key (1004)"), Class.AUTH),
        ("api.deepseek.com", 402, ErrorBody("unknown_error", "Insufficient Balance", "invalid_request_error"), Class.ACCOUNT),
        ("openrouter.ai", 402, ErrorBody("api_error", "Insufficient credits", "402"), Class.ACCOUNT),
        ("openrouter.ai", 403, ErrorBody("api_error", "flagged", "403"), Class.CLIENT),
        ("api.anthropic.com", 400, ErrorBody("invalid_request_error", "Your credit balance is too low to access"), Class.ACCOUNT),
        (
            "api.anthropic.com",
            400,
            ErrorBody("invalid_request_error", "You have reached your specified API usage limits."),
            Class.STOP_UNTIL,
        ),
    ],
)
def test_each_providers_own_way_of_saying_it_is_understood(host: str, status: int, error: ErrorBody, kind_of: Class) -> None:
    failure = failure_of(status, error, provider=find(host))
    code = explain(failure)
    assert code is not None
    assert code.class_ is kind_of
    assert failure.side == kind_of.side
    assert retry_hint(failure) is (None if kind_of.retry else False)


@pytest.mark.parametrize("held", [True, False])
def test_a_known_code_rules_over_the_status(held: bool) -> None:
    """A 403 that says "used up" is no refused key."""
    error = ErrorBody("permission_error", "You've reached your usage limit for this period.")
    assert failure_of(403, error, held=held, provider=find_at("https://api.kimi.com/coding/")).side == "upstream"
    assert failure_of(403, worded("1311"), held=held).side == "upstream"


def test_a_secret_across_the_part_that_is_read_is_redacted_too() -> None:
    for pad in range(20):
        secret = "opaque-credential-value"
        text = text_of(ErrorBody("x", "\n" * (MAX_READ - pad) + secret), [secret])
        assert text in ("", "[redacted]")
