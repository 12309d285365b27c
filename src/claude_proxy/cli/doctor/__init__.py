"""`claude-proxy doctor`: what works, what does not, and what to do about it. Nothing it does is billed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from claude_proxy.cleaning import visible
from claude_proxy.cli.arguments import AppFile, AsJson, ConfigFile
from claude_proxy.cli.doctor import local, upstreams
from claude_proxy.cli.doctor.check import Check, Checks, fail, run_all
from claude_proxy.cli.doctor.notices import ntfy
from claude_proxy.cli.output import console, write_json
from claude_proxy.cli.project import user_settings
from claude_proxy.errors import SettingsError

if TYPE_CHECKING:
    from rich.text import Text

LIMIT = 15.0  # seconds for everything
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(as_json: AsJson = False, config: ConfigFile = None, app: AppFile = None) -> None:
    """Check settings, port, network, TLS, upstream, credential and clock; say how to fix each failure.

    Exits with 1 if a check failed, with 0 if there are only warnings. No request it makes is billed.
    """
    screen = console()
    if as_json or not screen.is_terminal:
        checks = examine(config, app)
    else:
        with screen.status("Looking around ..."):
            checks = examine(config, app)
    failed = sum(check.state == "fail" for check in checks)
    if as_json:
        write_json({"ok": failed == 0, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            screen.print(line(check), soft_wrap=True)
        screen.print(summary(checks), soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def examine(config: Path | None, app: Path | None = None) -> list[Check]:
    """Run all checks in parallel; without valid settings, only those that need none."""
    groups: dict[str, Callable[[], Checks]] = {"version": local.versions, "claude": local.claude}
    try:
        loaded = user_settings(config, app)
    except SettingsError as error:
        broken = fail("settings", error.message, "Correct it there; claude-proxy config show --docs lists all settings.")
        return [*run_all(groups, LIMIT), broken]
    found = loaded.settings
    groups |= {
        "settings": lambda: local.settings(loaded),
        "port": lambda: local.port(found),
        "data": lambda: local.data_dir(found),
        "client": lambda: local.client_side(found, os.environ),
        **upstreams.groups(loaded, os.environ),
        "ntfy": lambda: ntfy(found),
    }
    return run_all(groups, LIMIT)


def line(check: Check) -> Text:
    """Format a check as one line, and its fix as another."""
    from rich.text import Text

    text = Text.assemble((f"{check.state:<5}", STYLES[check.state]), f"{check.name:<11}", visible(check.detail))
    if check.fix:
        text.append(f"\n{'':<16}fix: ", style="dim").append(visible(check.fix))
    return text


def summary(checks: list[Check]) -> str:
    """Return the result in one line."""
    failed, warned = (sum(check.state == state for check in checks) for state in ("fail", "warn"))
    if failed:
        return f"\n{failed} failed, {warned} to note. Fix the first failure first: others may follow from it."
    return f"\nNothing failed, {warned} to note." if warned else "\nAll in order."
