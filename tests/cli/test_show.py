"""`show`: everything known of one exchange, in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_proxy.ledger.queries import Books
from tests.cli.conftest import Invoke
from tests.cli.ledgers import a_day, fill
from tests.ledger.books import NOW, entry
from tests.ledger.places import Place


@pytest.fixture
def made(tmp_path: Path) -> list[str]:
    """The ids of a ledger in `tmp_path`."""
    return a_day(tmp_path)


def shown(invoke: Invoke, folder: Path, number: str, *words: str) -> str:
    result = invoke("show", number, "--data-dir", str(folder), *words)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_it_is_told_in_plain_words(invoke: Invoke, tmp_path: Path, made: list[str]) -> None:
    text = shown(invoke, tmp_path, made[1], "--timezone", "Asia/Seoul")
    for part in (
        f"{made[1]} completed, status 200",
        "started 2026-09-21 23:13:20 (Asia/Seoul), messages",
        "client 127.0.0.1",
        "model glm-5.3",
        "upstream default",
        "session session-1",
        "agent helper",
        "time first byte after 750 ms, 2.5 s in all",
        "tokens 100 in, 20 out, 3,000 read from the cache, 40 written to the cache",
        "cost $0.25 at API list price zai/glm-5.3.abc",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("sent", "served", "words"),
    [
        (None, None, "model claude-opus-5"),
        (None, "claude-opus-5", "model claude-opus-5"),
        (None, "glm-5.3", "model claude-opus-5, answered by glm-5.3"),
        ("glm-5.3", None, "model claude-opus-5, sent as glm-5.3"),
        ("glm-5.3", "glm-5.3", "model claude-opus-5, sent as glm-5.3"),
        ("glm-5.3", "glm-5.3-air", "model claude-opus-5, sent as glm-5.3, answered by glm-5.3-air"),
        ("glm-5.3", "claude-opus-5", "model claude-opus-5, sent as glm-5.3, answered by claude-opus-5"),
    ],
)
def test_the_model_is_named_as_it_was_asked_sent_and_answered(
    invoke: Invoke, tmp_path: Path, sent: str | None, served: str | None, words: str
) -> None:
    (one,) = fill(tmp_path, entry(model="claude-opus-5", model_sent=sent, model_served=served))
    assert f" {words} upstream " in shown(invoke, tmp_path, one)
    item = json.loads(invoke("show", one, "--data-dir", str(tmp_path), "--json").stdout)
    assert (item["model"], item["model_sent"], item["model_served"]) == ("claude-opus-5", sent, served)


def test_attempts_are_a_ladder(invoke: Invoke, tmp_path: Path, made: list[str]) -> None:
    text = shown(invoke, tmp_path, made[1])
    assert (
        "attempt 1 0 ms: to default, status 429 after 400 ms, rate_limit_error, code 1302: Too many concurrent requests" in text
    )
    assert "attempt 2 1.0 s: to default on a pooled connection, status 200 after 500 ms" in text


def test_what_is_not_known_is_said_or_left_out(invoke: Invoke, tmp_path: Path, made: list[str]) -> None:
    unpriced, refused = shown(invoke, tmp_path, made[2]), shown(invoke, tmp_path, made[3])
    assert "cost unpriced: no price is known for this model at this upstream" in unpriced
    assert "tokens none reported" in refused
    assert "$" not in unpriced + refused
    assert "failure rate_limit_error, the upstream's side, code 1302: Too many concurrent requests" in refused
    assert "session" not in refused


def test_a_plans_credits_are_told(invoke: Invoke, tmp_path: Path, made: list[str]) -> None:
    assert "credits 5.50 of the plan" in shown(invoke, tmp_path, made[0])


@pytest.mark.parametrize("form", ["upper", "bare", "letters", "hyphens"])
def test_an_id_is_understood_as_people_type_it(invoke: Invoke, tmp_path: Path, made: list[str], form: str) -> None:
    number = made[1]
    typed = {
        "upper": number.upper(),
        "bare": number.removeprefix("cp_"),
        "letters": number.replace("0", "O").replace("1", "l"),
        "hyphens": f"{number[:8]}-{number[8:]}",
    }[form]
    assert number in shown(invoke, tmp_path, typed)


@pytest.mark.parametrize(
    "words", [["--raw", "--json"], ["--conversation", "--curl"], ["--conversation", "--raw", "--curl", "--json"]]
)
def test_two_forms_at_once_are_refused(invoke: Invoke, tmp_path: Path, made: list[str], words: list[str]) -> None:
    result = invoke("show", made[0], *words, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert f"Choose one of {' and '.join(words)}" in " ".join(result.stderr.split())


def test_json_is_what_the_api_gives(invoke: Invoke, tmp_path: Path, made: list[str]) -> None:
    item = json.loads(invoke("show", made[1], "--data-dir", str(tmp_path), "--json").stdout)
    assert item == Books(Place(tmp_path).engine(reading=True), timeout=20).exchange(made[1])


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        ("cp_6h28x52yemr00", 1, "No exchange cp_6h28x52yemr00 is in the ledger"),
        ("nonsense", 2, "'nonsense' is not an exchange id: expected one such as cp_"),
        ("", 2, "'' is not an exchange id"),
    ],
)
def test_an_id_that_leads_nowhere_is_said(
    invoke: Invoke, tmp_path: Path, made: list[str], number: str, code: int, sentence: str
) -> None:
    result = invoke("show", number, "--data-dir", str(tmp_path))
    assert (result.exit_code, sentence in result.stderr) == (code, True), result.output


def test_control_characters_are_not_printed(invoke: Invoke, tmp_path: Path) -> None:
    (number,) = fill(tmp_path, entry(NOW, model="evil\x1b[2J\u202e", session="s\x07", client="c\x1b]0;x\x07"))
    output = invoke("show", number, "--data-dir", str(tmp_path)).stdout
    assert not set(output) & {"\x1b", "\x07", "\u202e"}
    assert "evil\\x1b[2J\\u202e" in output


@pytest.mark.parametrize("option", ["--conversation", "--raw", "--curl"])
def test_a_conversation_that_was_not_captured_is_said(invoke: Invoke, tmp_path: Path, made: list[str], option: str) -> None:
    result = invoke("show", made[1], "--data-dir", str(tmp_path), option)
    assert result.exit_code == 1
    assert "CAPTURE" in result.output
