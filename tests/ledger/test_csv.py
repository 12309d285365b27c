"""CSV for spreadsheets: no formula gets in, and every line has a cell for each column."""

import csv
import io

import pytest

from claude_proxy.ledger.csv import EXCHANGE_HEAD, cell, exchanges, usage
from claude_proxy.ledger.queries import Books
from tests.ledger.books import entry, write_all
from tests.ledger.places import Place


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")', "\n=1", "-2+3|cmd"])
def test_no_text_is_a_formula(text: str) -> None:
    assert str(cell(text)).startswith("'")


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, ""), (True, "true"), (False, "false"), (-3, -3), (0.5, 0.5), ("a=b", "a=b"), ("", ""), ("a\nb", "a b")],
)
def test_what_is_harmless_stays(value: object, written: object) -> None:
    assert cell(value) == written


def test_every_line_has_a_cell_for_each_column(place: Place) -> None:
    store = place.store()
    write_all(store, [entry(model='a,"b"'), entry(model="=1", session=None)])
    store.close(0)
    books = Books(place.engine(reading=True), timeout=20, wall=place.clock)
    rows = list(csv.reader(io.StringIO((EXCHANGE_HEAD + exchanges(books.exchanges()["items"])).decode(), newline="")))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert {row[rows[0].index("model")] for row in rows[1:]} == {'a,"b"', "'=1"}
    report = books.usage("model", breakdown=True)
    for breakdown, columns in ((False, 11), (True, 12)):
        lines = list(csv.reader(io.StringIO(usage(report, breakdown=breakdown).decode(), newline="")))
        assert {len(line) for line in lines} == {columns}
        assert sum(int(line[lines[0].index("input_tokens")]) for line in lines[1:]) == report["totals"]["input_tokens"]
