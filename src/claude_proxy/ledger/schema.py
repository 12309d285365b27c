"""Brings a database to this program's schema: creates it, or migrates an older one.

A new database is created from the tables' definition and stamped, which saves Alembic's import (10 MB, 0.1 s). A test checks that
both ways lead to the same schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, PrimaryKeyConstraint, String, Table, inspect, text

from claude_proxy.ledger.options import LedgerOff
from claude_proxy.ledger.tables import metadata

VERSIONS = ("0001", "0002")  # oldest first, as in migrations/versions
HEAD = VERSIONS[-1]
VERSION_TABLE = "ledger_version"
MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x6C656467  # of PostgreSQL's advisory locks: "ledg"


def prepare(engine: Engine) -> str | None:
    """Bring the database to `HEAD`.

    Returns:
        The version it had before, None if there was none.

    Raises:
        LedgerOff: it has a schema that this program does not know, or tables of another program.
    """
    with engine.connect() as connection:
        before = version_of(connection)
    if before == HEAD:
        return before
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = version_of(connection)  # another process may have been quicker
        if before is None:
            _create(connection)
        elif before in VERSIONS[:-1]:
            migrate(connection)
        elif before != HEAD:
            raise LedgerOff(
                f"The ledger was written by a newer claude-proxy (schema {before}, this one knows {HEAD}). "
                "Install that version again, or give this one another DATA_DIR."
            )
    return before


def version_of(connection: Connection) -> str | None:
    """The database's schema version; None where there is no ledger yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def migrate(connection: Connection, to: str = "head") -> None:
    """Run Alembic's migrations in the connection's transaction."""
    from alembic import command  # only where something is to be migrated

    command.upgrade(alembic_config(connection), to)


def alembic_config(connection: Connection) -> Any:
    """Alembic's configuration for this package's migrations, without any file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _create(connection: Connection) -> None:
    found = set(inspect(connection).get_table_names())
    taken = sorted(found & set(metadata.tables))
    if taken:
        raise LedgerOff(f"The database has a table {taken[0]!r} of another program. Give claude-proxy a database of its own.")
    metadata.create_all(connection, checkfirst=False)
    version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), nullable=False))  # as Alembic makes it
    version.append_constraint(PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"))
    version.create(connection)
    connection.execute(text(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{HEAD}')"))  # noqa: S608 - constants
