"""An incident as `GET /api/v1/incidents` shows it, from memory or from the books."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from claude_proxy import ids
from claude_proxy.notify.events import Report


def shown(report: Report) -> dict[str, Any]:
    """The item of an incident."""
    return {
        "id": ids.encode(report.id),
        "upstream": report.upstream,
        "code": report.code,
        "meaning": report.meaning,
        "message": report.message,
        "fix": report.fix,
        "failing": report.closed is None,
        "opened_at": _rfc3339(report.opened),
        "last_failed_at": _rfc3339(report.seen),
        "closed_at": None if report.closed is None else _rfc3339(report.closed),
        "failures": report.failures,
        "told": report.told,
        "pushed": [{"at": _rfc3339(at), "title": title} for at, title in report.pushed],
    }


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
