"""The model that an upstream's map put in place of the client's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. Neither database rewrites the table for one with a constant default."""
    op.add_column("exchange", sa.Column("model_sent", sa.Integer(), nullable=False, server_default=sa.text("0")))
