"""Files of the pages: templates, which are read once, and `/static`, whose URLs contain a hash of the content."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os

    from starlette.responses import Response
    from starlette.types import Scope

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_TEMPLATES = _HERE / "templates"


@cache
def text(name: str) -> str:
    """Return the content of a file in `templates/`.

    Raises:
        OSError: the installation is incomplete.
    """
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def template(name: str) -> Template:
    """Return a file of `templates/` with `${name}` placeholders, whose values must already be HTML."""
    return Template(text(name))


@cache
def versioned(name: str) -> str:
    """Return the path of a file in `static/` below the prefix, without a leading slash, versioned by its content's hash."""
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
    return f"static/{name}?v={digest}"


class Assets(StaticFiles):
    """`/static`: cached for a year if the URL contains the content's hash, revalidated otherwise."""

    def __init__(self) -> None:
        super().__init__(directory=_STATIC)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return a file, or a 304 if the client has it already."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        pinned = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if pinned else "no-cache"
        response.headers["x-content-type-options"] = "nosniff"
        return response
