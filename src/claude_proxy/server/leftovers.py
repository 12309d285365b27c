"""A gunicorn configuration of the user's that `serve` does not read."""

from __future__ import annotations

from pathlib import Path

# Where tiangolo/uvicorn-gunicorn-docker looks for one, in its order.
PLACES = ("app/gunicorn_conf.py", "app/app/gunicorn_conf.py", "gunicorn_conf.py")


def unused_files(root: Path = Path("/")) -> list[str]:
    """A sentence for each such file; the one that comes with the proxy, which imports it, earns none."""
    return [
        f"{root / place} is gunicorn's and has no effect under serve; use `gunicorn -c {root / place} proxy:app` for it."
        for place in PLACES
        if _is_the_users(root / place)
    ]


def _is_the_users(file: Path) -> bool:
    try:
        return b"claude_proxy" not in file.read_bytes()
    except OSError:  # not there, or not for us to read
        return False
