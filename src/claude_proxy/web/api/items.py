"""Upstreams and settings as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from claude_proxy.routing.snapshot import UP
from claude_proxy.settings import SECRETS, Settings, shown

if TYPE_CHECKING:
    from claude_proxy.observe.live import Live
    from claude_proxy.proxy.config import Upstream
    from claude_proxy.routing.snapshot import LaneView, UpstreamView


def upstream(of: Upstream, live: Live, queued: UpstreamView | None = None, epoch: float = 0.0) -> dict[str, Any]:
    """An upstream as the API shows it.

    Args:
        queued: what the queue knows of it.
        epoch: what to add to the queue's clock to get Unix seconds.
    """
    running, state = live.of_upstream(of.name)
    if queued is not None and state == UP:
        state = queued.state
    lanes = {} if queued is None else {lane.name.partition("/")[2]: lane for lane in queued.lanes}
    held = {one.name: {**_UNUSED, "name": one.name, "limit": one.starting_limit} for one in of.accounts}
    seen = {name: account(name, lane, epoch) for name, lane in lanes.items() if name in held or (not held and _in_use(lane))}
    return {
        "name": of.name,
        "base_url": of.base_url,
        "provider": of.provider.label,
        "state": state,
        "back_at": None if queued is None else _rfc3339(queued.back_at, epoch),
        "credential": "client" if of.credential is None else "held",
        "running": running,
        "waiting": 0 if queued is None else queued.waiting,
        "connections": len(of.pool),
        "accounts": list((held | seen).values()),
    }


def account(name: str, lane: LaneView, epoch: float) -> dict[str, Any]:
    """An account as the API shows it; arguments as in `upstream`."""
    return {
        "name": name,
        "state": lane.state,
        "reason": lane.out_reason,
        "back_at": _rfc3339(lane.back_at, epoch),
        "limit": lane.limit,
        "running": lane.in_flight,
        "waiting": lane.waiting,
    }


_UNUSED = {"name": "", "state": UP, "reason": "", "back_at": None, "limit": None, "running": 0, "waiting": 0}


def _in_use(lane: LaneView) -> bool:
    return bool(lane.in_flight or lane.waiting or lane.state != UP)


def _rfc3339(at: float | None, epoch: float) -> str | None:
    """To the second: what is added to the clock is never quite the same."""
    if at is None:
        return None
    return datetime.fromtimestamp(round(at + epoch), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def setting(settings: Settings, name: str, origins: Mapping[str, str]) -> dict[str, Any]:
    """A setting as the API shows it."""
    return {
        "name": name.upper(),
        "value": shown(getattr(settings, name)),
        "source": origins.get(name),
        "secret": name in SECRETS,
        "description": Settings.model_fields[name].description or "",
    }
