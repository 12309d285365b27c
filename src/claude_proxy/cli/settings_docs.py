"""docs/settings.md, made from the definition of the settings: `python -m claude_proxy.cli.settings_docs > docs/settings.md`."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

from claude_proxy.cli.values import text
from claude_proxy.settings import MIB, SECRETS, GunicornSettings, ProxySettings, Settings, shown

HEAD = """\
# Settings

<!-- Made by `claude-proxy config show --docs > docs/settings.md`; change src/claude_proxy/settings/ instead. -->

A value comes from, first found wins:

1. an option of the command line (`claude-proxy serve --help`),
2. the environment, under the name in the table; an empty variable counts as not set,
3. the file of settings, under the same name in small letters,
4. for `BASE_URL`: the constant in the `proxy.py` that is served,
5. the default.

```toml
# claude-proxy.toml
base_url = "https://api.z.ai/api/anthropic"
port = 3000
stream_idle_timeout = 300
```

## Which file is read

Exactly one is read, the first of these:

1. the file that `--config FILE` names,
2. the file that `CLAUDE_PROXY_CONFIG` names, by an absolute path,
3. `claude-proxy.toml` in your own configuration folder, if it is there: `~/.config/claude-proxy/` (or below `XDG_CONFIG_HOME`),
   on a Mac `~/Library/Application Support/claude-proxy/`, on Windows `%LOCALAPPDATA%\\claude-proxy\\`,
4. where a `proxy.py` is named (`claude-proxy serve --app proxy.py`, as `make run` and the image do; `fastapi run PATH`;
   `uvicorn` or `gunicorn` with `proxy:app`): `claude-proxy.toml` beside that file, if it is there.

The folder you stand in plays no part: somebody else's checkout must not be able to say where your key goes. A
`claude-proxy.toml` that lies there unread is pointed out in one line. `claude-proxy config show` names every file that was
looked for and the one that was read, and prints every value and where it came from; `claude-proxy config path` prints where
yours is, or would be.

## How values are written

A bad value or an unknown name in the file stops the start with one sentence. Space, quotes, line ends and a byte-order mark
around a value are dropped, and so is the `Bearer` before a key; an invisible character inside a value is refused. Sizes are
bytes or have a unit (`64MiB`, `64MB`); times are seconds; lists are separated by commas. A secret can be read from a file:
`PROXY_API_KEY_FILE=/run/secrets/key`. A relative path in the file of settings begins at that file's folder.
"""
PROXY = """
## The proxy

"""
SERVER = """
## The server

`claude-proxy serve` and gunicorn with `gunicorn_conf.py` go by these ([serve.md](serve.md), [servers.md](servers.md)).
`APP_MODULE`, `MODULE_NAME` and `VARIABLE_NAME` are read from the environment only.

"""
GUNICORN = """
## gunicorn alone

Only `gunicorn_conf.py` reads these, and from the environment only. Under `serve` they have no effect, and the start says so.

"""
TABLE = """\
| Environment | Default | Meaning |
|---|---|---|
"""
TAIL = """
## Upstreams in the file

Instead of `BASE_URL`, `UPSTREAM_API_KEY` and `UPSTREAM_AUTH` the file can describe the upstream in a table. This version
serves one upstream with at most one account; more of them, `[[route]]`, `models`, `map` and `max_concurrency` are checked and
then refused with a sentence. `BASE_URL` beside a table is refused too.

```toml
# claude-proxy.toml
[[upstream]]
name = "work"
base_url = "https://api.z.ai/api/anthropic"

[[upstream.account]]
name = "mine"
key_env = "ZAI_API_KEY"
```

| Key of `[[upstream]]` | Meaning |
|---|---|
| `name` | what the log, the notices and the page call it |
| `base_url` | where requests go, without /v1 |
| `provider` | whose API it is; by default told from the host |
| `priority`, `weight` | which upstream is asked first, and how new sessions are shared among equals |
| `[[upstream.account]]` | a credential: `name`, `key_env` (the variable that holds the key) or `key_file` (the file that \
does), `auth` (`bearer` or `x-api-key`) |
"""
NO_DEFAULT = {
    "data_dir": "the platform's folder for user data",
    "timezone": "`TZ`, else `UTC`",
    "upstream_auth": "by the upstream's host",
    "web_concurrency": "`1`",
    "pre_start_path": "`/app/prestart.sh`, if it is there",
    "variable_name": "`app`",
    "error_log": "`-`",
}


def render() -> str:
    """The page as Markdown."""
    groups = ((PROXY, ProxySettings, BaseModel), (SERVER, Settings, ProxySettings), (GUNICORN, GunicornSettings, Settings))
    return HEAD + "".join(head + TABLE + table(kind, below) for head, kind, below in groups) + TAIL


def table(kind: type[ProxySettings], below: type[BaseModel]) -> str:
    """The rows of the settings that `kind` has and `below` has not."""
    names = [name for name in kind.model_fields if name not in below.model_fields]
    return "".join(f"| {environment(name)} | {default(name)} | {meaning(name)} |\n" for name in names)


def environment(name: str) -> str:
    """The variable's name, for a secret with the one that names its file."""
    variable = f"`{name.upper()}`"
    return f"{variable}, `{name.upper()}_FILE`" if name in SECRETS else variable


def default(name: str) -> str:
    """The default as a user would write it."""
    if name in NO_DEFAULT:
        return NO_DEFAULT[name]
    value = shown(GunicornSettings.model_fields[name].default)
    if isinstance(value, int) and not isinstance(value, bool) and value >= MIB and value % MIB == 0:
        return f"`{value // MIB}MiB`"
    return "none" if text(value) in ("-", "") else f"`{text(value)}`"


def meaning(name: str) -> str:
    """The description, with the words that are allowed where it does not name them."""
    field = GunicornSettings.model_fields[name]
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
