"""The statements that insert exchanges: few different ones, and none with more variables than SQLite takes."""

from __future__ import annotations

import sqlite3

import pytest

from claude_proxy.ledger.rows import EXCHANGE_COLUMNS
from claude_proxy.ledger.statements import ROWS_AT_ONCE, insert_exchanges

NAMES = ", ".join(f'"{name}"' for name in EXCHANGE_COLUMNS)


def columns(count: int) -> list[list[int]]:
    """So many rows, in which every value is another one."""
    return [[1 + at + row * len(EXCHANGE_COLUMNS) for row in range(count)] for at in range(len(EXCHANGE_COLUMNS))]


@pytest.mark.parametrize("count", [1, 3, 19, 20, 99, 100, 101, 250])
@pytest.mark.parametrize("most", [32766, 999, 200, 10])
def test_all_rows_are_inserted_once_and_in_order(count: int, most: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE exchange ({NAMES})")
    for statement, values in insert_exchanges(columns(count), most):
        assert len(values) <= max(most, len(EXCHANGE_COLUMNS))
        connection.execute(statement, values)
    found = connection.execute(f"SELECT {NAMES} FROM exchange").fetchall()
    assert found == list(zip(*columns(count), strict=True))


def test_there_are_few_different_statements() -> None:
    """Each is kept prepared, and one for a hundred rows takes 150 KB."""
    made = {statement for count in range(1, 300) for statement, _ in insert_exchanges(columns(count), 32766)}
    assert len(made) == len(ROWS_AT_ONCE)
