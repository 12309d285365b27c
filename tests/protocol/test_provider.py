"""The table of provider codes (FACTS section 2): whose side, what to do, and no secrets in the words."""

import pytest

from claude_proxy.exchange import Failure
from claude_proxy.protocol.provider import MAX_MESSAGE, ZAI, code_of, judge, retry_hint, text_of
from claude_proxy.protocol.usage import ErrorBody, read_answer
from tests.protocol.samples import content

RETRY = {"1234", "1302", "1303", "1305", "1312"}
CLIENT = {"1210", "1211", "1212", "1213", "1214", "1215", "1261", "1301"}
STOP = {"1113", "1308", "1309", "1310", "1311", "1313"}


def worded(number: str, text: str = "some words") -> ErrorBody:
    return ErrorBody("rate_limit_error", f"[{number}][{text}][202609011200]")


def failure_of(status: int, error: ErrorBody | None, *, held: bool = False) -> Failure:
    failure = judge(status, error, credential_held=held)
    assert failure is not None
    return failure


@pytest.mark.parametrize("number", sorted(ZAI))
def test_each_code_is_recognised_in_all_three_places(number: str) -> None:
    for error in (worded(number), ErrorBody("api_error", "text", number), ErrorBody(number, "text")):
        assert code_of(error) == number
        assert failure_of(429, error).provider_code == number


@pytest.mark.parametrize("number", sorted(ZAI))
def test_each_code_has_its_side_and_its_hint(number: str) -> None:
    failure = failure_of(429, worded(number))
    expected = "client" if number in CLIENT or number.startswith("100") else "upstream"
    assert failure.side == expected
    assert retry_hint(failure) is (None if number in RETRY else False)


def test_the_table_knows_the_codes_that_facts_name() -> None:
    assert set(ZAI) >= RETRY | CLIENT | STOP
    assert {"1000", "1001", "1002", "1003", "1004", "1304"} <= set(ZAI)
    assert {number for number, code in ZAI.items() if code.retry} == RETRY
    assert all(code.meaning for code in ZAI.values())


@pytest.mark.parametrize("number", ["1000", "1001", "1002", "1003", "1004"])
def test_a_credential_is_for_its_holder_to_mend(number: str) -> None:
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


def test_long_hostile_words_take_no_time() -> None:
    """The expressions meet text that an upstream chose: they must not backtrack."""
    for message in ("[1302][" + "]" * 200_000, "[1302][x]" + " " * 200_000 + "y", "[1302][" + "] [" * 100_000, "0" * 300_000):
        error = ErrorBody("x", message)
        code_of(error)
        assert len(text_of(error)) <= MAX_MESSAGE


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
