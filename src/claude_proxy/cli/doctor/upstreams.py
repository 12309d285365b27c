"""Checks each `[[upstream]]` of the settings file and its accounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from claude_proxy.accounts import header_of, make_routes, make_upstreams, provider_of
from claude_proxy.cli.doctor.check import Check, Checks, fail, ok, warn
from claude_proxy.cli.doctor.way import Credential, upstream
from claude_proxy.errors import SettingsError
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Provider
from claude_proxy.settings import Loaded, Settings, UpstreamSettings


def groups(loaded: Loaded, environ: Mapping[str, str]) -> dict[str, Callable[[], Checks]]:
    """Return the groups of checks: one for each upstream, and one for what they are together."""
    if not loaded.tables.upstreams:
        return {"upstream": lambda: upstream(loaded.settings, environ)}
    found: dict[str, Callable[[], Checks]] = {"routes": lambda: together(loaded)}
    for wanted in loaded.upstreams:
        found[f"upstream {wanted.name}"] = lambda wanted=wanted: one(wanted, loaded.settings, environ)  # type: ignore[misc]
    return found


def together(loaded: Loaded) -> Checks:
    """Check that the proxy would start with these upstreams and routes."""
    try:
        made = make_upstreams(loaded.upstreams, make_routes(loaded.tables.routes), loaded.settings)
    except SettingsError as error:
        yield fail("routes", error.message, "Correct it there (docs/accounts.md).")
        return
    accounts = sum(len(one.accounts) for one in made)
    held = counted(accounts, "account") if accounts else "each client sends its own credential"
    yield ok("routes", f"{counted(len(made), 'upstream')}, {held}, {counted(len(loaded.tables.routes), 'route')}")


def counted(count: int, word: str) -> str:
    """Return a number and its noun."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def one(wanted: UpstreamSettings, settings: Settings, environ: Mapping[str, str]) -> Checks:
    """Check one upstream: its provider, the way to it, and each of its accounts."""
    try:
        provider = provider_of(wanted)
    except SettingsError as error:
        yield fail("provider", error.message, "Correct it there, or leave it out.")
        return
    yield known(wanted, provider)
    held = []
    for account in wanted.accounts:
        name, value = header_of(account, provider)
        held.append(Credential((name.decode(), value.decode()), f'account "{account.name}" ({account.source})'))
    for check in upstream(settings.model_copy(update={"base_url": wanted.base_url}), environ, held=held, provider=provider):
        yield of_table(check, wanted.name)


def known(wanted: UpstreamSettings, provider: Provider) -> Check:
    """Say whose rules an upstream is judged by."""
    if provider is GENERIC:
        names = ", ".join(sorted(one.name for one in PROVIDERS if one is not GENERIC))
        fix = f"If it speaks for one of these, name it with provider: {names}."
        return warn("provider", f"{wanted.name}: none that is known: its errors are judged by the general rules", fix)
    return ok("provider", f"{wanted.name}: {provider.name}")


def of_table(check: Check, name: str) -> Check:
    """Name the upstream in a check, and its address as the table does."""
    detail, fix = (text.replace("BASE_URL", "base_url") for text in (check.detail, check.fix))
    return dataclasses.replace(check, detail=f"{name}: {detail}", fix=fix)
