"""How to connect a client: addresses and snippets, for the card on *Now* and for *Settings*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_proxy.web import snippets
from claude_proxy.web.facts import OWN_KEY, PROXY_KEY
from claude_proxy.web.texts import text as words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_proxy.web.facts import PageFacts
    from claude_proxy.web.negotiation import Language
    from claude_proxy.web.pages.visit import Visit


def card(visit: Visit) -> dict[str, Any]:
    """What `connect.html` shows.

    Returns:
        texts as lists of (kind, text), where the kind is "text", "address" (which the browser corrects) or "hole" (what the user
        has to fill in).
    """
    facts = visit.site.facts()
    base_url = visit.address.to(facts.prefix)
    return {
        "base_url": base_url,
        "targets": list(dict.fromkeys(upstream.host for upstream in facts.upstreams)),
        "groups": [
            ("claude_code", _blocks(snippets.claude_code(base_url, facts), base_url)),
            ("code", _blocks(snippets.code(base_url, facts), base_url)),
        ],
        "client_note": client_note(visit.language, facts),
        "key_note": pieces(key_note(visit.language, facts), base_url),
    }


def key_note(language: Language, facts: PageFacts) -> str:
    """One or two sentences that say what to use as the credential."""
    if facts.holds_credential:
        key = "connect.key_asked" if facts.needs_key else "connect.key_held"
    else:
        key = "connect.key_both" if facts.needs_key else "connect.key_passes"
    return words(language, key, upstream=facts.upstreams[0].host)


def client_note(language: Language, facts: PageFacts) -> str:
    """Explain the variables whose purpose is not obvious."""
    timeouts, host = words(language, "connect.timeouts"), facts.upstreams[0].host
    return timeouts if facts.checks_tools else f"{words(language, 'connect.auto_mode', upstream=host)} {timeouts}"


def pieces(text: str, base_url: str) -> list[tuple[str, str]]:
    """Cut a text at its placeholders and at the address."""
    found = [("text", text)]
    for kind, mark in (("hole", OWN_KEY), ("hole", PROXY_KEY), ("address", base_url)):
        found = [piece for known, part in found for piece in ([(known, part)] if known != "text" else _cut(part, kind, mark))]
    return [piece for piece in found if piece[1]]


def _cut(text: str, kind: str, mark: str) -> list[tuple[str, str]]:
    first, *rest = text.split(mark)
    return [("text", first), *(piece for part in rest for piece in ((kind, mark), ("text", part)))]


def _blocks(parts: Iterable[snippets.Snippet], base_url: str) -> list[dict[str, Any]]:
    return [{"id": part.id, "label": part.label, "pieces": pieces(part.text, base_url)} for part in parts]
