"""Content negotiation: HTML or JSON, English or Korean (RFC 9110 sections 12.5.1 and 12.5.4)."""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "ko"]

_WEIGHT = re.compile(r"q=([01](?:\.\d{0,3})?)")


def _weights(header: str) -> dict[str, float]:
    """Return each member of a header field with its weight from 0 to 1; members without a valid weight count as 1."""
    weights: dict[str, float] = {}
    for member in header.lower().split(","):
        name, *parameters = (part.strip() for part in member.split(";"))
        found = [float(match[1]) for part in parameters if (match := _WEIGHT.fullmatch(part))]
        if name:
            weights[name] = max(weights.get(name, 0.0), found[-1] if found else 1.0)
    return weights


def takes(header: str, name: str) -> bool:
    """Whether a list such as `Accept` or `Accept-Encoding` names `name`, and not with the weight 0."""
    return _weights(header).get(name, 0.0) > 0.0


def prefers_html(accept: str) -> bool:
    """Whether an `Accept` header asks for HTML at least as much as for JSON. A bare `*/*` (curl, SDKs) gets JSON."""
    weights = _weights(accept)
    html = max(weights.get("text/html", 0.0), weights.get("application/xhtml+xml", 0.0))
    return html > 0.0 and html >= weights.get("application/json", 0.0)


def language_of(accept_language: str, wish: str = "") -> Language:
    """Return the language to answer in.

    Args:
        accept_language: the header of that name, or "".
        wish: the visitor's choice on the page ("en", "ko"); anything else is ignored.
    """
    if wish in ("en", "ko"):
        return "ko" if wish == "ko" else "en"
    best: dict[str, float] = {"en": 0.0, "ko": 0.0}
    for tag, weight in _weights(accept_language).items():
        primary = tag.split("-", 1)[0]
        if primary in best:
            best[primary] = max(best[primary], weight)
    return "ko" if best["ko"] > best["en"] else "en"
