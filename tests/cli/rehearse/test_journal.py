"""What is told of a rehearsal: hidden refusals, waits, repeats."""

from __future__ import annotations

import pytest

from claude_proxy.cli.rehearse.clock import MINUTE, Clock, shown
from claude_proxy.cli.rehearse.journal import Attempt, Call, Journal, Line, Upstream, worded
from claude_proxy.cli.rehearse.patience import Seen
from claude_proxy.cli.rehearse.stand_in import Push

GOOD = Seen("answered", 200)
REFUSED = Seen("error", 429, "rate_limit_error", "[1302][Too many][id]")
OURS = Seen("error", 429, "rate_limit_error", "The queue is full.", ours=True)


@pytest.fixture
def told() -> tuple[Journal, list[Line]]:
    lines: list[Line] = []
    return Journal(Clock(1.0), lines.append), lines


def attempt(journal: Journal, seen: Seen, *statuses: int, began: float = 0.0, arrived: float = 0.0) -> Attempt:
    journal.sent["r1"] = [Upstream("default", arrived, status, "answered") for status in statuses]
    return Attempt("r1", began, seen, began + 1)


@pytest.mark.parametrize(
    ("seen", "statuses", "hidden"),
    [
        (GOOD, (200,), 0),
        (GOOD, (429, 529, 200), 2),
        (REFUSED, (429,), 0),
        (REFUSED, (529, 529, 429), 2),
        (OURS, (429,), 1),
        (OURS, (), 0),
        (Seen("cut", 200), (529, 200), 1),
        (Seen("silent"), (429, 429), 2),
    ],
)
def test_what_a_client_did_not_see_is_hidden(
    told: tuple[Journal, list[Line]], seen: Seen, statuses: tuple[int, ...], hidden: int
) -> None:
    journal, _ = told
    assert journal.hidden(attempt(journal, seen, *statuses)) == hidden


def test_a_wait_lasts_until_the_upstream_that_answered_gets_the_request(told: tuple[Journal, list[Line]]) -> None:
    journal, _ = told
    assert journal.waited(attempt(journal, GOOD, 429, 200, began=1.0, arrived=1.5)) == 0.5 * MINUTE
    assert journal.waited(attempt(journal, OURS, began=1.0)) == MINUTE
    assert journal.waited(attempt(journal, Seen("silent"), began=1.0)) == 0


def test_a_hidden_refusal_and_a_wait_are_told_together(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    journal.saw(Call("main 1", "main"), attempt(journal, GOOD, 429, 200, arrived=0.2), "")
    assert [(line.kind, line.text) for line in lines] == [
        ("hidden", "main 1: 1 refusal of the upstream and 12 s of waiting; answered")
    ]


def test_an_error_is_told_with_what_the_client_does_next(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    journal.saw(Call("title 1", "title"), attempt(journal, REFUSED, 429), "it gives up")
    assert [(line.kind, line.text) for line in lines] == [
        ("saw", "title 1 saw 429 rate_limit_error (1302): Too many; it gives up")
    ]


def test_a_good_answer_is_not_worth_a_line(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    journal.saw(Call("main 1", "main"), attempt(journal, GOOD, 200), "")
    assert lines == []


def test_lines_of_a_kind_are_told_once_for_each_step_and_all_are_kept(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    for who in ("main 1", "main 2", "main 1"):
        journal.saw(Call(who, "main"), attempt(journal, REFUSED, 429), "it gives up")
    journal.say("script", "all well")
    journal.saw(Call("main 1", "main"), attempt(journal, REFUSED, 429), "it gives up")
    journal.repeats()
    assert [line.text.partition(" saw")[0] for line in lines] == ["main 1", "2 more: main", "all well", "main 1"]
    assert len(journal.lines) == 5


def test_the_end_of_a_call_is_told_even_after_others_like_it(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    for end, then in ((None, "it tries again in 1 s"), (None, "it tries again in 2 s"), ("gave up", "it gives up")):
        journal.saw(Call("main 1", "main", end=end), attempt(journal, REFUSED, 429), then)  # type: ignore[arg-type] # a table
    assert [line.text.rpartition("; ")[2] for line in lines] == ["it tries again in 1 s", "it gives up"]


def test_a_push_is_told_by_its_first_line(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    journal.pushed(Push(0.0, "z.ai: overloaded", "first\nsecond", 3, replaces=True))
    assert lines[0].text == "[priority 3, replacing the one before] z.ai: overloaded: first"


def test_what_an_upstream_wrote_cannot_move_the_cursor(told: tuple[Journal, list[Line]]) -> None:
    journal, lines = told
    journal.saw(Call("main 1", "main"), attempt(journal, Seen("error", 500, "x", "a\x1b[2Jb"), 500), "it gives up")
    assert "\x1b" not in lines[0].text


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen("silent"), "no answer in time"),
        (Seen("silent", 200), "an answer that fell silent"),
        (Seen("cut", 200), "an answer that broke off"),
        (Seen("refused"), "its connection closed without an answer"),
        (Seen("unfinished", 200), "an answer that ended early"),
        (Seen("error-event", 200, "overloaded_error", "Overloaded"), "an error in the stream, overloaded_error: Overloaded"),
        (OURS, "429 rate_limit_error: The queue is full. (by the proxy)"),
        (Seen("error", 400, "x", "word " * 50), f"400 x: {'word ' * 19}…"),
        (Seen("error", 502), "502 "),
    ],
)
def test_what_was_seen_in_words(seen: Seen, words: str) -> None:
    assert worded(seen) == words


@pytest.mark.parametrize(("minute", "text"), [(0.0, "0:00"), (3.125, "3:07"), (61.0, "61:00")])
def test_a_minute_is_shown_as_minutes_and_seconds(minute: float, text: str) -> None:
    assert shown(minute) == text
