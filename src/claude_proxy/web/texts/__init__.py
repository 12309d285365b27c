"""The page's texts: one catalogue per view, each text in English and Korean side by side.

A text is plain, with `{name}` for values. Where English has a plural, the English text is "one {count}|many {count}", and the
value `count` chooses. Markup belongs in templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_proxy.web.texts import connect, conversation, exchange, now, sessions, settings, shell, upstreams, usage

if TYPE_CHECKING:
    from claude_proxy.web.negotiation import Language

__all__ = ["CATALOGUES", "text"]

Pair = tuple[str, str]

CATALOGUES: Mapping[str, Mapping[str, Pair]] = {
    "connect": connect.TEXTS,
    "exchange": exchange.TEXTS,
    "conversation": conversation.TEXTS,
    "now": now.TEXTS,
    "sessions": sessions.TEXTS,
    "settings": settings.TEXTS,
    "shell": shell.TEXTS,
    "upstreams": upstreams.TEXTS,
    "usage": usage.TEXTS,
}


def text(language: Language, key: str, **values: object) -> str:
    """Return a text.

    Args:
        key: "catalogue.name".
        values: for the `{...}` in the text; `count` also chooses between an English singular and plural.

    Raises:
        KeyError: there is no such text.
    """
    catalogue, _, name = key.partition(".")
    found = CATALOGUES[catalogue][name][language == "ko"]
    if "|" in found and "count" in values:
        one, many = found.split("|", 1)
        found = one if str(values["count"]) == "1" else many
    return found.format(**values) if values else found


def known(key: str) -> bool:
    """Whether there is a text for a key that is put together at runtime, such as "shell.outcome_" and an outcome."""
    catalogue, _, name = key.partition(".")
    return name in CATALOGUES.get(catalogue, {})
