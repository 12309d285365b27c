"""The query parameters of `/api/v1`, and the sentence for one that cannot be used. A misspelt name is refused: unheard, it would
answer another question than the one that was asked."""

from __future__ import annotations

from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from claude_proxy.cleaning import clean
from claude_proxy.errors import BadRequest
from claude_proxy.ledger.groups import By

_TIME = "`7d`, `24h`, `yesterday`, `2026-11-28`, `2026-11` or `2026-11-28T10:00+09:00`"
MAX_TEXT = 200
_SENTENCES = {
    "extra_forbidden": "there is no such parameter here",
    "missing": "this parameter is needed",
    "string_too_long": f"expected {MAX_TEXT} characters at most",
}


class Query(BaseModel):
    """Parameters of one request."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


class OfTime(Query):
    """A span of time, in the days of a time zone."""

    since: str | None = Field(None, max_length=MAX_TEXT, description=f"From here on: {_TIME}.")
    until: str | None = Field(None, max_length=MAX_TEXT, description="Up to here; a day or month is included.")
    timezone: str | None = Field(
        None, max_length=MAX_TEXT, description="Whose days are meant; by default the setting TIMEZONE.", examples=["Asia/Seoul"]
    )


class OfExchanges(OfTime):
    """Which exchanges."""

    session: str | None = Field(None, max_length=MAX_TEXT, description="Only of this session; empty for those without one.")
    model: str | None = Field(None, max_length=MAX_TEXT, description="Only with this model, as the client named it.")
    status: str | None = Field(
        None, max_length=MAX_TEXT, description="A number such as 429, a class such as 5xx, or `failed`.", examples=["failed"]
    )


class PageOfExchanges(OfExchanges):
    """A page of exchanges."""

    limit: int = Field(50, ge=1, le=1000)
    before: str | None = Field(None, max_length=MAX_TEXT, description="The `next` of the page before.")


class Export(OfExchanges):
    """All of them, as a file."""

    format: Literal["csv", "json"] = "csv"


class PageOfSessions(Query):
    """A page of sessions."""

    limit: int = Field(50, ge=1, le=1000)
    before: str | None = Field(None, max_length=MAX_TEXT, description="The `next` of the page before.")
    project: str | None = Field(None, max_length=MAX_TEXT, description="Only of this project; empty for those without one.")
    session: str | None = Field(
        None, max_length=MAX_TEXT, description="Only the session of this name: for names that cannot be in a path, such as `..`."
    )


class OfUsage(OfTime):
    """Sums: of what, and in which groups."""

    by: By = Field("day", description="What the groups are. A window is five hours of one account.")
    breakdown: bool = Field(False, description="Each group's sums per model too.")
    limit: int | None = Field(
        None, ge=1, le=1000, description="At most so many groups: the most expensive, or of a time the latest. By default all."
    )
    format: Literal["json", "csv"] = "json"
    session: str | None = Field(None, max_length=MAX_TEXT, description="Filters scope the numbers; empty means none.")
    project: str | None = Field(None, max_length=MAX_TEXT)
    model: str | None = Field(None, max_length=MAX_TEXT)
    agent: str | None = Field(None, max_length=MAX_TEXT)
    class_: str | None = Field(None, alias="class", max_length=MAX_TEXT)
    client: str | None = Field(None, max_length=MAX_TEXT)
    upstream: str | None = Field(None, max_length=MAX_TEXT)
    account: str | None = Field(None, max_length=MAX_TEXT)


def unusable(error: RequestValidationError) -> BadRequest:
    """A sentence for each parameter that cannot be used."""
    return BadRequest(" ".join(_sentence(fault) for fault in error.errors()[:5]), code="bad_parameter")


def _sentence(fault: dict[str, Any]) -> str:
    name = clean(str(fault["loc"][-1]), 40)
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "literal_error":
        expected = f"expected one of {context['expected'].replace(' or ', ', ')}".replace("'", "")
    elif kind.startswith("bool"):
        expected = "expected true or false"
    elif kind.startswith(("int", "greater", "less")):
        expected = "expected a whole number from 1 to 1000"
    else:
        expected = _SENTENCES.get(kind, str(fault["msg"]).lower())
    return f"{name}={clean(str(fault.get('input')), 40)}: {expected}."
