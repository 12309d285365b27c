"""*Settings*: what is in force and why?"""

from __future__ import annotations

from claude_proxy.web.pages import connect
from claude_proxy.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Page:
    """The effective values with their sources, secrets masked, and how to connect a client."""
    context = {"settings": visit.site.sources.settings(), "connect": connect.card(visit)}
    return Page("settings.html", visit.text("shell.settings"), context)
