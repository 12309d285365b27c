"""Ledgers to test with: in a file, and (with `-m system`) in a PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.places import Place, cluster, database


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server that runs for these tests alone."""
    with cluster() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.system)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty ledger on either database."""
    if request.param == "sqlite":
        return Place(tmp_path)
    return Place(tmp_path, database(request.getfixturevalue("postgres")))
