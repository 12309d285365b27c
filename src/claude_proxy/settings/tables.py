"""The nested tables of claude-proxy.toml: `[[upstream]]` with its `[[upstream.account]]`, and `[[route]]`.

They are validated completely; `single_upstream` decides which of them this version can serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from claude_proxy.cleaning import visible
from claude_proxy.errors import SettingsError
from claude_proxy.settings.cleaning import clean, clean_value, flaw
from claude_proxy.settings.definition import AuthScheme
from claude_proxy.settings.files import read_text
from claude_proxy.settings.kinds import BaseUrl, Count, Label, Names, Rank, Words, expecting, parse_word
from claude_proxy.settings.problems import expectation, meant, without_credentials

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def _pairs(value: object) -> object:
    return tuple(value.items()) if isinstance(value, dict) else value


NameMap = Annotated[
    tuple[tuple[Words, Words], ...],
    BeforeValidator(_pairs),
    expecting('expected a table of model names, such as { "claude-*" = "glm-5.3" }'),
]


class Table(BaseModel):
    """The base of all tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountTable(Table):
    """`[[upstream.account]]`: one credential at an upstream. The key itself is in a variable or a file, never here.

    Attributes:
        key_env: the environment variable that holds the key; or
        key_file: the file that holds it, relative to the settings file.
        auth: the header for it; by default the one that the upstream's provider documents.
        max_concurrency: the most requests at a time.
    """

    name: Label
    key_env: Words | None = None
    key_file: Words | None = None
    auth: Annotated[AuthScheme | None, BeforeValidator(parse_word)] = None
    max_concurrency: Count | None = None

    @model_validator(mode="after")
    def _one_key(self) -> AccountTable:
        if (self.key_env is None) == (self.key_file is None):
            raise ValueError("expected either key_env, the variable that holds the key, or key_file, the file that does")
        return self


class UpstreamTable(Table):
    """`[[upstream]]`: an Anthropic-compatible API.

    Attributes:
        provider: whose API it is; by default derived from the host.
        priority: upstreams with a lower number are tried first.
        weight: share of new sessions among upstreams of the same priority.
        models: patterns of the models it serves.
        map: pairs of a pattern and the model name to send instead; the first match is used.
        account: its credentials; none if each client sends its own.
    """

    name: Label
    base_url: BaseUrl
    provider: Label | None = None
    priority: Rank = 0
    weight: Count = 1
    models: Names = ("*",)
    map: NameMap = ()
    account: tuple[AccountTable, ...] = ()


class RouteMatch(Table):
    """`[route.match]`: which requests a route is for; a missing key matches everything."""

    model: Names = ()
    request_class: Names = Field((), alias="class")
    agent_type: Names = ()


class RouteTable(Table):
    """`[[route]]`: the upstreams for one kind of requests, in order."""

    match: RouteMatch = Field(default_factory=RouteMatch)
    upstreams: Annotated[Names, Field(min_length=1), expecting("expected the names of upstreams, at least one")]


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one file."""

    upstreams: tuple[UpstreamTable, ...] = ()
    routes: tuple[RouteTable, ...] = ()


NO_TABLES = Tables()
TABLE_NAMES = ("upstream", "route")
_INNER: Mapping[str, tuple[str, type[Table]]] = {
    "account": ("[[upstream.account]]", AccountTable),
    "match": ("[route.match]", RouteMatch),
}
_KEYS = {"key", "api_key", "auth_token", "token", "upstream_api_key"}  # names under which a user might write the key itself
_T = TypeVar("_T", bound=Table)


def parse_tables(document: Mapping[str, Any], file: Path) -> Tables:
    """Parse and check the tables of a file.

    Raises:
        SettingsError: one sentence per error, with the table and the key it is in.
    """
    upstreams = tuple(_each(UpstreamTable, document.get("upstream", []), file, "[[upstream]]"))
    routes = tuple(_each(RouteTable, document.get("route", []), file, "[[route]]"))
    names = [upstream.name for upstream in upstreams]
    _refuse_repeated(names, f"{visible(file)}: [[upstream]]")
    for upstream in upstreams:
        accounts = [account.name for account in upstream.account]
        _refuse_repeated(accounts, f'{visible(file)}: [[upstream.account]] of "{upstream.name}"')
    for number, route in enumerate(routes, 1):
        for name in route.upstreams:
            if name not in names:
                where = f"{visible(file)}: [[route]] {number}"
                raise SettingsError(f"{where}: upstreams names {name!r}, but no [[upstream]] has that name.")
    return Tables(upstreams, routes)


def _each(kind: type[_T], found: object, file: Path, title: str) -> Iterator[_T]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SettingsError(f"{visible(file)}: {title} is a list of tables: write {title}, in double brackets, above each.")
    for number, one in enumerate(found, 1):
        where = f"{visible(file)}: {title} {_label(one, number)}"
        table = _cleaned(one)
        if (hidden := _flaw(table)) is not None:
            raise SettingsError(f"{where}: {hidden}.")
        try:
            yield kind.model_validate(table)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            raise SettingsError("\n".join(f"{where}{_fault(kind, table, fault)}" for fault in faults)) from None


def _label(table: Mapping[str, Any], number: int) -> str:
    """Return how to refer to a table: by its name if that can be shown, else by its number."""
    name = table.get("name")
    return f'"{name}"' if isinstance(name, str) and name and name.isprintable() else str(number)


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cleaned(one) for name, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else clean_value(value)


def _flaw(value: Any) -> str | None:
    """Find an invisible character or unreplaced placeholder anywhere in a table, and say at which key."""
    if isinstance(value, dict):
        for name, one in value.items():
            if (found := _flaw(one)) is not None:
                return f"{visible(name)}: {found}" if not isinstance(one, dict | list) else found
    if isinstance(value, list):
        return next((found for one in value if (found := _flaw(one)) is not None), None)
    return flaw(value)


def _fault(kind: type[Table], table: Mapping[str, Any], fault: ErrorDetails) -> str:
    """Return the end of an error message: the inner table, the key, its value and what was expected."""
    place, inner = list(fault["loc"]), ""
    if place and place[0] in _INNER and (len(place) > 1 or fault["type"] not in ("missing", "extra_forbidden")):
        title, kind = _INNER[str(place.pop(0))]
        number = int(place.pop(0)) + 1 if place and isinstance(place[0], int) else None
        inner = f", {title}{'' if number is None else f' {number}'}"
        if not place and not fault["msg"].startswith("Value error"):
            return f"{inner}: expected a table under {title}."
    key = str(place[0]) if place else ""
    if fault["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in kind.model_fields.items()]
        hint = " Put the key into a variable or a file, and name that with key_env or key_file." if key in _KEYS else ""
        return f"{inner}: unknown key {key!r}{meant(key, known) if not hint else '.'}{hint}"
    if fault["type"] == "missing":
        return f"{inner}: {key} is missing."
    value = f" {key}={without_credentials(fault['input'])}" if key else ""
    return f"{inner}:{value}{':' if value else ''} {expectation(fault)}."


def _refuse_repeated(names: Sequence[str], where: str) -> None:
    for at, name in enumerate(names):
        if name in names[:at]:
            raise SettingsError(f'{where}: two are named "{name}"; names must be unique.')


_ONE = "this version serves one upstream with at most one account"


def single_upstream(tables: Tables, environ: Mapping[str, str], file: Path) -> dict[str, Any]:
    """Return the settings of the only `[[upstream]]`: base_url, upstream_api_key, upstream_auth; empty without one.

    Raises:
        SettingsError: there is more than this version supports, or the account's key is missing.
    """
    if len(tables.upstreams) > 1:
        raise SettingsError(f"{visible(file)}: [[upstream]]: there are {len(tables.upstreams)}, but {_ONE}.")
    if tables.routes:
        raise SettingsError(f"{visible(file)}: [[route]]: {_ONE}, so there is nothing to route. Leave it out.")
    if not tables.upstreams:
        return {}
    upstream = tables.upstreams[0]
    where = f'{visible(file)}: [[upstream]] "{upstream.name}"'
    if len(upstream.account) > 1:
        raise SettingsError(f"{where}, [[upstream.account]]: there are {len(upstream.account)}, but {_ONE}.")
    _refuse_choice(upstream, where)
    found: dict[str, Any] = {"base_url": upstream.base_url}
    for account in upstream.account:
        found["upstream_api_key"] = _key(account, environ, file, f'{where}, [[upstream.account]] "{account.name}"')
        if account.auth is not None:
            found["upstream_auth"] = account.auth
    return found


def _refuse_choice(upstream: UpstreamTable, where: str) -> None:
    """Refuse keys that would change or limit requests; ignoring them silently would not do what the user asked for."""
    limited = any(account.max_concurrency is not None for account in upstream.account)
    unserved = {"map": bool(upstream.map), "models": upstream.models != ("*",), "max_concurrency": limited}
    for name, stated in unserved.items():
        if stated:
            raise SettingsError(f"{where}: {name} has no effect yet: {_ONE}, for all models and without a limit. Leave it out.")


def _key(account: AccountTable, environ: Mapping[str, str], file: Path, where: str) -> str:
    if account.key_env is not None:
        if key := clean(environ.get(account.key_env, "")):
            return key
        raise SettingsError(f"{where}: key_env={account.key_env}: the variable is not set.")
    return read_text(file.parent / str(account.key_file), f"{where}: key_file={account.key_file}")
