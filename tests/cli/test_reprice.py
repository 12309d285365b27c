"""`reprice`: says what it changes, asks first, and changes rows and sums together."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.ledger.queries import Books
from tests.cli.conftest import Invoke, process_environ
from tests.cli.ledgers import DOLLAR, fill
from tests.ledger.books import NOW, Charge, assert_books_balance, entry
from tests.ledger.places import Place

SINCE = ("--since", "2026-09-01")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """One exchange that had no price, one with an old price, one that nobody can price."""
    fill(tmp_path, entry(NOW), entry(NOW + 1, charge=Charge(DOLLAR, None, "zai/glm-5.3.old")), entry(NOW + 2, model="unknown"))
    return tmp_path


def totals(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = Books(Place(folder).engine(reading=True), timeout=20).usage()["totals"]
    return found


def test_a_dry_run_says_what_would_change(invoke: Invoke, ledger: Path) -> None:
    before = totals(ledger)
    result = invoke("reprice", *SINCE, "--dry-run", "--data-dir", str(ledger))
    assert result.exit_code == 0, result.output
    assert "2 of 3 exchanges would change." in result.stdout
    assert "Unpriced exchanges get the prices of their upstream in these settings: default is api.z.ai." in result.stdout
    assert "unpriced" in result.stdout
    assert "zai/glm-5.3.old" in result.stdout
    assert totals(ledger) == before


def test_without_a_terminal_it_needs_yes(invoke: Invoke, ledger: Path) -> None:
    before = totals(ledger)
    result = invoke("reprice", *SINCE, "--data-dir", str(ledger))
    assert (result.exit_code, result.stderr) == (0, "Nothing was changed. Use --yes to apply the changes.\n")
    assert totals(ledger) == before


def test_a_time_without_exchanges_is_said(invoke: Invoke, ledger: Path) -> None:
    result = invoke("reprice", "--since", "2040-01-01", "--data-dir", str(ledger))
    assert result.stdout == "Nothing to change: no exchange was recorded since then.\n"


def test_with_yes_rows_and_sums_change(invoke: Invoke, ledger: Path) -> None:
    result = invoke("reprice", *SINCE, "--yes", "--data-dir", str(ledger))
    assert "Done: 2 exchanges changed." in result.stdout
    after = totals(ledger)
    assert after["unpriced_exchanges"] == 1
    assert 0 < after["cost_usd"] < 0.1
    assert_books_balance(Place(ledger).engine(reading=True))
    again = invoke("reprice", *SINCE, "--yes", "--data-dir", str(ledger))
    assert "Nothing to change: all 3 exchanges have current prices." in again.stdout


def test_the_users_own_prices_count(invoke: Invoke, ledger: Path, own_file: Path) -> None:
    own_file.with_name("prices.toml").write_text(
        '[[price]]\nprovider = "zai"\nmodel = "glm-5.3"\ninput = 1000\noutput = 0\ncache_read = 0\ncache_write_5m = 0\n',
        encoding="utf-8",
    )
    config = str(own_file.parents[1])
    invoke("reprice", *SINCE, "--yes", "--data-dir", str(ledger), XDG_CONFIG_HOME=config)
    assert totals(ledger)["cost_usd"] == pytest.approx(0.2)


def test_json_says_the_same(invoke: Invoke, ledger: Path) -> None:
    report = json.loads(invoke("reprice", *SINCE, "--dry-run", "--json", "--data-dir", str(ledger)).stdout)
    assert report["looked_at"] == 3
    changes = {change["old_price"]: change for change in report["changes"]}
    assert changes[None]["old_cost_usd"] is None
    assert changes["zai/glm-5.3.old"]["old_cost_usd"] == 1.0
    assert all(change["exchanges"] == 1 and change["model"] == "glm-5.3" for change in report["changes"])


@pytest.mark.parametrize(("answer", "changed"), [(b"n\n", False), (b"y\n", True)])
def test_on_a_terminal_it_asks(ledger: Path, answer: bytes, changed: bool) -> None:
    before = totals(ledger)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "claude_proxy", "reprice", *SINCE, "--data-dir", str(ledger)]
    environ = process_environ({"TERM": "xterm", "COLUMNS": "100"})
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"Apply the changes?" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, answer)
        assert process.wait(30) == 0
    os.close(ours)
    assert (totals(ledger) != before) is changed


def test_a_time_is_needed(invoke: Invoke, ledger: Path) -> None:
    result = invoke("reprice", "--data-dir", str(ledger))
    assert (result.exit_code, "--since" in result.stderr) == (2, True)
    wrong = invoke("reprice", "--since", "soon", "--data-dir", str(ledger))
    assert (wrong.exit_code, "is not a time known here" in wrong.stderr) == (2, True)
