"""The first schema. A copy of its own: a migration must not change when the tables do."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    _runs_and_names()
    _exchanges()
    _attempts()
    _rollups()
    _quota_and_incidents()


def big_type() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def column(name: str, kind: sa.types.TypeEngine[Any], *, null: bool = False, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, **more)


def counted(kind: sa.types.TypeEngine[Any], *names: str) -> list[sa.Column[Any]]:
    """Columns that are 0 where nothing is said."""
    return [column(name, kind, server_default=sa.text("0")) for name in names]


def nullable(kind: sa.types.TypeEngine[Any], *names: str) -> list[sa.Column[Any]]:
    return [column(name, kind, null=True) for name in names]


def _runs_and_names() -> None:
    big, integer, small, text = big_type(), sa.Integer(), sa.SmallInteger(), sa.Text()
    op.create_table("meta", column("key", text), column("value", text), sa.PrimaryKeyConstraint("key", name="pk_meta"))
    op.create_table(
        "run",
        sa.Column("id", integer, sa.Identity(), nullable=False),
        *(column("worker", small), column("place", text), column("pid", integer), column("version", text)),
        *(column("started", big), column("seen", big)),
        *(*nullable(big, "ended"), *nullable(small, "clean"), *counted(big, "lost")),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_table(
        "name",
        sa.Column("id", integer, sa.Identity(), nullable=False),
        *(column("kind", text), column("text", text), column("first_day", integer), column("last_day", integer)),
        sa.PrimaryKeyConstraint("id", name="pk_name"),
        sa.UniqueConstraint("kind", "text", name="uq_name_kind"),
    )
    op.create_index("ix_name_new", "name", ["kind", "first_day"])
    op.create_table(
        "session",
        column("id", integer, autoincrement=False),
        *counted(integer, "project"),
        *(column("first_seen", big), column("last_seen", big)),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
    )
    op.create_index("ix_session_last_seen", "session", ["last_seen"])


def _exchanges() -> None:
    big, integer, small = big_type(), sa.Integer(), sa.SmallInteger()
    op.create_table(
        "exchange",
        column("id", big, autoincrement=False),
        column("run", integer),
        *counted(integer, "session", "agent", "parent_agent", "class", "client", "user_agent", "upstream", "account"),
        *counted(integer, "model", "model_served", "kind"),
        *counted(small, "stream", "status"),
        *(*counted(integer, "outcome"), *counted(small, "failed")),
        *counted(integer, "side", "failure", "failure_text", "provider_code", "stop_reason"),
        *nullable(sa.Text(), "request_id"),
        *(*nullable(integer, "queue_ms", "first_byte_ms"), *counted(integer, "duration_ms", "silence_ms")),
        *counted(big, "bytes_in", "bytes_out"),
        *nullable(big, "input", "output", "cache_read", "cache_write_5m", "cache_write_1h"),
        *nullable(integer, "web_searches"),
        *counted(integer, "service_tier", "speed", "geo"),
        *(*nullable(big, "cost_nano", "credits_micro"), *counted(integer, "price")),
        *(*counted(integer, "verdict", "verdict_area"), *nullable(integer, "verdict_block", "verdict_message")),
        *nullable(big, "verdict_lost", "lost_nano", "transcript"),
        sa.PrimaryKeyConstraint("id", name="pk_exchange"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.create_index("ix_exchange_session", "exchange", ["session"])
    else:
        op.create_index("ix_exchange_session_id", "exchange", ["session", "id"])
    failed = sa.text("failed = 1")
    op.create_index("ix_exchange_failed", "exchange", ["id"], sqlite_where=failed, postgresql_where=failed)


def _attempts() -> None:
    big, integer, small = big_type(), sa.Integer(), sa.SmallInteger()
    op.create_table(
        "attempt",
        *(column("exchange", big), column("number", small)),
        *(*counted(integer, "upstream", "account"), *nullable(small, "status"), *counted(small, "reused")),
        *(column("sent_ms", integer), *nullable(integer, "head_ms")),
        *counted(integer, "failure", "failure_text", "provider_code"),
        sa.PrimaryKeyConstraint("exchange", "number", name="pk_attempt"),
        sqlite_with_rowid=False,
    )


def _rollups() -> None:
    keys = ("session", "agent", "model", "upstream", "account", "client", "class")
    op.create_table(
        "rollup",
        column("bucket", sa.Integer()),
        *counted(sa.Integer(), *keys),
        *counted(big_type(), "exchanges", "failed", "cancelled", "count_tokens", "others"),
        *counted(big_type(), "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches"),
        *counted(big_type(), "cost_nano", "priced", "unpriced", "credits_micro", "credited"),
        sa.PrimaryKeyConstraint("bucket", *keys, name="pk_rollup"),
        sqlite_with_rowid=False,
    )


def _quota_and_incidents() -> None:
    big, integer, text = big_type(), sa.Integer(), sa.Text()
    op.create_table(
        "quota_sample",
        column("at", big),
        *counted(integer, "upstream", "account", "window"),
        *(*nullable(big, "used_micro", "limit_micro"), *nullable(integer, "used_ppm"), *nullable(big, "resets_at")),
        sa.PrimaryKeyConstraint("at", "upstream", "account", "window", name="pk_quota_sample"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "incident",
        column("id", big, autoincrement=False),
        *(column("kind", text), column("subject", text), column("text", text)),
        *(column("opened", big), column("seen", big), *nullable(big, "closed"), *counted(big, "exchanges")),
        sa.PrimaryKeyConstraint("id", name="pk_incident"),
    )
