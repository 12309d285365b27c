"""The settings as `serve` reads them, and the app in a named `proxy.py`. Never searches the working directory."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claude_proxy.cli.output import say
from claude_proxy.errors import SettingsError
from claude_proxy.settings import Loaded, load, unread_sentence, visible

FACTORY = "claude_proxy.app:create_app"


def default_base_url(file: Path) -> str | None:
    """Return the string that a `proxy.py` assigns to BASE_URL, without running the file.

    The user documents say to change the upstream there; the environment and the settings file override it.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
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


def app_from(file: Path) -> Any:
    """Run a named `proxy.py` and return its `app`. It can import modules next to it, as under `fastapi run FILE`.

    Raises:
        SettingsError: it is not valid Python, or has no `app`. Its own exceptions propagate.
    """
    sys.path.insert(0, str(file.parent))
    name = file.stem if file.stem not in sys.modules else f"claude_proxy_app_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"--app {visible(file)}: expected a Python file, such as proxy.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "app"):
        raise SettingsError(f"--app {visible(file)}: expected a file that defines `app`, as proxy.py does.")
    return module.app


def read_settings(
    config: Path | None = None, app: Path | None = None, *, environ: Mapping[str, str] | None = None, **given: Any
) -> Loaded:
    """Return the settings as `serve` would read them.

    Args:
        config: the file that `--config` names.
        app: the proxy.py that `--app` names.

    Raises:
        SettingsError: a bad value; see `claude_proxy.settings.load`.
    """
    base_url = None if app is None else default_base_url(app)
    defaults = {} if base_url is None else {"base_url": base_url}
    return load(os.environ if environ is None else environ, config=config, beside=app, defaults=defaults, **given)


def user_settings(config: Path | None = None, app: Path | None = None, **given: Any) -> Loaded:
    """Like `read_settings`, but warn on standard error about a settings file in the working directory, which is not read.

    Args:
        given: values of settings from the command line; None means not given.

    Raises:
        SettingsError: as in `read_settings`.
    """
    loaded = read_settings(config, app, **given)
    if loaded.unread is not None:
        say(f"Note: {unread_sentence(loaded.unread)}", err=True)
    return loaded
