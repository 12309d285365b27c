"""The status line as text: what is read of the client's JSON, what the line says, and how it fits a terminal."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.protocol.status_line import (
    MARGIN,
    MAX_INPUT,
    MIN_COLUMNS,
    Client,
    Cost,
    Status,
    Tokens,
    Window,
    local_status,
    read_client,
    render,
)

GIVEN = {
    "session_id": "6f1c",
    "model": {"id": "claude-opus-5-5", "display_name": "Opus 5.5"},
    "workspace": {"current_dir": "/home/me/shop/src", "project_dir": "/home/me/shop"},
    "cost": {"total_cost_usd": 1.5},
    "context_window": {"used_percentage": 42, "total_input_tokens": 84_000, "context_window_size": 200_000},
}
FULL = Status(
    model="Opus 5.5",
    cost=Cost(1_230_000_000),
    tokens=Tokens(10_000, 2_000, 180_000, 8_000),
    context=42.4,
    quota=(Window("5h", 0.635, 7_860), Window("week", 0.09, 3 * 86_400)),
    waiting=45,
    trouble="api.z.ai: overloaded (529), 3 times",
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def line(**values: Any) -> str:
    """A wide line without colours, of a model and these values."""
    return render(Status(model="M", **values), 500, color=False).removeprefix("M · ")


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def test_what_claude_code_says_is_read() -> None:
    assert read_client(json.dumps(GIVEN).encode()) == Client("6f1c", "Opus 5.5", "/home/me/shop", 42, 1.5)


STRANGE = [
    None,
    5,
    -1,
    True,
    "",
    "x" * 10_000,
    [],
    {},
    [{}],
    {"a": 1},
    1e400,
    10**400,
    "a\x1b[2Jb",
    "\ud800",
    {"used_percentage": "x"},
]


@pytest.mark.parametrize("value", STRANGE)
@pytest.mark.parametrize("name", GIVEN)
def test_anything_unexpected_counts_as_not_said(name: str, value: Any) -> None:
    found = read_client(json.dumps({**GIVEN, name: value}).encode())
    assert "\x1b" not in render(Status(model=found.model, context=found.context), color=False)
    assert found.cost_usd in (None, 1.5)
    assert found.context in (None, 42)


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"[]", b"null", b"\xff\xfe", b"{" * 100_000, b'{"model": "x"}', b"x" * (MAX_INPUT + 9)]
)
def test_nonsense_says_nothing(data: bytes) -> None:
    assert read_client(data) == Client()


@given(st.binary(max_size=200))
def test_no_input_is_too_strange(data: bytes) -> None:
    render(local_status(read_client(data), "x"))


@pytest.mark.parametrize("model", ["glm-5.3", "gpt-9", ""])
def test_the_clients_cost_of_a_model_that_it_cannot_price_is_not_repeated(model: str) -> None:
    given = {**GIVEN, "model": {"id": model, "display_name": model}}
    assert read_client(json.dumps(given).encode()).cost_usd is None


def test_context_is_reckoned_where_no_percentage_is_given() -> None:
    window = {"total_input_tokens": 50_000, "context_window_size": 200_000}
    assert read_client(json.dumps({"context_window": window}).encode()).context == 25


def test_everything_in_one_line() -> None:
    assert render(FULL, 300, color=False) == (
        "Opus 5.5 · $1.23 · 200k tokens · cache 90% · context 42% · 5h 63% left, resets in 2h11m · week 9% left, resets in 3d"
        " · waiting 45s · api.z.ai: overloaded (529), 3 times"
    )


def test_nothing_known_is_a_line_all_the_same() -> None:
    assert render(Status(), color=False) == "claude-proxy"


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (Cost(0), "$0.00"),
        (Cost(1), "<$0.01"),
        (Cost(9_990_000), "<$0.01"),
        (Cost(10_000_000), "$0.01"),
        (Cost(1_234_567_000_000), "$1,234.57"),
        (Cost(None, unpriced=3), "unpriced"),
        (Cost(2_000_000_000, unpriced=3), "$2.00 + 3 unpriced"),
        (Cost(2_000_000_000, estimated=True), "~$2.00"),
        (Cost(1, estimated=True), "~<$0.01"),
    ],
)
def test_a_cost_is_never_said_to_be_zero_where_it_is_not_known(cost: Cost, said: str) -> None:
    assert line(cost=cost) == said


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (Tokens(), ""),
        (Tokens(output=7), "7 tokens"),
        (Tokens(999), "999 tokens · cache 0%"),
        (Tokens(1000), "1.0k tokens · cache 0%"),
        (Tokens(150_000), "150k tokens · cache 0%"),
        (Tokens(0, 0, 1_500_000), "1.5M tokens · cache 100%"),
        (Tokens(1, 0, 999_999, 0), "1.0M tokens · cache 99%"),
        (Tokens(0, 0, 0, 2_500_000_000), "2.5B tokens · cache 0%"),
        (Tokens(50, 0, 50, 0, estimated=True), "~100 tokens · cache 50%"),
    ],
)
def test_tokens_and_the_share_of_the_cache(tokens: Tokens, said: str) -> None:
    assert line(tokens=tokens) == (said or "M")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0, ", resets in 0s"),
        (59, ", resets in 59s"),
        (3599, ", resets in 59m"),
        (3600, ", resets in 1h00m"),
        (200_000, ", resets in 2d"),
    ],
)
def test_quota_that_is_left(seconds: float | None, said: str) -> None:
    assert line(quota=(Window("5h", 0.5, seconds),)) == f"5h 50% left{said}"
    assert line(quota=(Window("5h", -0.2, seconds),)) == f"5h 0% left{said}"


@pytest.mark.parametrize(("waiting", "said"), [(4.9, "M"), (5, "waiting 5s"), (61, "waiting 1m")])
def test_a_silence_is_worth_a_word_after_some_seconds(waiting: float, said: str) -> None:
    assert line(waiting=waiting) == said


@pytest.mark.parametrize("width", range(1, 180, 7))
@pytest.mark.parametrize("model", ["Opus 5.5", "모델 이름이 아주 길어서 줄에 다 들어가지 않는 모델", "x" * 60])
def test_the_line_fits_the_terminal(width: int, model: str) -> None:
    status = FULL._replace(model=model)
    plain = render(status, width, color=False)
    assert columns(plain) <= max(width, MIN_COLUMNS) - MARGIN
    assert ANSI.sub("", render(status, width)) == plain
    assert plain


def test_what_matters_least_goes_first() -> None:
    seen = [render(FULL, width, color=False) for width in range(300, 20, -1)]
    order = ["tokens", "week", "Opus", "cache", "5h", "context", "$", "waiting"]
    gone = [next(at for at, text in enumerate(seen) if word not in text) for word in order]
    assert gone == sorted(gone)
    assert all("api.z.ai" in text for text in seen[:-20])


def test_colours_say_how_bad_it_is() -> None:
    assert "\x1b[31m" in render(Status(context=90))
    assert "\x1b[33m" in render(Status(context=70))
    assert "\x1b[32m" in render(Status(context=10))
    assert "\x1b" not in render(FULL, color=False)


def test_the_clients_own_line_marks_its_cost_as_an_estimate() -> None:
    client = read_client(json.dumps(GIVEN).encode())
    assert render(local_status(client, "claude-proxy does not answer"), color=False) == (
        "Opus 5.5 · ~$1.50 · context 42% · claude-proxy does not answer"
    )


@pytest.mark.parametrize(("place", "said"), [(None, "waiting 5s"), (1, "waiting 5s (no. 1 in the queue)")])
def test_a_place_in_the_queue_is_said_beside_the_wait(place: int | None, said: str) -> None:
    assert line(waiting=5, place=place) == said
