"""Upstreams and settings as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from claude_proxy.settings import SECRETS, Settings, shown

if TYPE_CHECKING:
    from claude_proxy.observe.live import Live
    from claude_proxy.proxy.config import Upstream


def upstream(of: Upstream, live: Live) -> dict[str, Any]:
    """An upstream as the API shows it."""
    running, state = live.of_upstream(of.name)
    return {
        "name": of.name,
        "base_url": of.base_url,
        "provider": of.provider.label,
        "state": state,
        "credential": "client" if of.credential is None else "held",
        "running": running,
        "connections": len(of.pool),
    }


def setting(settings: Settings, name: str, origins: Mapping[str, str]) -> dict[str, Any]:
    """A setting as the API shows it."""
    return {
        "name": name.upper(),
        "value": shown(getattr(settings, name)),
        "source": origins.get(name),
        "secret": name in SECRETS,
        "description": Settings.model_fields[name].description or "",
    }
