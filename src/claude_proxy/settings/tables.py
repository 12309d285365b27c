"""The nested tables of claude-proxy.toml: `[[upstream]]` with its `[[upstream.account]]`, and `[[route]]`.

Each table is checked by itself here, and all of them together in `table_checks`; `upstreams` adds the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from claude_proxy.cleaning import visible
from claude_proxy.errors import SettingsError
from claude_proxy.settings.cleaning import clean_value, flaw
from claude_proxy.settings.definition import AuthScheme
from claude_proxy.settings.kinds import (
    BaseUrl,
    Count,
    Label,
    Names,
    Patterns,
    Rank,
    Words,
    check_patterns,
    expecting,
    parse_list,
    parse_word,
)
from claude_proxy.settings.problems import expectation, meant, without_credentials
from claude_proxy.settings.table_checks import problems

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Values of x-claude-code-request-class (docs/facts.md, "Claude Code").
RequestClass = Literal["main", "subagent", "workflow", "compaction", "auxiliary", "side_reply"]
_MODEL_NAME = re.compile(r'[^\s"\\*\x00-\x1f]+', re.ASCII)


def _pairs(value: object) -> object:
    """Turn a table of model names into pairs, in the file's order."""
    if not isinstance(value, dict):
        return value
    for pattern, target in value.items():
        check_patterns((pattern,))
        if isinstance(target, str) and not (target.isascii() and _MODEL_NAME.fullmatch(target)):
            raise ValueError(f'expected the name of one model for "{pattern}", such as "glm-5.3"')
    return tuple(value.items())


def _request_classes(value: object) -> object:
    found = parse_list(value)
    known = get_args(RequestClass)
    if isinstance(found, list | tuple):
        for one in found:
            if one not in known:
                raise ValueError(f"expected {', '.join(known[:-1])} or {known[-1]}; {one!r} is none of them")
    return found


ModelMap = Annotated[
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
        name: what the log, the books and the page call it.
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
        models: patterns of the models it serves, as clients call them.
        map: pairs of a pattern and the model name to send instead; the first match is used.
        account: its credentials; none if each client sends its own.
    """

    name: Label
    base_url: BaseUrl
    provider: Label | None = None
    priority: Rank = 0
    weight: Count = 1
    models: Annotated[Patterns, Field(min_length=1), expecting('expected patterns such as ["claude-*"], at least one')] = ("*",)
    map: ModelMap = ()
    account: tuple[AccountTable, ...] = ()


class RouteMatch(Table):
    """`[route.match]`: which requests a route is for; a missing key matches everything."""

    model: Patterns = ()
    request_class: Annotated[tuple[RequestClass, ...], BeforeValidator(_request_classes)] = Field((), alias="class")
    agent_type: Patterns = ()


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
    if found := list(problems(upstreams, routes)):
        raise SettingsError("\n".join(f"{visible(file)}: {sentence}" for sentence in found))
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
