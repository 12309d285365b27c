"""docs/settings.md, made from the definition of the settings: `python -m claude_proxy.cli.settings_docs > docs/settings.md`."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import typer

from claude_proxy.cli.values import shown, text
from claude_proxy.settings import MIB, SECRETS, Settings

HEAD = """\
# Settings

<!-- Made by `claude-proxy config show --docs > docs/settings.md`; change src/claude_proxy/settings.py instead. -->

A value comes from, first found wins:

1. an option of the command line (`claude-proxy serve --help`),
2. the environment, under the name in the table; an empty variable counts as not set,
3. `claude-proxy.toml` in the working directory, under the same name in small letters
   (`--config FILE` or `CLAUDE_PROXY_CONFIG` names another file),
4. for `BASE_URL`: the constant in `proxy.py`,
5. the default.

```toml
# claude-proxy.toml
base_url = "https://api.z.ai/api/anthropic"
port = 3000
stream_idle_timeout = 300
```

`claude-proxy config show` prints every value and where it came from. A bad value or an unknown name in the file stops
the start with one sentence. A secret can be read from a file: `PROXY_API_KEY_FILE=/run/secrets/key`.
Sizes are bytes or have a unit (`64MiB`, `64MB`); times are seconds; lists are separated by commas.

| Environment | Default | Meaning |
|---|---|---|
"""
NO_DEFAULT = {"data_dir": "the platform's folder for user data", "upstream_auth": "by the upstream's host"}


def render() -> str:
    """The page as Markdown."""
    lines = [f"| {environment(name)} | {default(name)} | {meaning(name)} |" for name in Settings.model_fields]
    return HEAD + "\n".join(lines) + "\n"


def environment(name: str) -> str:
    """The variable's name, for a secret with the one that names its file."""
    variable = f"`{name.upper()}`"
    return f"{variable}, `{name.upper()}_FILE`" if name in SECRETS else variable


def default(name: str) -> str:
    """The default as a user would write it."""
    if name in NO_DEFAULT:
        return NO_DEFAULT[name]
    value = shown(Settings.model_fields[name].default)
    if isinstance(value, int) and not isinstance(value, bool) and value >= MIB and value % MIB == 0:
        return f"`{value // MIB}MiB`"
    return "none" if text(value) == "-" else f"`{text(value)}`"


def meaning(name: str) -> str:
    """The description, with the words that are allowed where it does not name them."""
    field = Settings.model_fields[name]
    description = (field.description or "").replace("|", "\\|")
    words = choices(field.annotation)
    named = all(word in description for word in words)
    return description if named else f"{description} Values: {', '.join(f'`{word}`' for word in words)}."


def choices(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal, also within `Literal[...] | None`."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for part in get_args(annotation) for word in choices(part))


if __name__ == "__main__":
    typer.echo(render(), nl=False)
