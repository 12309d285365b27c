"""Loads and validates settings from the command line, the environment and one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from claude_proxy.cleaning import visible
from claude_proxy.errors import SettingsError
from claude_proxy.settings.cleaning import clean, clean_value, flaw
from claude_proxy.settings.definition import ENVIRONMENT_ONLY, PATHS, SECRETS, Settings
from claude_proxy.settings.files import read_text, read_toml
from claude_proxy.settings.kinds import parse_bind
from claude_proxy.settings.places import Place, look, unread
from claude_proxy.settings.problems import LISTED, expectation, meant, without_credentials
from claude_proxy.settings.tables import NO_TABLES, TABLE_NAMES, Tables, parse_tables
from claude_proxy.settings.upstreams import DEFAULT_NAME, UpstreamSettings, default_upstream, with_keys

Layer = dict[str, tuple[Any, str]]  # for each name that one source sets: the value, and where it was set
_OF_AN_UPSTREAM = ("base_url", "upstream_api_key", "upstream_auth")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where they come from.

    Attributes:
        sources: for each field, where its value came from: `env BASE_URL`, a path, `default` ...
        places: the files that were looked for, and which of them was read.
        unread: a claude-proxy.toml in the working directory that was not read.
        tables: `[[upstream]]` and `[[route]]` of the file.
        upstreams: the upstreams in force with their keys, in the file's order; without a table the one of BASE_URL.
        key_files: the files that hold the keys of upstreams.
    """

    settings: Settings
    sources: Mapping[str, str]
    places: tuple[Place, ...] = ()
    unread: Path | None = None
    tables: Tables = NO_TABLES
    upstreams: tuple[UpstreamSettings, ...] = ()
    key_files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Loaded:
        """Return settings that were not read from anywhere, with the upstream that they describe."""
        return cls(settings, {}, upstreams=(default_upstream(settings),))

    @property
    def watched(self) -> tuple[Path, ...]:
        """The files whose change calls for a reload; some of them may be missing."""
        return (*(place.path for place in self.places), *self.key_files)

    @property
    def file(self) -> Path | None:
        """The file that was read."""
        return next((place.path for place in self.places if place.state == "read"), None)

    @property
    def upstream_name(self) -> str:
        """The name of the first upstream, from its `[[upstream]]`, else `default`."""
        return self.upstreams[0].name if self.upstreams else DEFAULT_NAME


def load(
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
    beside: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
    definition: type[Settings] = Settings,
    **given: Any,
) -> Loaded:
    """Read the settings. For each value the first source wins: `given`, the environment, the file, `defaults`, our defaults.

    Args:
        environ: by default os.environ.
        config: the TOML file that `--config` names.
        beside: the named proxy.py, which may have a claude-proxy.toml next to it (settings/places.py has the order).
        defaults: defaults that replace ours (proxy.py's BASE_URL).
        definition: which settings to read.
        given: values from the command line; None means not given.

    Raises:
        SettingsError: names the setting, where it was set, its value (never a secret's) and what was expected.
    """
    environ = os.environ if environ is None else environ
    places = look(environ, config, beside)
    file = next((place.path for place in places if place.state == "read"), None)
    of_file, tables = ({}, NO_TABLES) if file is None else _from_file(file, environ, definition)
    layers = (
        {name: (value, "proxy.py") for name, value in (defaults or {}).items()},
        of_file,
        _from_environ(environ, definition),
        {name: (_cleaned(name, value), "command line") for name, value in given.items() if value is not None},
    )
    upstreams: tuple[UpstreamSettings, ...] = ()
    if tables.upstreams:
        assert file is not None
        layers[0].clear()  # a table replaces the built-in upstream
        _refuse_second_upstream(layers, tables, file)
        upstreams = with_keys(tables, environ, file)
        of_file |= _of_first(upstreams[0], file)
    merged = _merged(layers)
    settings = _checked(definition, merged)
    sources = {name: merged[name][1] if name in merged else "default" for name in definition.model_fields}
    upstreams = upstreams or (default_upstream(settings, source=sources["upstream_api_key"]),)
    return Loaded(settings, sources, places, unread(places), tables, upstreams, _key_files(tables, file, environ))


def _key_files(tables: Tables, file: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    accounts = [account for upstream in tables.upstreams for account in upstream.account]
    found = [file.parent / account.key_file for account in accounts if file is not None and account.key_file is not None]
    if not accounts and (path := clean(environ.get("UPSTREAM_API_KEY_FILE", ""))):
        found.append(Path(path))
    return tuple(found)


def _of_first(upstream: UpstreamSettings, file: Path) -> Layer:
    """Return the first upstream as BASE_URL and its like, for what needs to know only one, or whether a key is held."""
    source = f'{file} [[upstream]] "{upstream.name}"'
    found: Layer = {"base_url": (upstream.base_url, source)}
    for account in upstream.accounts[:1]:
        found["upstream_api_key"] = (account.key, source)
        if account.auth is not None:
            found["upstream_auth"] = (account.auth, source)
    return found


def _cleaned(name: str, value: object) -> object:
    return clean_value(value, key=name in SECRETS)


def _from_environ(environ: Mapping[str, str], definition: type[Settings]) -> Layer:
    """Return what the environment sets. An empty variable counts as not set, as `NAME=` in a compose file means it."""
    found: Layer = {}
    for name in definition.model_fields:
        variable = name.upper()
        if value := _cleaned(name, environ.get(variable, "")):
            found[name] = (value, f"env {variable}")
        elif name in SECRETS and (path := clean(environ.get(f"{variable}_FILE", ""))):
            text = read_text(Path(path), f"{variable}_FILE={path}")
            found[name] = (_cleaned(name, text), f"env {variable}_FILE")
    return found


def _from_file(file: Path, environ: Mapping[str, str], definition: type[Settings]) -> tuple[Layer, Tables]:
    """Return what the file sets. A relative path in it is relative to the file's folder."""
    document = read_toml(file)
    tables = parse_tables(document, file)
    found: Layer = {}
    for name, value in document.items():
        if name in TABLE_NAMES:
            continue
        _refuse_unknown(name, file, definition)
        value = _cleaned(name, value)
        if name in PATHS and isinstance(value, str) and value:
            value = str(file.parent / value)
        found[name] = (value, str(file))
    return found, tables


def _refuse_unknown(name: str, file: Path, definition: type[Settings]) -> None:
    if name.lower() in ENVIRONMENT_ONLY:
        variable = name.upper()
        raise SettingsError(f"{visible(file)}: {name!r} is read from the environment only: set {variable} there (docs/serve.md).")
    if name not in definition.model_fields:
        known = [*(definition.model_fields.keys() - ENVIRONMENT_ONLY), *TABLE_NAMES]
        raise SettingsError(f"{visible(file)}: unknown setting {name!r}{meant(name, known)} {LISTED}")


def _refuse_second_upstream(layers: tuple[Layer, ...], tables: Tables, file: Path) -> None:
    """Refuse BASE_URL and its like together with upstream tables: it would be a guess which upstream a key belongs to."""
    by_table = {account.key_env for upstream in tables.upstreams for account in upstream.account}
    for layer in layers:
        for name in _OF_AN_UPSTREAM:
            source = layer[name][1] if name in layer else ""
            if source and not (source.startswith("env ") and source.removeprefix("env ") in by_table):
                raise SettingsError(
                    f"{name.upper()} ({visible(source)}) is set, and {visible(file)} has [[upstream]]: both say where "
                    f"requests go. Remove {name.upper()}, or the table."
                )


def _merged(layers: tuple[Layer, ...]) -> Layer:
    """Merge the layers, later ones over earlier ones. BIND sets the host and port of its own layer, or a Unix socket."""
    merged: Layer = {}
    for layer in layers:
        layer = dict(layer)
        raw, source = layer.get("bind", (None, ""))
        bound = parse_bind(raw) if isinstance(raw, str) else None
        if isinstance(bound, tuple):
            layer["host"], layer["port"] = (bound[0], source), (bound[1], source)
        elif "bind" not in layer and layer.keys() & {"host", "port"}:
            merged.pop("bind", None)  # an address in a later layer overrides a socket in an earlier one
        merged |= layer
    return merged


def _checked(definition: type[Settings], merged: Layer) -> Settings:
    """Validate the settings.

    Raises:
        SettingsError: one line for each invalid value, in the order of their definition.
    """
    faults = {name: found for name, (value, _) in merged.items() if (found := flaw(value)) is not None}
    try:
        settings = definition(**{name: value for name, (value, _) in merged.items() if name not in faults})
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            faults.setdefault(str(fault["loc"][0]), expectation(fault))
    if not faults:
        return settings
    order = [*definition.model_fields, *faults]
    lines = [_sentence(name, *merged[name], faults[name]) for name in sorted(faults, key=order.index)]
    raise SettingsError("\n".join(lines)) from None


def _sentence(name: str, value: object, source: str, fault: str) -> str:
    shown = "" if name in SECRETS else f"={without_credentials(value)}"
    return f"{visible(name.upper())}{shown} ({visible(source)}): {fault}."
