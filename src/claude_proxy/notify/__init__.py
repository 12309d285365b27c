"""Notices: tells a person through ntfy when an upstream or this proxy fails, keeps failing, and recovers.

The names are imported when they are used: the page needs only `advice` and `showing`, not the notifier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claude_proxy.notify.events import Figures, QuotaWindow, Report
    from claude_proxy.notify.notice import Notice
    from claude_proxy.notify.notifier import CLOSE_TIMEOUT, Notifier, Surroundings, secrets_of, sender
    from claude_proxy.notify.showing import shown

__all__ = [
    "CLOSE_TIMEOUT",
    "Figures",
    "Notice",
    "Notifier",
    "QuotaWindow",
    "Report",
    "Surroundings",
    "secrets_of",
    "sender",
    "shown",
]
_WHERE = {
    "Figures": "events", "QuotaWindow": "events", "Report": "events", "Notice": "notice", "shown": "showing"
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE.get(name, 'notifier')}"), name)
