"""*Settings*: what is in force and why?"""

from __future__ import annotations

import asyncio
from typing import Any

from claude_proxy.errors import Unavailable
from claude_proxy.web.pages import connect
from claude_proxy.web.pages.logins import logins
from claude_proxy.web.pages.visit import Page, Visit

_examining = asyncio.Lock()


async def show(visit: Visit) -> Page:
    """The effective values with their sources, secrets masked, the logins, and how to connect a client."""
    return await _page(visit, None)


async def examine(visit: Visit) -> Page:
    """The same, with what the doctor finds now.

    Raises:
        Unavailable: it is already looking, or cannot.
    """
    site = visit.site
    if site.examine is None or _examining.locked():
        raise Unavailable("The doctor is already looking around. Try again in a few seconds.", code="doctor_busy")
    async with _examining:
        return await _page(visit, await site.examine())


async def _page(visit: Visit, checks: list[dict[str, Any]] | None) -> Page:
    settings = [one | {"value": written(one["value"])} for one in visit.site.sources.settings()]
    context = {
        "changed": [one for one in settings if not _is_default(one)],
        "defaults": [one for one in settings if _is_default(one)],
        "connect": connect.card(visit),
        "checks": checks,
        "can_examine": visit.site.examine is not None,
        "logins": await logins(visit),
    }
    return Page("settings.html", visit.text("shell.settings"), context)


def _is_default(setting: dict[str, Any]) -> bool:
    return setting["source"] in (None, "default")


def written(value: Any) -> str | None:
    """A value as it is written in the environment; None for one that is not set."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or None
    return None if value is None or value == "" else str(value)
