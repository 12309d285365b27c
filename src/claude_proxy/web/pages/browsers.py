"""The name of a browser and of its system, for people. Pure.

Browsers name others for compatibility (RFC 9110 section 10.1.5), so the order matters: Edge says Chrome and Safari too.
"""

from __future__ import annotations

_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "Windows": "Windows",
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def browser_name(user_agent: str) -> str:
    """What a User-Agent says, as "Firefox · Windows"; its first word if it is no known browser; "" for none."""
    browser = _first(_BROWSERS, user_agent) or user_agent.partition(" ")[0].partition("/")[0]
    return " · ".join(part for part in (browser, _first(_SYSTEMS, user_agent)) if part)


def _first(known: dict[str, str], user_agent: str) -> str:
    return next((name for sign, name in known.items() if sign in user_agent), "")
