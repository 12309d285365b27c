"""Xiaomi MiMo: an Anthropic-compatible API of which only the address is known."""

from __future__ import annotations

from claude_proxy.protocol.providers.base import Provider

PROVIDERS = (Provider(name="xiaomi", label="Xiaomi MiMo", domains=("xiaomimimo.com",), families=("mimo-",)),)
