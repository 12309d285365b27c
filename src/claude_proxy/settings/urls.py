"""Validates base URLs, with a message for each common mistake."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from claude_proxy.settings.cleaning import has_placeholder

DEFAULT_BASE_URL = "https://api.z.ai/api/anthropic"
_SEVERAL = re.compile(r"[\s,;|]+[a-z][a-z0-9+.-]*://|://[^/]*[\s,;|]|://.*\s", re.IGNORECASE)
_DOUBLED = re.compile(r"https?:/*https?:", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)
_NOT_IN_URLS = re.compile(r"[<>\"{}|\\^`]")  # characters that RFC 3986 section 2 does not allow
# What clients append to the base URL, and users copy from a curl command (platform.claude.com, API reference).
_API = re.compile(r"/v1(/(messages|models|complete|files|organizations|chat/completions)(/.*)?)?$", re.IGNORECASE)


def check_url(value: str, *, example: str = DEFAULT_BASE_URL) -> str:
    """Return an http(s) URL without query, fragment, credentials or trailing slash.

    Raises:
        ValueError: says what was expected; it never repeats the value, which may hold a password.
    """
    if has_placeholder(value):
        raise ValueError(f"it contains a placeholder that was never replaced: expected a URL such as {example}")
    if _SEVERAL.search(value):
        raise ValueError(f"expected one URL without spaces or commas, such as {example}")
    if _DOUBLED.match(value):
        raise ValueError(f"it contains the scheme twice: expected a URL such as {example}")
    parts = _split(value)
    if parts is None:
        raise ValueError(f"expected a URL such as {example}")
    if "?" in value or "#" in value or "@" in parts.netloc:
        raise ValueError(f"expected a URL without credentials, query or fragment, such as {example}")
    if not value.isascii() or not value.isprintable() or _NOT_IN_URLS.search(value):
        raise ValueError(f"expected a URL in plain ASCII without spaces, such as {example}")
    if parts.port == 0:
        raise ValueError(f"nothing can listen on port 0: expected a port from 1 to 65535, or none, as in {example}")
    if _HOST.fullmatch(parts.hostname or "") is None:
        raise ValueError(f"its host is neither a host name nor an address: expected a URL such as {example}")
    return value.rstrip("/")


def _split(value: str) -> SplitResult | None:
    """Split an http(s) URL with a host; None if it is not one."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:  # the port is not a number, or a bracket is not closed
        return None
    return parts if usable else None


def check_base_url(value: str) -> str:
    """Check the upstream's URL, which must not end in /v1: clients append /v1/messages, giving /v1/v1/messages.

    Raises:
        ValueError: as in `check_url`; for a URL with /v1 the message has the right one.
    """
    url = check_url(value)
    if found := _API.search(url):
        raise ValueError(f"expected the URL without /v1, since clients add that themselves: {url[: found.start()]}")
    return url
