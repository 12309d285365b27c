"""Folders for Unix sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it, which pytest's own may not be."""
    path = Path(tempfile.mkdtemp(prefix="cp-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
