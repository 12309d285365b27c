"""What the working directory says: a `proxy.py` with its `BASE_URL`, and the app to run."""

from __future__ import annotations

import ast
import os
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


def app_target(folder: Path | None = None) -> tuple[str, bool]:
    """The app that `serve` runs by default, as an import string, and whether that names a factory.

    `proxy.py` in the working directory goes before the built-in app; the environment (APP_MODULE) before both.
    """
    return ("proxy:app", False) if proxy_source(folder) is not None else (FACTORY, True)


def read_settings(config: Path | None = None, environ: Mapping[str, str] | None = None, **given: Any) -> Loaded:
    """The settings as `serve` in this directory would read them; BIND (the documents' name) goes before HOST and PORT.

    Raises:
        SettingsError: a bad value, as `claude_proxy.settings.load` says it.
    """
    environ = os.environ if environ is None else environ
    base_url = default_base_url()
    bound = {name: value for name, value in _bind(environ).items() if given.get(name) is None}
    loaded = load(environ, config=config, defaults={} if base_url is None else {"base_url": base_url}, **{**given, **bound})
    return Loaded(loaded.settings, {**loaded.sources, **dict.fromkeys(bound, "env BIND")})


def _bind(environ: Mapping[str, str]) -> dict[str, str]:
    host, colon, port = environ.get("BIND", "").strip().rpartition(":")
    return {"host": host.strip("[]"), "port": port} if colon and host and host != "unix" else {}
