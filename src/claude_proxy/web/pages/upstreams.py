"""*Upstreams*: who is in trouble?"""

from __future__ import annotations

from claude_proxy.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Page:
    """Upstreams with their state, and the incidents that notices are about."""
    sources = visit.site.sources
    context = {"upstreams": sources.upstreams(), "incidents": sources.incidents()}
    return Page("upstreams.html", visit.text("shell.upstreams"), context)
