"""The schema: made at once or migrated step by step, it is the same; one that is newer is left alone."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from claude_proxy.ledger import schema
from claude_proxy.ledger.database import file_connect, postgres_engine, sqlite_engine
from claude_proxy.ledger.options import LedgerOff
from claude_proxy.ledger.tables import metadata
from tests.ledger.places import database


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = sqlite_engine(file_connect(tmp_path / "ledger.db"))
    yield found
    found.dispose()


def described(path: Path) -> dict[str, Any]:
    """Tables, columns and indexes as SQLite sees them, whoever made them."""
    connection = sqlite3.connect(path)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        indexes = connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
        return {
            "columns": {table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall() for table in tables},
            "indexes": {name: (table, connection.execute(f"PRAGMA index_xinfo({name})").fetchall()) for name, table in indexes},
            "without rowid": {name for (name,) in connection.execute("SELECT name FROM pragma_table_list WHERE wr = 1")},
        }
    finally:
        connection.close()


def test_a_schema_made_at_once_equals_one_that_was_migrated(tmp_path: Path) -> None:
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    assert schema.prepare(sqlite_engine(file_connect(made))) is None
    with sqlite_engine(file_connect(migrated)).begin() as connection:
        schema.migrate(connection)
    assert described(made) == described(migrated)


def test_the_tables_are_what_the_migrations_make(engine: Engine) -> None:
    with engine.begin() as connection:
        schema.migrate(connection)
        options = {"version_table": schema.VERSION_TABLE, "include_object": lambda _, name, *__: name != "ix_exchange_session_id"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_the_versions_are_those_of_the_migrations(engine: Engine) -> None:
    with engine.begin() as connection:
        scripts = ScriptDirectory.from_config(schema.alembic_config(connection))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(schema.VERSIONS)


@pytest.mark.parametrize("version", schema.VERSIONS)
def test_a_database_of_an_older_release_is_brought_here(tmp_path: Path, version: str) -> None:
    path = tmp_path / "ledger.db"
    with sqlite_engine(file_connect(path)).begin() as connection:
        schema.migrate(connection, version)
    assert schema.prepare(sqlite_engine(file_connect(path))) == version
    with sqlite_engine(file_connect(path)).begin() as connection:
        assert schema.version_of(connection) == schema.HEAD


def test_rows_of_an_older_release_are_kept(tmp_path: Path) -> None:
    engine = sqlite_engine(file_connect(tmp_path / "ledger.db"))
    assert kept_from_the_first_release(engine) == (5, "")


@pytest.mark.system
def test_rows_of_an_older_release_are_kept_in_postgres(postgres: str) -> None:
    assert kept_from_the_first_release(postgres_engine(database(postgres))) == (5, "")


def kept_from_the_first_release(engine: Engine) -> tuple[int, str]:
    """Write a row with the first schema and migrate; returns the row's model, and the model that was sent."""
    with engine.begin() as connection:
        schema.migrate(connection, schema.VERSIONS[0])
        connection.exec_driver_sql("INSERT INTO exchange (id, run, model) VALUES (4611686018427387904, 1, 5)")
    schema.prepare(engine)
    with engine.begin() as connection:
        model, sent = connection.exec_driver_sql("SELECT model, model_sent FROM exchange").one()
        return model, "" if sent == 0 else f"{sent}"


def test_a_newer_schema_is_left_alone_with_a_sentence(engine: Engine) -> None:
    schema.prepare(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0999'")
    with pytest.raises(LedgerOff, match=r"written by a newer claude-proxy \(schema 0999"):
        schema.prepare(engine)


def test_tables_of_another_program_are_left_alone_with_a_sentence(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE session (theirs TEXT)")
    with pytest.raises(LedgerOff, match="'session' of another program"):
        schema.prepare(engine)


def test_a_prepared_database_is_left_as_it_is(engine: Engine, tmp_path: Path) -> None:
    schema.prepare(engine)
    before = described(tmp_path / "ledger.db")
    assert schema.prepare(engine) == schema.HEAD
    assert described(tmp_path / "ledger.db") == before


def test_several_processes_may_begin_at_once(tmp_path: Path) -> None:
    assert begun_at_once(lambda: sqlite_engine(file_connect(tmp_path / "ledger.db"))) == []


def begun_at_once(make: Callable[[], Engine]) -> list[Exception]:
    """What goes wrong when four prepare the same empty database together."""
    errors: list[Exception] = []
    gate = threading.Barrier(4)

    def begin() -> None:
        engine = make()
        gate.wait()
        try:
            schema.prepare(engine)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_pages_that_become_free_can_be_given_back(engine: Engine) -> None:
    schema.prepare(engine)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2  # incremental
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # normal


@pytest.mark.system
def test_postgres_gets_the_same_schema_either_way(postgres: str) -> None:
    made, migrated = (postgres_engine(database(postgres)) for _ in range(2))
    schema.prepare(made)
    with migrated.begin() as connection:
        schema.migrate(connection)
    assert in_postgres(made) == in_postgres(migrated)


@pytest.mark.system
def test_several_processes_may_begin_a_postgres_at_once(postgres: str) -> None:
    url = database(postgres)
    assert begun_at_once(lambda: postgres_engine(url)) == []


def in_postgres(engine: Engine) -> dict[str, Any]:
    """Columns, constraints and indexes as PostgreSQL describes them."""
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity "
        "FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, ordinal_position"
    )
    indexes = "SELECT indexname, replace(indexdef, current_schema(), '') FROM pg_indexes WHERE schemaname = current_schema()"
    with engine.connect() as connection:
        return {
            "columns": [tuple(row) for row in connection.exec_driver_sql(columns)],
            "indexes": sorted(tuple(row) for row in connection.exec_driver_sql(indexes)),
        }
