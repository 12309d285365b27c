"""Files of the pages: templates, which are read once, and `/static`, whose URLs contain a hash of the content."""

from __future__ import annotations

import gzip
import hashlib
import os
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from claude_proxy.web.negotiation import takes

if TYPE_CHECKING:
    from starlette.types import Scope

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_TEMPLATES = _HERE / "templates"
_PACKED = (".css", ".js", ".svg")
_MOST = 256 * 1024  # bytes; what is larger (the API docs' viewers) would hold the event loop for too long


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


@cache
def packed(path: str, changed: int) -> bytes:
    """A file, compressed; done once for each content.

    Args:
        changed: when it was changed last, nanoseconds.
    """
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)


class Assets(StaticFiles):
    """`/static`: cached for a year if the URL contains the content's hash, revalidated otherwise; compressed once."""

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
        if response.status_code == 200 and _is_packed(Path(full_path), stat_result.st_size, scope):
            headers = {name: response.headers[name] for name in ("etag", "last-modified")} | {"content-encoding": "gzip"}
            body = packed(os.fspath(full_path), stat_result.st_mtime_ns)
            response = Response(body, headers=headers, media_type=response.media_type)
        pinned = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if pinned else "no-cache"
        response.headers["vary"] = "Accept-Encoding"
        response.headers["x-content-type-options"] = "nosniff"
        return response


def _is_packed(path: Path, size: int, scope: Scope) -> bool:
    return path.suffix in _PACKED and size <= _MOST and takes(Headers(scope=scope).get("accept-encoding", ""), "gzip")
