"""What the working directory says: a `proxy.py` with its `BASE_URL`, and the app to run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claude_proxy.settings import Loaded, load

PROXY_FILE = "proxy.py"
FACTORY = "claude_proxy.app:create_app"


def proxy_source(folder: Path | None = None) -> str | None:
    """The text of `proxy.py` in `folder` (default: the working directory); None unless it uses this package."""
    try:
        text = ((folder or Path()) / PROXY_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if "claude_proxy" in text else None


def default_base_url(folder: Path | None = None) -> str | None:
    """The string that `proxy.py` assigns to BASE_URL, read without running the file.

    That is where the user documents say to change the upstream; the environment and claude-proxy.toml go before it.
    """
    source = proxy_source(folder)
    if source is None:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    return next((text for node in tree.body if (text := _base_url(node)) is not None), None)


def _base_url(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets, value = [node.target], node.value
    else:
        return None
    named = any(isinstance(target, ast.Name) and target.id == "BASE_URL" for target in targets)
    return value.value if named and isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def app_target(environ: Mapping[str, str], folder: Path | None = None) -> tuple[str, bool]:
    """The app that `serve` runs, as an import string, and whether that names a factory.

    APP_MODULE goes first (the documents' name), then `proxy.py` in the working directory, then the built-in app.
    """
    if environ.get("APP_MODULE"):
        return environ["APP_MODULE"], False
    return ("proxy:app", False) if proxy_source(folder) is not None else (FACTORY, True)


def read_settings(config: Path | None = None, environ: Mapping[str, str] | None = None, **given: Any) -> Loaded:
    """The settings as `serve` in this directory would read them.

    Raises:
        SettingsError: a bad value, as `claude_proxy.settings.load` says it.
    """
    base_url = default_base_url()
    return load(environ, config=config, defaults={} if base_url is None else {"base_url": base_url}, **given)
