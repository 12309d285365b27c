"""The upstreams in force, with their keys: those of the file's tables, else the one of BASE_URL and UPSTREAM_API_KEY."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, TypeAdapter, ValidationError

from claude_proxy.cleaning import visible
from claude_proxy.errors import SettingsError
from claude_proxy.settings.cleaning import clean, clean_key, flaw
from claude_proxy.settings.definition import AuthScheme, ProxySettings
from claude_proxy.settings.files import read_text
from claude_proxy.settings.kinds import Secret
from claude_proxy.settings.problems import expectation
from claude_proxy.settings.tables import AccountTable, Tables, UpstreamTable

DEFAULT_NAME = "default"
_SECRET: TypeAdapter[SecretStr] = TypeAdapter(Secret)


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One credential at an upstream.

    Attributes:
        key: the credential itself; masked wherever the object is shown.
        source: where it was read: `env ZAI_API_KEY`, or a path.
        auth: the header for it; None for the one that the provider documents.
        max_concurrency: the most requests at a time; None if the settings name no limit.
    """

    name: str
    key: SecretStr
    source: str
    auth: AuthScheme | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One upstream. `UpstreamTable` says what the attributes mean.

    Attributes:
        accounts: none if each client sends its own credential.
        where: the start of an error message about it: the file and the table, or BASE_URL.
    """

    name: str
    base_url: str
    provider: str | None = None
    priority: int = 0
    weight: int = 1
    models: tuple[str, ...] = ("*",)
    map: tuple[tuple[str, str], ...] = ()
    accounts: tuple[AccountSettings, ...] = ()
    where: str = "BASE_URL"


def default_upstream(settings: ProxySettings, name: str = DEFAULT_NAME, source: str = "") -> UpstreamSettings:
    """Return the upstream that BASE_URL, UPSTREAM_API_KEY and UPSTREAM_AUTH describe.

    Args:
        source: where UPSTREAM_API_KEY was set.
    """
    key = settings.upstream_api_key
    accounts = () if key is None else (AccountSettings(DEFAULT_NAME, key, source, settings.upstream_auth),)
    return UpstreamSettings(name, settings.base_url, accounts=accounts)


def with_keys(tables: Tables, environ: Mapping[str, str], file: Path) -> tuple[UpstreamSettings, ...]:
    """Return the upstreams of a file's tables, with the keys that they name.

    Raises:
        SettingsError: a key is missing or unusable, or two accounts share one.
    """
    found: list[UpstreamSettings] = []
    faults: list[str] = []
    for table in tables.upstreams:
        where = f'{visible(file)}: [[upstream]] "{table.name}"'
        accounts: list[AccountSettings] = []
        for account in table.account:
            try:
                accounts.append(_account(account, environ, file, f'{where}, [[upstream.account]] "{account.name}"'))
            except SettingsError as error:
                faults.append(error.message)
        found.append(_upstream(table, tuple(accounts), where))
    faults.extend(_shared_keys(found))
    if faults:
        raise SettingsError("\n".join(faults))
    return tuple(found)


def _upstream(table: UpstreamTable, accounts: tuple[AccountSettings, ...], where: str) -> UpstreamSettings:
    return UpstreamSettings(
        table.name,
        table.base_url,
        table.provider,
        table.priority,
        table.weight,
        table.models,
        table.map,
        accounts,
        where,
    )


def _account(table: AccountTable, environ: Mapping[str, str], file: Path, where: str) -> AccountSettings:
    if table.key_env is not None:
        place, text = f"key_env={table.key_env}", clean(environ.get(table.key_env, ""))
        source = f"env {table.key_env}"
        if not text:
            raise SettingsError(f"{where}: {place}: the variable is not set.")
    else:
        place, path = f"key_file={table.key_file}", file.parent / str(table.key_file)
        source, text = str(path), clean(read_text(path, f"{where}: {place}"))
        if not text:
            raise SettingsError(f"{where}: {place}: the file is empty.")
    return AccountSettings(table.name, _checked_key(text, f"{where}: {place}"), source, table.auth, table.max_concurrency)


def _checked_key(text: str, where: str) -> SecretStr:
    key = clean_key(text)
    try:
        if (hidden := flaw(key)) is not None:
            raise SettingsError(f"{where}: {hidden}.")
        return _SECRET.validate_python(key)
    except ValidationError as error:
        raise SettingsError(f"{where}: {expectation(error.errors(include_url=False, include_input=False)[0])}.") from None


def _shared_keys(upstreams: Sequence[UpstreamSettings]) -> list[str]:
    """Two accounts with one key would each count its limit for themselves, and together exceed it."""
    seen: dict[tuple[str, str], str] = {}
    faults = []
    for upstream in upstreams:
        for account in upstream.accounts:
            name = f'"{account.name}" of "{upstream.name}"'
            first = seen.setdefault((upstream.base_url, account.key.get_secret_value()), name)
            if first != name:
                faults.append(f"{upstream.where}: the accounts {first} and {name} have the same key. Remove one of them.")
    return faults
