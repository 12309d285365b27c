"""Files of the pages: templates that are read once, and `/static` with addresses that change with the content."""

from __future__ import annotations

import base64
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
    """Content of a file in `templates/`.

    Raises:
        OSError: the installation is incomplete.
    """
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def template(name: str) -> Template:
    """A file of `templates/` with `${name}` where values go; values must already be HTML."""
    return Template(text(name))


@cache
def inline_hash(name: str) -> str:
    """CSP source for a file of `templates/` that stands inline in a page (CSP Level 3, hash-source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text(name).encode()).digest()).decode()}'"


@cache
def versioned(name: str) -> str:
    """Path of a file in `static/` below the prefix, without a leading slash, with its content's hash as version."""
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
    return f"static/{name}?v={digest}"


class Assets(StaticFiles):
    """`/static`: kept for a year where the address names the content's hash, asked for again otherwise."""

    def __init__(self) -> None:
        super().__init__(directory=_STATIC)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """A file, or 304 where the client has it already."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        pinned = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if pinned else "no-cache"
        response.headers["x-content-type-options"] = "nosniff"
        return response
