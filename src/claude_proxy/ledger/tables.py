"""The tables, the same for SQLite and PostgreSQL. Integers throughout, so that sums are exact.

A column marked with `text_of(...)` holds the id of a text in `name`; 0 stands for "none", because a NULL in a key equals nothing.
Times are Unix milliseconds, money is 10**-9 USD, plan credits are 10**-6. A change here is a migration in `migrations/versions`,
and `schema.HEAD` names the newest.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

BUCKET_MS = 900_000  # a quarter hour: every time zone's day begins with one (Kathmandu: +05:45)
BUCKETS_PER_DAY = 96
DAY_MS = 86_400_000

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)
Big = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's row id, so it needs no index of its own
_WITHOUT_ROWID: dict[str, Any] = {"sqlite_with_rowid": False}


def text_of(column: str, kind: str | None = None) -> Column[int]:
    """A column with the id of an interned text; `kind` is where it differs from the column's name."""
    return Column(column, Integer, nullable=False, server_default=text("0"), info={"kind": kind or column})


def big(column: str) -> Column[int]:
    """A number that is always known."""
    return Column(column, Big, nullable=False, server_default=text("0"))


def small(column: str) -> Column[int]:
    """A small number that is always known."""
    return Column(column, SmallInteger, nullable=False, server_default=text("0"))


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

run = Table(
    "run",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("worker", SmallInteger, nullable=False),  # part of the ids that the process makes; no other open run has it
    Column("place", Text, nullable=False),  # host, boot and process namespace, in which `pid` is valid
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started", Big, nullable=False),
    Column("seen", Big, nullable=False),  # last flush or heartbeat
    Column("ended", Big),
    Column("clean", SmallInteger),  # 1 if the process stopped cleanly, 0 if it was found dead
    big("lost"),  # exchanges that did not fit the queue
)

name = Table(
    "name",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("first_day", Integer, nullable=False),  # UTC days since 1970
    Column("last_day", Integer, nullable=False),
    UniqueConstraint("kind", "text"),
    Index("ix_name_new", "kind", "first_day"),
)

session = Table(
    "session",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # of the text in `name`
    text_of("project"),
    Column("first_seen", Big, nullable=False),
    Column("last_seen", Big, nullable=False),
    Index("ix_session_last_seen", "last_seen"),
)

exchange = Table(
    "exchange",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("run", Integer, nullable=False),
    text_of("session"),
    text_of("agent"),
    text_of("parent_agent", "agent"),
    text_of("class"),
    text_of("client"),
    text_of("user_agent"),
    text_of("upstream"),
    text_of("account"),
    text_of("model"),
    text_of("model_served", "model"),
    text_of("kind"),
    small("stream"),
    small("status"),
    text_of("outcome"),
    small("failed"),
    text_of("side"),
    text_of("failure"),
    text_of("failure_text"),
    text_of("provider_code"),
    text_of("stop_reason"),
    Column("request_id", Text),  # unique, so it is not interned
    Column("queue_ms", Integer),
    Column("first_byte_ms", Integer),
    Column("duration_ms", Integer, nullable=False, server_default=text("0")),
    Column("silence_ms", Integer, nullable=False, server_default=text("0")),
    big("bytes_in"),
    big("bytes_out"),
    Column("input", Big),
    Column("output", Big),
    Column("cache_read", Big),
    Column("cache_write_5m", Big),
    Column("cache_write_1h", Big),
    Column("web_searches", Integer),
    text_of("service_tier"),
    text_of("speed"),
    text_of("geo"),
    Column("cost_nano", Big),  # NULL: no price is known
    Column("credits_micro", Big),
    text_of("price"),
    text_of("verdict"),
    text_of("verdict_area"),
    Column("verdict_block", Integer),
    Column("verdict_message", Integer),
    Column("verdict_lost", Big),  # tokens
    Column("lost_nano", Big),
    Column("transcript", Big),
    text_of("model_sent", "model"),  # 0: as the client named it
    Index("ix_exchange_session", "session").ddl_if("sqlite"),  # which adds the row id by itself
    Index("ix_exchange_session_id", "session", "id").ddl_if("postgresql"),
    Index("ix_exchange_failed", "id", sqlite_where=text("failed = 1")).ddl_if("sqlite"),
)
# Naming PostgreSQL's options above would load its dialect everywhere (5 MB).
_FAILED = DDL("CREATE INDEX ix_exchange_failed ON exchange (id) WHERE failed = 1").execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]
event.listen(exchange, "after_create", _FAILED)

attempt = Table(
    "attempt",
    metadata,
    Column("exchange", Big, nullable=False),
    Column("number", SmallInteger, nullable=False),
    text_of("upstream"),
    text_of("account"),
    Column("status", SmallInteger),
    small("reused"),
    Column("sent_ms", Integer, nullable=False),
    Column("head_ms", Integer),
    text_of("failure"),
    text_of("failure_text"),
    text_of("provider_code"),
    PrimaryKeyConstraint("exchange", "number"),
    **_WITHOUT_ROWID,
)

TOKENS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches")  # an exchange with any was used
ROLLUP_KEYS = ("bucket", "session", "agent", "model", "upstream", "account", "client", "class")
ROLLUP_SUMS = (
    *("exchanges", "failed", "cancelled", "count_tokens", "others"),
    *TOKENS,
    *("cost_nano", "priced", "unpriced", "credits_micro", "credited"),
)

rollup = Table(
    "rollup",
    metadata,
    Column("bucket", Integer, nullable=False),  # Unix time divided by 15 minutes
    *(text_of(key) for key in ROLLUP_KEYS[1:]),
    *(big(sum_) for sum_ in ROLLUP_SUMS),
    PrimaryKeyConstraint(*ROLLUP_KEYS),
    **_WITHOUT_ROWID,
)

quota_sample = Table(
    "quota_sample",
    metadata,
    Column("at", Big, nullable=False),
    text_of("upstream"),
    text_of("account"),
    text_of("window"),
    Column("used_micro", Big),
    Column("limit_micro", Big),
    Column("used_ppm", Integer),  # the provider's own percentage, in millionths
    Column("resets_at", Big),
    PrimaryKeyConstraint("at", "upstream", "account", "window"),
    **_WITHOUT_ROWID,
)

incident = Table(
    "incident",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),  # made like an exchange's id
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("opened", Big, nullable=False),
    Column("seen", Big, nullable=False),
    Column("closed", Big),
    big("exchanges"),
)


def kinds(table: Table) -> dict[str, str]:
    """The columns of a table that hold ids of texts, with the kind of each."""
    return {column.name: column.info["kind"] for column in table.columns if "kind" in column.info}
