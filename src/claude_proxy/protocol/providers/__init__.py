"""The one table of provider knowledge: a file per provider, found by the upstream's address.

To add a provider, add a file here that defines `PROVIDERS`. Nothing else has to change: the error table, the notices, the start
page, Claude Code's environment and the credential's header all ask this package (tests/architecture/test_providers.py).
"""

from __future__ import annotations

import importlib
import pkgutil
from urllib.parse import urlsplit

from claude_proxy.protocol.providers.base import Auth, Class, Code, Provider, Reset, Text
from claude_proxy.protocol.providers.generic import GENERIC

__all__ = ["GENERIC", "PROVIDERS", "Auth", "Class", "Code", "Provider", "Reset", "Text", "by_name", "find", "find_at"]


def _collect() -> tuple[Provider, ...]:
    """The providers of every module in this package, in alphabetical order of the modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(provider for module in modules for provider in getattr(module, "PROVIDERS", ()))


PROVIDERS = _collect()
_BY_NAME = {provider.name: provider for provider in PROVIDERS}


def find(host: str, port: int | None = None) -> Provider:
    """The provider behind an address, GENERIC if it is none that we know.

    Args:
        host: name or address, without port and brackets.
        port: where local servers are told apart.
    """
    name = host.lower().rstrip(".")
    return next((provider for provider in PROVIDERS if provider.serves(name, port)), GENERIC)


def find_at(base_url: str) -> Provider:
    """The provider behind a base URL, with or without its scheme; GENERIC for what is no URL."""
    try:
        parts = urlsplit(base_url if "//" in base_url else f"//{base_url}")
        return find(parts.hostname or "", parts.port)
    except ValueError:
        return GENERIC


def by_name(name: str | None) -> Provider:
    """The provider of that name; GENERIC if there is none."""
    return _BY_NAME.get(name or "", GENERIC)
