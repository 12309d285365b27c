"""The words: plain, with what to do, and without what strangers must not read."""

from __future__ import annotations

import pytest

from claude_proxy.exchange import Failure
from claude_proxy.notify import wording
from claude_proxy.notify.advice import CODES, KINDS, advice, reset
from claude_proxy.notify.incident import Fault, Incident
from claude_proxy.notify.notice import Notice
from claude_proxy.protocol.provider import ZAI
from tests.notify.exchanges import exchange


def opening(code: str | None, kind: str, message: str = "", **values: object) -> Notice:
    fault = Fault.of(exchange(100, **values), Failure("upstream", kind, message, code))
    return wording.opening(Incident.open(fault, 100), "z.ai")


def test_a_known_code_says_what_to_do_and_what_was_said() -> None:
    notice = opening("1302", "rate_limit_error", "Too many concurrent requests", status=429)
    assert notice.title == "z.ai: concurrency limit (1302)"
    assert notice.message.splitlines() == [
        "Too many requests at once for this plan: run fewer agents in parallel. "
        "Clients try again by themselves; nothing to do unless it lasts.",
        "z.ai said: Too many concurrent requests",
        "Upstream default, model glm-5.3, status 429, 14:15 UTC.",
    ]


def test_our_own_failure_speaks_for_itself() -> None:
    notice = opening(None, "connect_failed", "The upstream refused the connection.", model=None, status=502)
    assert "\nThe upstream refused the connection.\n" in notice.message
    assert "said" not in notice.message
    assert "model" not in notice.message


def test_a_quota_says_when_it_is_back_in_two_clocks() -> None:
    notice = opening("1308", "rate_limit_error", "Usage limit reached. Your limit will reset at 2026-08-31 18:19:41")
    assert (
        "Resets at 2026-08-31 18:19:41 by the provider's clock: probably UTC+8, that is 2026-08-31 10:19 UTC." in notice.message
    )
    assert notice.priority == 4


@pytest.mark.parametrize("message", ["", "soon", "reset at 2026-99-31 18:19:41", "reset at 0001-01-01 00:00:00"])
def test_a_reset_time_that_is_none_is_left_out(message: str) -> None:
    assert reset(message) == ""


def test_an_unknown_class_is_named_plainly() -> None:
    assert opening("1399", "api_error").title == "z.ai: error (1399)"
    assert opening(None, "http_502").title == "z.ai: HTTP 502"
    assert advice("teapot_error").name == "teapot"


def test_every_code_that_can_reach_a_person_has_advice() -> None:
    assert {code for code, known in ZAI.items() if known.side != "client"} <= set(CODES)


@pytest.mark.parametrize("about", [*CODES.values(), *KINDS.values()], ids=[*CODES, *KINDS])
def test_advice_is_a_sentence_with_a_priority_and_a_tag(about: object) -> None:
    name, do, priority, tag, scope = about  # type: ignore[misc]  # a NamedTuple
    assert name
    assert do.endswith((".", "which."))
    assert 3 <= priority <= 5
    assert tag.replace("_", "").isalpha()
    assert scope in ("upstream", "model")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.z.ai/api/anthropic", "z.ai"),
        ("https://open.bigmodel.cn/api/anthropic", "bigmodel.cn"),
        ("https://api.anthropic.com", "Anthropic"),
        ("api.anthropic.com", "Anthropic"),
        ("https://notz.ai/api", "upstream"),
        ("https://llm.corp.example/v1", "upstream"),
        ("http://10.1.2.3:8000", "upstream"),
        ("http://[::1]:8000", "upstream"),
        ("", "upstream"),
    ],
)
def test_only_public_providers_are_named(url: str, name: str) -> None:
    assert wording.provider(url) == name


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
    assert wording.spell(seconds) == text


def test_foreign_text_stays_one_short_line() -> None:
    notice = opening(None, "odd\nkind_error", "a\n\x1b[31mb" + "x" * 1000, model="m\r\nUpstream evil" + "y" * 200)
    said, where = notice.message.splitlines()[1:]
    assert len(said) < 330
    assert where.startswith("Upstream default, model m Upstream evil")
    assert "\x1b" not in notice.message
    assert "\n" not in notice.title
