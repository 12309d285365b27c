"""Everything that the proxy knows about providers, one file per provider; looked up by the upstream's address.

To add a provider, add a file that defines `PROVIDERS`. Nothing else has to change: the error table, the notices, the start page,
Claude Code's environment and the credential's header all use this package (tests/architecture/test_providers.py).
"""

from __future__ import annotations

import importlib
import pkgutil
from urllib.parse import urlsplit

from claude_proxy.protocol.providers.base import Auth, Class, Code, Provider, Reset, Text
from claude_proxy.protocol.providers.generic import GENERIC

__all__ = ["GENERIC", "PROVIDERS", "Auth", "Class", "Code", "Provider", "Reset", "Text", "by_name", "find", "find_at"]


def _collect() -> tuple[Provider, ...]:
    """Return the providers of every module in this package, by the modules' alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(provider for module in modules for provider in getattr(module, "PROVIDERS", ()))


PROVIDERS = _collect()
_BY_NAME = {provider.name: provider for provider in PROVIDERS}


def find(host: str, port: int | None = None) -> Provider:
    """Return the provider at an address; GENERIC if it is unknown.

    Args:
        host: name or address, without port and brackets.
        port: distinguishes local servers.
    """
    name = host.lower().rstrip(".")
    return next((provider for provider in PROVIDERS if provider.serves(name, port)), GENERIC)


def find_at(base_url: str) -> Provider:
    """Return the provider at a base URL, with or without its scheme; GENERIC for an invalid URL."""
    try:
        parts = urlsplit(base_url if "//" in base_url else f"//{base_url}")
        return find(parts.hostname or "", parts.port)
    except ValueError:
        return GENERIC


def by_name(name: str | None) -> Provider:
    """Return the provider of this name; GENERIC if there is none."""
    return _BY_NAME.get(name or "", GENERIC)
