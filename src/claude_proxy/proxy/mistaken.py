"""Paths that result from a wrong base URL in a client: what is doubled or missing, and what the base URL should be.

A client appends `/v1/messages` to its base URL (some append `/messages`). A base URL with an extra slash, prefix, `/v1` or
endpoint gives a path that no Anthropic API has (https://docs.anthropic.com/en/api/overview), and the 404 of an
upstream seldom says why.
"""

from __future__ import annotations

from claude_proxy.proxy.target import PREFIX

NO_VERSION = "lacks /v1"
_PREFIX = PREFIX.strip("/").split("/")
_ENDPOINTS = ("messages", "models", "complete", "files", "skills")
_BROUGHT = ("", "v1", *_PREFIX)  # parts that a base URL may contain


def advice(path: str, base_url: str = f"http://<this proxy>{PREFIX}") -> str | None:
    """A sentence on what is wrong with `path` and what the client's base URL should be.

    Args:
        path: the path below the prefix, "/v1/v1/messages".
        base_url: the right base URL as the client sees it.

    Returns:
        None for every path that an Anthropic API could have, known to us or not: those belong to the upstream.
    """
    found = fault(path)
    if found is None:
        return None
    if found == NO_VERSION:
        return f"The path {found}: this client wants {base_url}/v1 as its base URL."
    return f"The path {found}: set the client's base URL to {base_url}, with nothing behind it."


def doubled(path: str, base_url: str) -> str | None:
    """The same, only for what no API at all would serve: a doubled slash, `/v1`, endpoint or prefix."""
    return None if fault(path) in (None, NO_VERSION) else advice(path, base_url)


def fault(path: str, prefixes: int = 0) -> str | None:
    """What is doubled or missing in `path`, as the end of a sentence that begins with "The path"; None if nothing is.

    Args:
        prefixes: how often the prefix may occur in it: once if `path` is a whole path.
    """
    head, rest = _parts(path)
    named = [part for part in head if part]
    endpoint = rest[0] if rest and rest[0] in _ENDPOINTS else None
    if _count_prefixes(named) > prefixes:
        return f"repeats {PREFIX}"
    if named.count("v1") > 1:
        return "repeats /v1"
    if "v1" in head and "" in (head if rest else head[: head.index("v1")]):
        return "has a doubled slash"
    if "v1" in head and endpoint == "messages" and "v1" in rest[1:-1]:
        return "repeats /v1/messages"
    return NO_VERSION if endpoint is not None and "v1" not in head else None


def is_meant_for_api(path: str) -> bool:
    """Whether a client that asks for `path` is looking for the API, even if outside the prefix."""
    head, rest = _parts(path)
    return "v1" in head or (bool(rest) and rest[0] in _ENDPOINTS)


def _parts(path: str) -> tuple[list[str], list[str]]:
    """The parts from the client's base URL, and those that the client appended."""
    parts = path.split("/")[1:]
    length = next((at for at, part in enumerate(parts) if part not in _BROUGHT), len(parts))
    return parts[:length], parts[length:]


def _count_prefixes(parts: list[str]) -> int:
    return sum(parts[at : at + len(_PREFIX)] == _PREFIX for at in range(len(parts)))
