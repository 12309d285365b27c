"""A random secret of this proxy that survives restarts, in a file of DATA_DIR that only its owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

SIZE = 32


def secret_in(path: Path) -> bytes | None:
    """Return the secret in `path`; make it first if there is none. None if that is not possible.

    Several processes may do this at once: they all get the secret of the one that was first.
    """
    try:
        return _read(path) or _make(path) or _read(path)
    except OSError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(found) != SIZE:
        raise OSError(f"{path.name} is damaged")
    return found


def _make(path: Path) -> bytes | None:
    """Write a new secret beside `path`, and link it there: it appears whole or not at all, and never replaces another."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    secret = secrets.token_bytes(SIZE)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
        os.link(draft, path)
    except FileExistsError:
        return None  # another process was first
    finally:
        draft.unlink(missing_ok=True)
    return secret
