"""The logins on *Settings*: which browsers may look, and logging them out."""

from __future__ import annotations

import asyncio
from typing import Any

from claude_proxy.web.admin import viewer_of
from claude_proxy.web.api.logins import shown
from claude_proxy.web.login import form_of
from claude_proxy.web.pages.browsers import browser_name
from claude_proxy.web.pages.visit import Page, Visit


async def logins(visit: Visit) -> dict[str, Any]:
    """What the section shows: the logins, the one of this browser first, and where they are kept."""
    viewer, viewers = viewer_of(visit.request)
    current = None if viewer.login is None else viewer.login.id
    found = [shown(one, current) for one in await asyncio.to_thread(viewers.logins.all)]
    items = [one | {"name": browser_name(one["browser"])} for one in found]
    items.sort(key=lambda one: not one["current"])
    others = len(items) - (current is not None)
    return {"items": items, "others": others, "kept": viewers.logins.kept.name.lower(), "by": viewer.by}


async def revoke(visit: Visit) -> Page:
    """Log out the browser that the form's `id` names, or with `others` all but this one, and show the list again.

    A login that is no longer there is what was asked for.

    Raises:
        BadRequest: it is not a form.
        Unavailable: a login cannot be removed from DATA_DIR.
    """
    viewer, viewers = viewer_of(visit.request)
    fields = await form_of(visit.request)
    if "others" in fields:
        await viewers.revoke_others(viewer)
    elif "id" in fields:
        await viewers.revoke(fields["id"])
    return visit.sent_to("settings#logins")
