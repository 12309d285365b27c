"""Addresses of pages about something that a client has named. Pure.

A client may name its session `..`, `a/b` or `100%`. Browsers resolve `..` in a path, encoded or not (WHATWG URL section 4.4), and
fronts decode `%2F` and merge slashes, so such a name is only safe in the query. A usual one, such as Claude Code's, makes a path.
"""

from __future__ import annotations

import string
from urllib.parse import quote, urlencode

_USUAL = frozenset(f"{string.ascii_letters}{string.digits}-._~")  # unreserved (RFC 3986 section 2.3): never encoded


def session_link(name: str | None, **parameters: str | None) -> str:
    """The address of a session's page, below the root.

    Args:
        name: of the session; None or "" for the requests that have none.
        parameters: of the query; those that are None are left out.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    if name and not name.startswith((".", "~")) and _USUAL.issuperset(name):
        return f"sessions/{name}" + (f"?{urlencode(given, quote_via=quote)}" if given else "")
    return f"session?{urlencode({'id': name or ''} | given, quote_via=quote)}"
