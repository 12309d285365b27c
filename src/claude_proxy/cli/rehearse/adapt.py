"""The user's own settings, changed so that nothing leaves this machine: simulated upstreams, made-up keys, no real ntfy.

What is not in the way stays as it is: routes, priorities, limits, queue, the rules of notices. The settings file is rewritten
with the tables that the user has, so keys of tables that this module does not know are kept too.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_proxy.protocol.providers import find_at
from claude_proxy.settings import CONFIG_VARIABLE, SECRETS, Loaded, Settings
from claude_proxy.settings.definition import ENVIRONMENT_ONLY, PATHS
from claude_proxy.settings.tables import TABLE_NAMES

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
DURATIONS = ("response_head_timeout", "stream_idle_timeout", "first_event_wait", "ping_interval", "queue_wait")
LEAST = 0.2  # seconds; a shorter timeout would measure this machine, not the script
OURS = {
    "host": "127.0.0.1",
    "port": 0,
    "log_level": "info",
    "log_format": "json",
    "ntfy_topic": "rehearsal",
    "ntfy_via": "http",
}
DROPPED = {
    *("bind", "database_url", "pre_start_path", "data_dir"),
    *("base_url", "upstream_auth", "upstream_ca_file"),
    *("ntfy_server", "ntfy_user", "ntfy_password"),
}
CLIENT_KEY = "rehearsal-client-key"


@dataclass(frozen=True, slots=True)
class SimulatedUpstream:
    """One upstream of the user's settings.

    Attributes:
        keys: what stands in for the keys that the proxy holds there, one for each account; none if clients send their own.
        models: patterns of the models that it serves.
    """

    name: str
    provider: str
    keys: tuple[str, ...]
    models: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Adapted:
    """The user's settings for a rehearsal.

    Attributes:
        client_key: what clients have to send to the proxy; None if it asks for none.
        notices: whether the user's own settings send notices.
        file: the settings file that they were read from.
    """

    upstreams: tuple[SimulatedUpstream, ...]
    client_key: str | None
    notices: bool
    file: Path | None
    _document: dict[str, Any]
    _tables: tuple[dict[str, Any], ...]
    _environ: dict[str, str]

    def toml(self, base_urls: Sequence[str], ntfy: str, data_dir: Path) -> str:
        """Return the settings file.

        Args:
            base_urls: of the simulated upstreams, in order.
        """
        own = {**self._document, "ntfy_server": ntfy, "data_dir": str(data_dir)}
        tables = [{**table, "base_url": url} for table, url in zip(self._tables, base_urls, strict=True)]
        return to_toml({**own, "upstream": tables})

    def environ(self) -> dict[str, str]:
        """Return the environment of the proxy."""
        return dict(self._environ)


def adapt(loaded: Loaded, environ: Mapping[str, str], speed: float) -> Adapted:
    """Return `loaded` as a rehearsal runs it.

    Args:
        environ: what `loaded` was read from.
        speed: by which the timeouts that a script plays with are divided.
    """
    document = {} if loaded.file is None else tomllib.loads(loaded.file.read_text(encoding="utf-8"))
    tables = document.get("upstream") or [_default_table(loaded.settings)]
    changed: list[dict[str, Any]] = []
    keys: dict[str, str] = {}
    upstreams: list[SimulatedUpstream] = []
    for number, table in enumerate(tables, 1):
        upstream, adapted, held = _table(table, number)
        changed.append(adapted)
        keys |= held
        upstreams.append(upstream)
    asks = loaded.settings.proxy_api_key is not None
    own = {name: _absolute(name, value, loaded.file) for name, value in document.items() if _stays(name)}
    own |= OURS | _shortened(loaded.settings, speed) | ({"proxy_api_key": CLIENT_KEY} if asks else {})
    if "route" in document:
        own["route"] = document["route"]
    secret = {account.get("key_env", "") for table in tables for account in table.get("account", [])}
    return Adapted(
        tuple(upstreams),
        CLIENT_KEY if asks else None,
        loaded.settings.ntfy_topic is not None,
        loaded.file,
        own,
        tuple(changed),
        {name: value for name, value in environ.items() if _is_harmless(name) and name not in secret} | keys,
    )


def _default_table(settings: Settings) -> dict[str, Any]:
    """BASE_URL and its like as the table that means the same."""
    table: dict[str, Any] = {"name": "default", "base_url": settings.base_url}
    if settings.upstream_api_key is not None:
        account = {"name": "default", "key_env": "UPSTREAM_API_KEY"}
        table["account"] = [account | ({"auth": settings.upstream_auth} if settings.upstream_auth else {})]
    return table


def _table(table: Mapping[str, Any], number: int) -> tuple[SimulatedUpstream, dict[str, Any], dict[str, str]]:
    """A table with made-up keys, and those keys by the variable that holds each."""
    provider = find_at(str(table["base_url"]))
    name = str(table.get("provider", provider.name))
    accounts, held = [], {}
    for at, account in enumerate(table.get("account", []), 1):
        variable = f"REHEARSAL_KEY_{number}_{at}"
        held[variable] = f"rehearsal-key-{number}-{at}"
        kept = {key: value for key, value in account.items() if key not in ("key_env", "key_file")}
        accounts.append({"auth": provider.auth, **kept, "key_env": variable})
    adapted = {**table, "provider": name, **({"account": accounts} if accounts else {})}
    models = tuple(map(str, table.get("models", ("*",))))
    return SimulatedUpstream(str(table["name"]), name, tuple(held.values()), models), adapted, held


def _shortened(settings: Settings, speed: float) -> dict[str, float]:
    found = {name: getattr(settings, name, None) for name in DURATIONS}
    return {name: max(LEAST, value / speed) for name, value in found.items() if isinstance(value, int | float) and value > 0}


def _stays(name: str) -> bool:
    return name not in (*TABLE_NAMES, *SECRETS, *DROPPED, *OURS, *DURATIONS)


def _is_harmless(variable: str) -> bool:
    """Whether the proxy of a rehearsal may have a variable of the user's environment."""
    name = variable.upper().removesuffix("_FILE").lower()
    if name.startswith("anthropic_") or name.upper() in (*PROXIES, CONFIG_VARIABLE):
        return False
    return _stays(name) and name not in ENVIRONMENT_ONLY


def _absolute(name: str, value: Any, file: Path | None) -> Any:
    return str(file.parent / value) if file is not None and name in PATHS and isinstance(value, str) and value else value


def to_toml(document: Mapping[str, Any], prefix: str = "") -> str:
    """Return a document as TOML: values first, then tables, then lists of tables."""
    lines = [f"{_key(name)} = {_value(value)}" for name, value in document.items() if not _is_table(value)]
    for name, value in document.items():
        title = f"{prefix}{_key(name)}"
        if isinstance(value, Mapping):
            lines += ["", f"[{title}]", to_toml(value, f"{title}.")]
        elif _is_table(value):
            for one in value:
                lines += ["", f"[[{title}]]", to_toml(one, f"{title}.")]
    return "\n".join(lines)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping))


def _key(name: str) -> str:
    return _quoted(name)


def _quoted(text: str) -> str:
    """A basic string of TOML, which is one of JSON but for a control character that JSON leaves alone."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return value.isoformat() if hasattr(value, "isoformat") else _quoted(str(value))
