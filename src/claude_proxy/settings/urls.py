"""Base URLs: what can be one, and a sentence for each way in which people get them wrong."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from claude_proxy.settings.cleaning import has_placeholder

DEFAULT_BASE_URL = "https://api.z.ai/api/anthropic"
_SEVERAL = re.compile(r"[\s,;|]+[a-z][a-z0-9+.-]*://|://[^/]*[\s,;|]|://.*\s", re.IGNORECASE)
_DOUBLED = re.compile(r"https?:/*https?:", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)
_NOT_IN_URLS = re.compile(r"[<>\"{}|\\^`]")  # RFC 3986 section 2 has no place for them
# What clients add to the base URL, and people copy from a curl command (platform.claude.com, API reference).
_API = re.compile(r"/v1(/(messages|models|complete|files|organizations|chat/completions)(/.*)?)?$", re.IGNORECASE)


def check_url(value: str, *, example: str = DEFAULT_BASE_URL) -> str:
    """An http(s) URL without query, fragment, credentials or trailing slash.

    Raises:
        ValueError: says what was expected; it never repeats the value, which may hold a password.
    """
    if has_placeholder(value):
        raise ValueError(f"there is a placeholder in it that nothing has filled in: expected a URL such as {example}")
    if _SEVERAL.search(value):
        raise ValueError(f"expected one URL without spaces or commas, such as {example}")
    if _DOUBLED.match(value):
        raise ValueError(f"the scheme stands there twice: expected a URL such as {example}")
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
        raise ValueError(f"its host is no host name and no address: expected a URL such as {example}")
    return value.rstrip("/")


def _split(value: str) -> SplitResult | None:
    """The parts of an http(s) URL with a host; None if it is not one."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:  # a port that is no number, brackets that do not close
        return None
    return parts if usable else None


def check_base_url(value: str) -> str:
    """The same for the upstream. Clients add /v1/messages, so the upstream would be asked for /v1/v1/messages.

    Raises:
        ValueError: as `check_url`; for the doubled path it names the URL that was meant.
    """
    url = check_url(value)
    if found := _API.search(url):
        raise ValueError(f"expected the URL without /v1, since clients add that themselves: {url[: found.start()]}")
    return url
