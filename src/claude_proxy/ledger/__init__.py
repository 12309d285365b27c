"""The books: every finished exchange is recorded once, beside the path, in SQLite or (with DATABASE_URL) in PostgreSQL.

Importing this package loads neither SQLAlchemy nor a database driver: `opening` does, in the writer's thread.
"""

from claude_proxy.ledger.ledger import Ledger
from claude_proxy.ledger.options import Entry, Options
from claude_proxy.ledger.record import Charge, Pricing, Record, record
from claude_proxy.ledger.writer import State, Writer

__all__ = ["Charge", "Entry", "Ledger", "Options", "Pricing", "Record", "State", "Writer", "record"]
