"""The books: every finished exchange recorded once, off the path; SQLite, or PostgreSQL with DATABASE_URL.

Importing this room costs neither SQLAlchemy nor a database: those come with `opening`, which the writer's thread loads.
"""
