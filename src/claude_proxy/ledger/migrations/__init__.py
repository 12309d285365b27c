"""Alembic's migrations of the ledger. Each is additive for one release, so that the release before can still read and write."""
