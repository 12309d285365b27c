"""Run by Alembic for every command: migrates in the transaction of the connection that the caller has open."""

from alembic import context

from claude_proxy.ledger.schema import VERSION_TABLE
from claude_proxy.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
