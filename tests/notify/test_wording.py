"""The words: plain, with what to do, and without what strangers must not read."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from claude_proxy.errors import Side
from claude_proxy.exchange import Failure
from claude_proxy.notify.advice import OWN, Advice, advise, of_code, reset
from claude_proxy.notify.fault import Fault
from claude_proxy.notify.incident import End, Incident
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.phrases import ENGLISH, KOREAN, Phrases
from claude_proxy.notify.wording import Wording
from claude_proxy.protocol.providers import PROVIDERS, by_name, find_at
from claude_proxy.protocol.providers.generic import TYPES
from tests.notify.exchanges import WALL, exchange


def opening(
    code: str | None, kind: str, message: str = "", side: Side = "upstream", zone: tzinfo = UTC, **values: object
) -> Notice:
    known = code is not None and code in by_name("zai").codes
    failure = Failure(side, kind, message, code, "zai" if known else None)
    fault = Fault.of(exchange(100, **values), failure, "z.ai", by_name("zai"))
    incident = Incident(1, fault.key, "cp-1", fault, WALL + 100, WALL + 100)
    incident.count(fault, WALL + 100)
    return Wording(zone=zone).opening(incident, WALL + 100)


def test_a_known_code_says_what_to_do_and_what_was_said() -> None:
    notice = opening("1302", "rate_limit_error", "Too many concurrent requests", status=429)
    assert notice.title == "z.ai: concurrency limit (1302)"
    assert notice.message.splitlines() == [
        "Too many requests at once for this plan: run fewer agents in parallel. "
        "Clients retry by themselves; nothing to do unless it lasts.",
        "z.ai said: Too many concurrent requests",
        "Upstream default, model glm-5.3, status 429, 14:15 UTC.",
    ]


def test_our_own_failure_speaks_for_itself() -> None:
    notice = opening(None, "connect_failed", "The upstream refused the connection.", model=None, status=503)
    assert "\nThe upstream refused the connection.\n" in notice.message
    assert "said" not in notice.message
    assert "model" not in notice.message


def test_a_quota_says_when_it_is_back_in_two_clocks() -> None:
    words = "Usage limit reached. Your limit will reset at 2026-09-22 00:19:41"
    notice = opening("1308", "rate_limit_error", words, zone=ZoneInfo("Asia/Seoul"))
    assert (
        "Resets at 2026-09-22 01:19 KST, in 2 h 5 min. (2026-09-22 00:19:41 by the provider's clock, which is probably UTC+8.)"
        in notice.message
    )
    assert notice.priority == 4


@pytest.mark.parametrize("message", ["", "soon", "reset at 2026-99-31 18:19:41", "reset at 0001-01-01 00:00:00"])
def test_a_reset_time_that_is_none_is_left_out(message: str) -> None:
    assert "Resets" not in opening("1308", "rate_limit_error", message).message


def test_a_reset_with_a_zone_is_told_plainly() -> None:
    failure = Failure("upstream", "rate_limit_error", "used up, resets at 2026-05-15T15:00:00Z", "2056", "minimax")
    assert reset(failure) == (datetime(2026, 5, 15, 15, tzinfo=UTC), "2026-05-15T15:00:00Z", "")
    failure = Failure(
        "upstream", "invalid_request_error", "You will regain access on 2026-12-01 at 00:00 UTC.", "spend_limit", "anthropic"
    )
    found = reset(failure)
    assert found is not None
    assert (found.at, found.assumed) == (datetime(2026, 12, 1, tzinfo=UTC), "")


HOURS = 3600.0


@pytest.mark.parametrize(
    ("failures", "ended", "lines"),
    [
        ((0,), 60, ["Concurrency limit (1302), 22:40.", "1 request failed."]),
        ((0, 0.4), 60, ["Concurrency limit (1302), 22:40.", "2 requests failed."]),
        ((0, 59.0, 120.0), 240, ["Concurrency limit (1302), 22:40 - 22:42.", "3 requests failed in 2 min."]),
        ((0, HOURS), 2 * HOURS, ["Concurrency limit (1302), 2026-09-21 22:40 - 23:40.", "2 requests failed in 1 h."]),
        (
            (0, 8 * HOURS),
            8 * HOURS,
            ["Concurrency limit (1302), 2026-09-21 22:40 - 2026-09-22 06:40.", "2 requests failed in 8 h."],
        ),
        (
            (0, 30 * HOURS),
            60 * HOURS,
            ["Concurrency limit (1302), 2026-09-21 22:40 - 2026-09-23 04:40.", "2 requests failed in 1 d 6 h."],
        ),
    ],
)
def test_the_last_message_says_what_it_was_because_it_replaces_the_first(
    failures: tuple[float, ...], ended: float, lines: list[str]
) -> None:
    begin = WALL + 1600  # 22:40 in Perth
    fault = Fault.of(exchange(0), Failure("upstream", "rate_limit_error", "", "1302", "zai"), "z.ai", by_name("zai"))
    incident = Incident(1, fault.key, "cp-1", fault, begin, begin)
    for after in failures:
        incident.count(fault, begin + after)
    notice = Wording(zone=ZoneInfo("Australia/Perth")).closing(incident, End.WORKS, begin + ended)
    assert notice.title == "z.ai: works again"
    assert notice.message.splitlines()[:2] == lines


def test_an_unknown_class_is_named_plainly() -> None:
    assert opening("1399", "api_error").title == "z.ai: server error (1399)"
    assert opening(None, "http_502").title == "z.ai: HTTP 502"
    assert opening(None, "teapot_error").title == "z.ai: teapot"


@pytest.mark.parametrize("kind", ["http_401", "http_403"])
def test_a_refusal_without_the_apis_words_does_not_blame_the_key(kind: str) -> None:
    notice = opening(None, kind, "the upstream answered 403", side="proxy")
    assert notice.title == "z.ai: refused, but not by the API"
    assert "UPSTREAM_API_KEY" not in notice.message


@pytest.mark.parametrize(
    "kind",
    ["unavailable", "out_of_descriptors", "out_of_memory", "out_of_threads", "internal", "upstream_is_self", "upstream_redirect"],
)
def test_a_failure_of_our_own_is_not_laid_at_the_upstreams_door(kind: str) -> None:
    notice = opening(None, kind, "Something here.", side="proxy", status=503)
    assert notice.title == f"claude-proxy: {OWN[kind].name.en}"
    assert "z.ai" not in notice.title + notice.message
    assert "Upstream default" not in notice.message
    assert notice.message.endswith("\nModel glm-5.3, status 503, 14:15 UTC.")


def test_a_held_key_that_is_refused_is_the_upstreams_word() -> None:
    notice = opening("1002", "authentication_error", "bad key", side="proxy", status=401)
    assert notice.title == "z.ai: credential not valid (1002)"
    assert "z.ai said: bad key" in notice.message


def test_a_redirect_says_what_to_set() -> None:
    notice = opening(None, "upstream_redirect", "The upstream redirects to https://z.example/.", side="proxy")
    assert "Set BASE_URL to the address that" in notice.message
    assert "https://z.example/" in notice.message


def test_a_local_server_that_is_not_there_has_its_own_advice() -> None:
    about = advise(Failure("upstream", "connect_failed", "refused"), find_at("http://localhost:11434"))
    assert "Ollama" in about.do.en
    assert "Ollama" in about.do.ko
    assert about.name == OWN["connect_failed"].name


ALL = {f"{provider.name} {word}": of_code(code) for provider in PROVIDERS for word, code in provider.codes.items()}
ALL |= {word: of_code(code) for word, code in TYPES.items()} | OWN


@pytest.mark.parametrize("about", ALL.values(), ids=ALL.keys())
def test_advice_is_a_sentence_in_both_languages_with_a_priority_and_a_tag(about: Advice) -> None:
    assert about.name.en
    assert about.do.en.endswith(".")
    assert about.do.ko.endswith((".", ")."))
    assert not re.search("[가-힣]", about.name.en + about.do.en)
    assert re.search("[가-힣]", about.do.ko)
    assert re.search("[가-힣]", about.name.ko)
    assert 3 <= about.priority <= 5
    assert about.tag.replace("_", "").isalpha()
    assert about.scope in ("upstream", "model")


@pytest.mark.parametrize(
    ("number", "priority"),
    [("1113", 5), ("1309", 5), ("1308", 4), ("1310", 4), ("1304", 4), ("1002", 4), ("1311", 4), ("1302", 3)],
)
def test_what_needs_a_person_is_louder(number: str, priority: int) -> None:
    assert opening(number, "rate_limit_error").priority == priority


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (59.7, "1 min"),
        (600, "10 min"),
        (3599, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (93_600, "1 d 2 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert ENGLISH.spell(seconds) == text
    assert KOREAN.spell(seconds) == text.replace(" s", "초").replace(" min", "분").replace(" h", "시간").replace(" d", "일")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Phrases) if field.name != "units"])
def test_each_phrase_is_there_in_both_languages_with_the_same_places(field: str) -> None:
    def texts(phrases: Phrases) -> dict[str, str]:
        value = getattr(phrases, field)
        return {"": value} if isinstance(value, str) else dict(value)

    english, korean = texts(ENGLISH), texts(KOREAN)
    assert english.keys() == korean.keys()
    for key, text in english.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", korean[key])), key
        assert bool(re.search("[가-힣]", korean[key])) == bool(re.search("[a-z]{2}", re.sub(r"{\w+}", "", text))), key


def test_foreign_text_stays_one_short_line() -> None:
    notice = opening(None, "odd\nkind_error", "a\n\x1b[31mb" + "x" * 1000, model="m\r\nUpstream evil" + "y" * 200)
    said, where = notice.message.splitlines()[1:]
    assert len(said) < 330
    assert where.startswith("Upstream default, model m Upstream evil")
    assert "\x1b" not in notice.message
    assert "\n" not in notice.title
