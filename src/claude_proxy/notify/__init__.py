"""Notices: tells a person through ntfy when an upstream or this proxy fails, keeps failing, and recovers."""

from __future__ import annotations

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
