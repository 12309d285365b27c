"""Finds a user's gunicorn configuration, which `serve` does not read."""

from __future__ import annotations

from pathlib import Path

# Where tiangolo/uvicorn-gunicorn-docker looks for one, in its order.
PLACES = ("app/gunicorn_conf.py", "app/app/gunicorn_conf.py", "gunicorn_conf.py")


def unused_files(root: Path = Path("/")) -> list[str]:
    """Return a sentence for each such file, except for the one shipped with the proxy, which imports claude_proxy."""
    return [
        f"{root / place} is gunicorn's and has no effect under serve; use `gunicorn -c {root / place} proxy:app` for it."
        for place in PLACES
        if _is_the_users(root / place)
    ]


def _is_the_users(file: Path) -> bool:
    try:
        return b"claude_proxy" not in file.read_bytes()
    except OSError:  # missing or not readable
        return False
