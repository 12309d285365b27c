"""Incidents in the database: one row each, replaced while it lasts."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from claude_proxy.ledger.options import IncidentRow
from claude_proxy.ledger.tables import incident


def keep(connection: Connection, row: IncidentRow) -> None:
    """Insert an incident in place of what was known of it before. Inside a transaction."""
    connection.execute(delete(incident).where(incident.c.id == row.id))
    values = {name: getattr(row, name) for name in IncidentRow.__struct_fields__}
    connection.execute(insert(incident).values(values))


def newest(connection: Connection, limit: int) -> list[IncidentRow]:
    """The last incidents, the newest first."""
    rows = connection.execute(select(incident).order_by(incident.c.id.desc()).limit(limit))
    return [IncidentRow(**row._mapping) for row in rows]
