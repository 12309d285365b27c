"""The books: every finished exchange recorded once, off the path; SQLite, or PostgreSQL with DATABASE_URL.

Importing this room costs neither SQLAlchemy nor a database: those come with `opening`, which the writer's thread loads.
"""

from claude_proxy.ledger.ledger import Ledger
from claude_proxy.ledger.options import Entry, Options
from claude_proxy.ledger.record import Charge, Pricing, Record, record
from claude_proxy.ledger.writer import State, Writer

__all__ = ["Charge", "Entry", "Ledger", "Options", "Pricing", "Record", "State", "Writer", "record"]
