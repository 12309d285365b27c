"""`stats` and `sessions`: the numbers of the ledger, in tables for people and in JSON and CSV for scripts."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.cli.figures import cost, count, dollars, seconds, size
from claude_proxy.cli.stats_table import MANY
from claude_proxy.ledger.groups import BY
from claude_proxy.ledger.queries import Books
from tests.cli.conftest import Invoke
from tests.cli.ledgers import HOUR, a_day, fill
from tests.integration.booked import AMOUNTS, TOKENS
from tests.ledger.books import NOW, entry
from tests.ledger.places import Place


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A DATA_DIR with a ledger."""
    folder = tmp_path / "books"
    folder.mkdir()
    a_day(folder)
    return folder


def rows(output: str) -> list[list[str]]:
    """The rows of a printed table, cell by cell."""
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in output.splitlines() if line.strip()]


def test_the_table_has_the_columns_people_know(invoke: Invoke, ledger: Path) -> None:
    result = invoke("stats", "--data-dir", str(ledger))
    assert result.exit_code == 0, result.output
    table = rows(result.stdout)
    assert table[0] == ["Date", "Models", "Input", "Output", "Cache Create", "Cache Read", "Total", "Cost"]
    assert table[2] == ["2026-09-20", "glm-5.3", "100", "20", "40", "3,000", "3,160", "$2.00"]
    assert table[3][0] == "2026-09-21"
    assert table[3][2:] == ["1,234,670", "29", "40", "3,000", "1,237,739", "≥ $0.25"]
    total = next(row for row in table if row[0] == "Total")
    assert total[1:] == ["1,234,770", "49", "80", "6,000", "1,240,899", "≥ $2.25"]
    assert result.stdout.count("Costs are API list prices, not a bill.") == 1
    assert "No price is known for 1 exchange: not included in the costs." in result.stdout
    assert "Plan credits: 5.5." in result.stdout
    assert "5 exchanges (1 failed, 1 cancelled)" in result.stdout


def test_of_very_many_groups_a_table_shows_the_dearest(invoke: Invoke, ledger: Path) -> None:
    fill(ledger, *(entry(NOW, session=f"more-{number}") for number in range(MANY)))
    output = invoke("stats", "--by", "session", "--data-dir", str(ledger)).stdout
    assert "These are the 100 most expensive of 103; --last N shows others." in output
    assert "The total includes groups that are not shown." in output
    assert output.count("more-") < MANY
    for words in (["--last", "103"], ["--format", "json"], ["--format", "csv"]):
        assert invoke("stats", "--by", "session", *words, "--data-dir", str(ledger)).stdout.count("more-") == MANY


def test_below_100_columns_it_is_compact(invoke: Invoke, ledger: Path) -> None:
    output = invoke("stats", "--data-dir", str(ledger), COLUMNS="80").stdout
    assert rows(output)[0] == ["Date", "Models", "Input", "Output", "Cost"]
    assert max(map(len, output.splitlines())) <= 80
    assert "1,234,770" in output


def test_costs_can_be_left_out(invoke: Invoke, ledger: Path) -> None:
    output = invoke("stats", "--data-dir", str(ledger), "--no-cost").stdout
    assert rows(output)[0][-1] == "Total"
    assert "$" not in output
    assert "list prices" not in output


def test_what_has_no_price_is_never_zero(invoke: Invoke, ledger: Path) -> None:
    output = invoke("stats", "--data-dir", str(ledger), "--model", "nobody-knows-it").stdout
    assert output.count("unpriced") == 2
    assert "$" not in output


def test_a_breakdown_has_a_row_for_each_model(invoke: Invoke, ledger: Path) -> None:
    table = rows(invoke("stats", "--data-dir", str(ledger), "--breakdown", "--since", "2026-09-21").stdout)
    parts = [row for row in table if row[0].startswith("└")]
    assert [(row[0], row[1], row[-1]) for row in parts] == [
        ("└ glm-5.3", "103", "$0.25"),
        ("└ nobody-knows-it", "1,234,567", "unpriced"),
    ]


@pytest.mark.parametrize("by", BY)
def test_json_is_what_the_books_say(invoke: Invoke, ledger: Path, by: Any) -> None:
    report = json.loads(invoke("stats", "--data-dir", str(ledger), "--by", by, "--format", "json").stdout)
    books = Books(Place(ledger).engine(reading=True), timeout=20)
    assert report | {"to": ""} == books.usage(by) | {"to": ""}
    assert list(report) == ["from", "to", "timezone", "by", "totals", "groups"]
    assert set(AMOUNTS) <= report["totals"].keys()
    for key in ("exchanges", "failed", "cancelled", "unpriced_exchanges", *TOKENS):
        assert sum(group[key] for group in report["groups"]) == report["totals"][key]


def test_csv_has_a_line_for_each_group(invoke: Invoke, ledger: Path) -> None:
    lines = list(
        csv.DictReader(io.StringIO(invoke("stats", "--data-dir", str(ledger), "--by", "model", "--format", "csv").stdout))
    )
    assert {line["model"]: line["input_tokens"] for line in lines} == {"glm-5.3": "203", "nobody-knows-it": "1234567"}


@pytest.mark.parametrize(
    ("filters", "exchanges"),
    [
        (["--session", "session-1"], 3),
        (["--session", ""], 1),
        (["--project", "tools"], 1),
        (["--model", "glm-5.3"], 4),
        (["--agent", "helper"], 1),
        (["--class", "main"], 5),
        (["--client", "10.0.0.1"], 1),
        (["--upstream", "another"], 0),
        (["--since", "2026-09-21"], 4),
        (["--until", "2026-09-20"], 1),
        (["--since", "2026-09-21T00:00", "--timezone", "Asia/Tokyo"], 4),
        (["--since", "2026-09-20T17:00+09:00", "--until", "2026-09-20T18:00+09:00"], 1),
    ],
    ids=str,
)
def test_filters_scope_the_numbers(invoke: Invoke, ledger: Path, filters: list[str], exchanges: int) -> None:
    report = json.loads(invoke("stats", "--data-dir", str(ledger), "--json", *filters).stdout)
    assert report["totals"]["exchanges"] == exchanges
    assert sum(group["exchanges"] for group in report["groups"]) == exchanges


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("UTC", {"2026-11-01": 2}),
        ("Asia/Seoul", {"2026-11-01": 1, "2026-11-02": 1}),
        ("Asia/Kathmandu", {"2026-11-01": 1, "2026-11-02": 1}),
        ("America/New_York", {"2026-10-31": 1, "2026-11-01": 1}),
    ],
)
def test_days_are_those_of_the_time_zone(invoke: Invoke, tmp_path: Path, zone: str, days: dict[str, int]) -> None:
    """18:16 UTC is past midnight in Kathmandu (+05:45); 03:59 UTC is still October in New York, on a day of 25 hours."""
    start = 1_793_491_200_000  # 2026-11-01T00:00Z
    fill(tmp_path, entry(start + 3 * HOUR + 59 * 60_000), entry(start + 18 * HOUR + 16 * 60_000))
    for environ in ({}, {"TIMEZONE": zone}, {"TZ": f":{zone}"}):
        words = ["--timezone", zone] if not environ else []
        report = json.loads(invoke("stats", "--data-dir", str(tmp_path), "--json", *words, **environ).stdout)
        assert {group["key"]: group["exchanges"] for group in report["groups"]} == days
        assert report["timezone"] == zone


def test_the_last_groups(invoke: Invoke, ledger: Path) -> None:
    words = ["stats", "--data-dir", str(ledger), "--until", "2026-09-21", "--json"]
    day = json.loads(invoke(*words, "--last", "1").stdout)
    assert [group["key"] for group in day["groups"]] == ["2026-09-21"]
    assert day["totals"]["exchanges"] == 4
    model = json.loads(invoke(*words, "--last", "1", "--by", "model").stdout)
    assert [group["key"] for group in model["groups"]] == ["glm-5.3"]
    assert model["totals"]["exchanges"] == 5, "the dearest group is shown, the total is of all"
    window = json.loads(invoke(*words, "--last", "1", "--by", "window").stdout)
    assert [group["exchanges"] for group in window["groups"]] == [4]
    assert window["totals"]["exchanges"] == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by", "minute"], "'--by': 'minute' is not one of 'hour', 'day',"),
        (["--since", "2026-09-21", "--until", "2026-09-20"], "until is not after since"),
        (["--json", "--format", "csv"], "--json means --format json; it cannot be combined with --format csv."),
        (["--since", "soon"], "'soon' is not a time known here: expected one such as 7d"),
        (["--timezone", "Mars"], "TIMEZONE=Mars (command line): expected the IANA name of a time zone"),
        (["--format", "xml"], "'--format': 'xml' is not one of 'table', 'json', 'csv'."),
        (["--last", "0"], "'--last': expected at least 1"),
        (["--last", "x"], "'--last': expected a whole number"),
        (["--by", "hour", "--since", "1970-01-02"], "More than 10000 of hour"),
    ],
)
def test_a_wrong_option_gets_a_sentence(invoke: Invoke, ledger: Path, words: list[str], sentence: str) -> None:
    result = invoke("stats", "--data-dir", str(ledger), *words)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert not any(word in result.output for word in ("Traceback", "Value error", "Input should"))


@pytest.mark.parametrize(
    "command", [["stats"], ["sessions"], ["show", "cp_6h28x52yemr00"], ["tail", "--no-follow"], ["reprice", "--since", "7d"]]
)
def test_a_folder_without_a_ledger_is_said_and_not_made(invoke: Invoke, tmp_path: Path, command: list[str]) -> None:
    result = invoke(*command, DATA_DIR=str(tmp_path / "nothing"))
    assert result.exit_code == 1
    assert f"There is no ledger.db in {tmp_path / 'nothing'}" in result.stderr
    assert "--data-dir" in result.stderr
    assert not (tmp_path / "nothing").exists()


def test_a_file_that_is_no_ledger_is_said(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is not a database at all" * 100)
    result = invoke("stats", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "The ledger cannot be read: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "nope"], "Nothing was recorded of model 'nope' from 2026-09-20"),
        (["--model", "nope", "--agent", ""], "Nothing was recorded of model 'nope' and without agent from 2026-09-20"),
        (["--account", "nope"], "Nothing was recorded of account 'nope' from 2026-09-20"),
    ],
)
def test_filters_that_nothing_matches_are_said(invoke: Invoke, ledger: Path, words: list[str], sentence: str) -> None:
    result = invoke("stats", *words, "--data-dir", str(ledger))
    assert (result.exit_code, result.stdout.startswith(sentence)) == (0, True), result.output


def test_nothing_recorded_is_said(invoke: Invoke, ledger: Path) -> None:
    result = invoke("stats", "--data-dir", str(ledger), "--since", "2020-01-01", "--until", "2020-01-31")
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing was recorded from 2020-01-01 00:00 to ")


def test_a_time_to_come_is_said(invoke: Invoke, ledger: Path) -> None:
    assert invoke("stats", "--data-dir", str(ledger), "--since", "2040-01-01").stdout == "That time is yet to come.\n"


def test_reading_changes_nothing(invoke: Invoke, ledger: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(ledger / "ledger.db", copy)
    for words in (["stats"], ["sessions"], ["tail", "--no-follow"], ["reprice", "--since", "2026-09-01", "--dry-run"]):
        assert invoke(*words, "--data-dir", str(ledger)).exit_code == 0
    assert (ledger / "ledger.db").read_bytes() == copy.read_bytes()


def test_control_characters_of_names_are_not_printed(invoke: Invoke, tmp_path: Path) -> None:
    fill(tmp_path, entry(NOW, model="evil\x1b]52;c;aGk=\x07", session="s\x1b[2J"))
    for words in (["stats"], ["stats", "--by", "session"], ["sessions"], ["tail", "--no-follow"]):
        output = invoke(*words, "--data-dir", str(tmp_path)).stdout
        assert "\x1b" not in output
        assert "\x07" not in output


@pytest.mark.parametrize(
    ("by", "times", "keys"),
    [
        ("hour", [NOW], ["2026-09-21 16:00"]),
        ("window", [NOW], ["~2026-09-21 16:00"]),
        ("day", [NOW], ["2026-09-21"]),
        # At 01:00 UTC the clock was set back from 03:00 to 02:00.
        ("hour", [1_792_886_400_000, 1_792_890_000_000], ["2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00"]),
    ],
)
def test_times_are_those_of_the_clock(invoke: Invoke, tmp_path: Path, by: str, times: list[int], keys: list[str]) -> None:
    fill(tmp_path, *(entry(at) for at in times))
    output = invoke("stats", "--by", by, "--timezone", "Europe/Berlin", "--data-dir", str(tmp_path)).stdout
    assert [row[0] for row in rows(output)[2:] if len(row) > 3 and row[0] != "Total"] == keys


@pytest.mark.parametrize("breakdown", [(), ("--breakdown",)])
def test_windows_name_their_accounts_where_there_are_several(invoke: Invoke, tmp_path: Path, breakdown: tuple[str, ...]) -> None:
    words = ("stats", "--by", "window", "--data-dir", str(tmp_path), *breakdown)
    fill(tmp_path, entry(NOW, account="work"))
    assert rows(invoke(*words).stdout)[0][:2] == ["Window", "Models"]
    fill(tmp_path, entry(NOW, account="home"), entry(NOW, upstream=None, account=None))
    table = rows(invoke(*words).stdout)
    assert table[0][:3] == ["Window", "Account", "Models"]
    found = {row[1] for row in table if row[0] == "~2026-09-21 14:00"}
    assert found == {"(none)", "default/work", "default/home"}
    assert {len(row) for row in table if row[0] in ("Total", "Window")} == {len(table[0]), len(table[0]) - 2}
    lines = list(csv.DictReader(io.StringIO(invoke(*words, "--format", "csv").stdout)))
    assert {(line["window"], line["upstream"], line["account"]) for line in lines} == {
        ("~2026-09-21T14:00+00:00", *names) for names in (("", ""), ("default", "work"), ("default", "home"))
    }


def test_by_model_no_column_repeats_the_name(invoke: Invoke, ledger: Path) -> None:
    table = rows(invoke("stats", "--by", "model", "--data-dir", str(ledger)).stdout)
    assert table[0][:2] == ["Model", "Input"]
    assert {len(row) for row in table[2:4]} == {len(table[0])}


@pytest.mark.parametrize("words", [["stats"], ["sessions"], ["show"], ["reprice", "--since", "2026-09-01", "--dry-run"]])
def test_no_line_in_a_pipe_ends_with_spaces(invoke: Invoke, tmp_path: Path, words: list[str]) -> None:
    name = fill(tmp_path, entry(NOW))[0]
    output = invoke(*words, *([name] if words == ["show"] else []), "--data-dir", str(tmp_path)).stdout
    assert output
    assert [line for line in output.splitlines() if line != line.rstrip()] == []


# -- sessions


ID = "c064b385-6852-4e56-9c1e-8e15d94aded8"


@pytest.mark.parametrize("columns", [80, 100, 130, 160])
def test_a_sessions_id_can_be_copied_however_wide_the_terminal(invoke: Invoke, tmp_path: Path, columns: int) -> None:
    agents = [entry(NOW, session=ID, agent=agent) for agent in ("one", "two")]
    fill(tmp_path, entry(NOW, session=ID, project="my-app"), *agents)
    output = invoke("sessions", "--data-dir", str(tmp_path), COLUMNS=str(columns)).stdout
    assert f" {ID} " in output
    assert max(map(len, output.splitlines())) <= columns
    assert ("Project" in output) == (columns > 100)
    assert ("my-app · glm-5.3 · 2 agents" in output) == (columns <= 100)
    grouped = invoke("stats", "--by", "session", "--data-dir", str(tmp_path), COLUMNS=str(columns)).stdout
    assert f" {ID} " in grouped


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["sessions", "--project", "nope"], "No sessions of project 'nope' are recorded.\n"),
        (["tail", "--no-follow", "--session", "nope"], "No exchange of session 'nope' is recorded.\n"),
        (
            ["tail", "--no-follow", "--status", "404", "--model", "m"],
            "No exchange of model 'm' and of status '404' is recorded.\n",
        ),
    ],
)
def test_a_list_without_entries_says_what_was_looked_for(invoke: Invoke, ledger: Path, command: list[str], sentence: str) -> None:
    result = invoke(*command, "--data-dir", str(ledger))
    assert (result.exit_code, result.stdout + result.stderr) == (0, sentence)


def test_sessions_are_listed_with_their_sums(invoke: Invoke, ledger: Path) -> None:
    table = rows(invoke("sessions", "--data-dir", str(ledger)).stdout)
    assert table[0] == ["Last seen", "Session", "Project", "Models", "Agents", "Exchanges", "Failed", "Tokens", "Cost"]
    assert [row[1] for row in table if row[1:2] in (["session-1"], ["old"])] == ["session-1", "old"]
    old = next(row for row in table if "old" in row)
    assert old == ["2026-09-20 08:13", "old", "tools", "glm-5.3", "0", "1", "0", "3,160", "$2.00"]


def test_sessions_as_json_are_the_apis_page(invoke: Invoke, ledger: Path) -> None:
    words = ["sessions", "--data-dir", str(ledger), "--json", "--limit", "1"]
    first = json.loads(invoke(*words).stdout)
    second = json.loads(invoke(*words, "--before", first["next"]).stdout)
    assert [page["items"][0]["session"] for page in (first, second)] == ["session-1", "old"]
    assert second["next"] is None
    assert json.loads(invoke(*words, "--project", "never").stdout) == {"items": [], "next": None}


# -- figures


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.01, "$0.01"),
        (0.0042, "$0.0042"),
        (0.00001234, "$0.000012"),
        (1.5e-9, "$0.0000000015"),
        (1.005, "$1.00"),
    ],
)
def test_money(amount: float, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("sums", "text"),
    [
        ({"cost_usd": None, "unpriced_exchanges": 1}, "unpriced"),
        ({"cost_usd": None}, "unpriced"),
        ({"cost_usd": 2.0, "unpriced_exchanges": 0}, "$2.00"),
        ({"cost_usd": 2.0, "unpriced_exchanges": 3}, "≥ $2.00"),
        ({"cost_usd": 0.0, "unpriced_exchanges": 0}, "$0.00"),
    ],
)
def test_a_cost_is_never_shown_as_more_certain_than_it_is(sums: dict[str, Any], text: str) -> None:
    assert cost(sums) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_940, "59.9 s"),
        (60_000, "1 min 0 s"),
        (3_720_000, "1 h 2 min"),
    ],
)
def test_durations(ms: int | None, text: str) -> None:
    assert seconds(ms) == text


def test_counts_and_sizes() -> None:
    assert [count(None), count(1234567), count(1234.56)] == ["-", "1,234,567", "1,234.6"]
    assert [size(0), size(1023), size(1024), size(5 * 1024**2), size(2**40)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 MiB",
        "1024.0 GiB",
    ]
