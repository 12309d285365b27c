"""The types that describe a provider, and texts that several providers share."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal, NamedTuple

from claude_proxy.errors import Side

Auth = Literal["bearer", "x-api-key"]
Language = Literal["en", "ko"]
Scope = Literal["upstream", "model"]


class Class(enum.StrEnum):
    """The kind of error that a code stands for; retries, queue and notices depend on this, not on the code."""

    CONCURRENCY = "concurrency"  # too many requests at once
    RATE = "rate"  # too many requests per minute, or tokens
    OVERLOAD = "overload"  # no capacity; the request was refused before it was processed
    SERVER = "server"  # a fault at the provider; the request may have been processed and billed
    STOP_UNTIL = "stop_until"  # a quota is used up until it is reset
    ACCOUNT = "account"  # someone has to pay or change the plan
    AUTH = "auth"  # the credential was refused
    CLIENT = "client"  # the request is at fault

    @property
    def side(self) -> Side:
        """Who has to act. For AUTH it is the holder of the credential, which only the caller knows; this returns the client."""
        return "client" if self in (Class.CLIENT, Class.AUTH) else "upstream"

    @property
    def retry(self) -> bool:
        """Whether a retry can help soon."""
        return self in (Class.CONCURRENCY, Class.RATE, Class.OVERLOAD, Class.SERVER)


@dataclass(frozen=True, slots=True)
class Text:
    """A text in English and Korean."""

    en: str
    ko: str

    def to(self, language: Language) -> str:
        """Return the text in `language`."""
        return self.ko if language == "ko" else self.en

    def __add__(self, other: Text) -> Text:
        return Text(f"{self.en} {other.en}", f"{self.ko} {other.ko}")


@dataclass(frozen=True, slots=True)
class Code:
    """One error of a provider.

    Attributes:
        class_: what kind of error it is.
        meaning: a few words, for a title.
        fix: what to do, in one or two sentences.
        scope: whether the whole upstream or only one model is affected.
        urgent: whether nothing works until a person acts.
    """

    class_: Class
    meaning: Text
    fix: Text
    scope: Scope = "upstream"
    urgent: bool = False

    @property
    def side(self) -> Side:
        """Who has to act."""
        return self.class_.side

    @property
    def retry(self) -> bool:
        """Whether a retry can help soon."""
        return self.class_.retry


@dataclass(frozen=True, slots=True)
class Form:
    """How a provider includes its code in the message of an error.

    Attributes:
        pattern: matches the whole message; groups `code` and `text`.
        distinct: whether no other provider uses this form, so that it is recognised in answers of an unknown host too.
    """

    pattern: re.Pattern[str]
    distinct: bool = False


class Reset(NamedTuple):
    """When a quota is reset.

    Attributes:
        at: the time in UTC.
        stated: the time as the provider wrote it.
        assumed: the time zone that we assumed, such as UTC+8, if the provider gives none; else empty.
    """

    at: datetime
    stated: str
    assumed: str


@dataclass(frozen=True, slots=True)
class ResetForm:
    """How a provider gives the time of a reset in an error.

    Attributes:
        pattern: group 1 is a date and time in ISO 8601 or similar.
        zone: the time zone of times without one.
        assumed: whether `zone` is our assumption, because the provider does not document it.
    """

    pattern: re.Pattern[str]
    zone: timezone = UTC
    assumed: bool = False

    def read(self, message: str) -> Reset | None:
        """Return the reset that `message` gives; None if there is none or the date does not exist."""
        found = self.pattern.search(message)
        if found is None:
            return None
        try:
            at = datetime.fromisoformat(found[1].replace(" at ", " "))
            at = (at if at.tzinfo is not None else at.replace(tzinfo=self.zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        hours = self.zone.utcoffset(None).total_seconds() / 3600
        return Reset(at, found[1], f"UTC{hours:+g}" if self.assumed else "")


@dataclass(frozen=True, slots=True)
class ResetHeader:
    """A response header that gives the time of a reset.

    Attributes:
        name: in lower case.
        per_second: ticks of its Unix time per second: 1 for seconds, 1000 for milliseconds.
    """

    name: str
    per_second: int = 1

    def read(self, headers: Mapping[bytes, bytes]) -> float | None:
        """The reset in Unix seconds; None if the header is missing or not a number."""
        value = headers.get(self.name.encode("ascii"), b"").strip()
        return int(value) / self.per_second if value.isdigit() and len(value) <= 15 else None


class Mark(NamedTuple):
    """A response header that says more than the body: if `header` has this `value`, the error is the one at `word` in `codes`."""

    header: str
    value: str
    word: str


@dataclass(frozen=True, slots=True)
class Quota:
    """Where a provider reports how much of a plan is used.

    Attributes:
        path: the path at the upstream's own origin; the credential must not be sent anywhere else.
        auth: how the credential is sent; `raw` means `Authorization` without a scheme.
        headers: additional headers to send.
    """

    path: str
    auth: Literal["raw", "bearer", "x-api-key"]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peak:
    """The hours in which a provider charges more.

    Attributes:
        spans: (from, to) in whole hours of a day; `to` is excluded.
        zone: the time zone of hours and days.
        days: 0 is Monday. Public holidays are not considered.
    """

    spans: tuple[tuple[int, int], ...]
    zone: timezone = UTC
    days: tuple[int, ...] = (0, 1, 2, 3, 4)

    def holds(self, moment: datetime) -> bool:
        """Whether `moment` (with a time zone) is within peak hours."""
        local = moment.astimezone(self.zone)
        return local.weekday() in self.days and any(start <= local.hour < end for start, end in self.spans)


class Rate(NamedTuple):
    """Credits of a plan per `Credits.tokens` tokens."""

    input: float
    cached: float
    output: float


@dataclass(frozen=True, slots=True)
class Credits:
    """How a plan counts credits.

    Attributes:
        since: the first day on which it counts so.
        rates: the rate of each model at peak hours.
        off_peak: the factor outside peak hours.
        allowances: each plan's credits per five hours and per week.
        tokens: the number of tokens that a rate is for.
    """

    since: date
    rates: Mapping[str, Rate]
    off_peak: float
    allowances: Mapping[str, tuple[int, int]]
    tokens: int = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """One provider of an Anthropic-compatible API. The defaults of all fields but `name` and `label` mean "unknown".

    Attributes:
        name: the identifier in settings and records.
        label: what people call it; safe to show to strangers.
        domains: each includes all names below it.
        hosts: exact names; with `ports`, only at these ports.
        ports: default ports of a local program.
        auth: the header that the provider documents for its keys.
        codes: by the provider's number, by its own error types, and by the words that `patterns` lead to.
        patterns: for errors that only their sentence tells apart: what to search in the message, and the word in `codes`.
        form: how a code stands in the message.
        numbers: of codes; no other provider here uses them, so they are also understood behind a relay.
        relays: it may pass on another provider's errors, so every distinct form is understood.
        statuses: HTTP statuses that mean something special here, with their word in `codes`; for errors that nothing else tells.
        marks: response headers that tell errors apart.
        resets: how the time of a reset is written.
        reset_headers: response headers with the time of a reset, the surest first.
        waits: how a delay is written into an error: group 1 is seconds.
        quota: where usage can be asked, if anywhere.
        concurrency: how many requests at once to begin with; None is unlimited.
        peak: when it charges more.
        credits: how its plan counts credits.
        models: the models for Claude Code, by role (OPUS ...).
        resembles: models that Claude Code does not know, each with a known one to treat it as. The known one must not be an
            Opus, Fable or Mythos (Claude Code gives up after three 529s with those) and must allow prompts and answers of the
            same length. Without an entry Claude Code warns about the model at each start.
        families: the beginnings of its models' names, in lower case.
        sample_model: the model in the examples on the start page.
        native: whether it is Anthropic itself, where Claude Code may be logged in and knows all features and models.
        fixes: what to do about one of our own failure kinds, if the general advice is too vague for this provider.
        sources: public pages that the facts come from; docs/facts.md says which fact comes from which page.
    """

    name: str
    label: str
    domains: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    auth: Auth = "bearer"
    codes: Mapping[str, Code] = field(default_factory=dict)
    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()
    form: Form | None = None
    numbers: range = range(0)
    relays: bool = False
    statuses: Mapping[int, str] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    resets: tuple[ResetForm, ...] = ()
    reset_headers: tuple[ResetHeader, ...] = ()
    waits: tuple[re.Pattern[str], ...] = ()
    quota: Quota | None = None
    concurrency: int | None = None
    peak: Peak | None = None
    credits: Credits | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    resembles: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    sample_model: str = "claude-sonnet-5-5"
    native: bool = False
    fixes: Mapping[str, Text] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    @property
    def public(self) -> bool:
        """Whether its address may be shown to strangers, because it is a public service."""
        return bool(self.domains)

    def serves(self, host: str, port: int | None) -> bool:
        """Whether this provider is at `host` (lower case) and `port`."""
        if any(host == domain or host.endswith(f".{domain}") for domain in self.domains):
            return True
        return host in self.hosts and (not self.ports or port in self.ports)

    def reset(self, message: str) -> Reset | None:
        """Return when a quota is reset, if `message` gives a time."""
        return next((reset for form in self.resets if (reset := form.read(message)) is not None), None)


def hours(offset: int) -> timezone:
    """Return the time zone `offset` hours ahead of UTC."""
    return timezone(timedelta(hours=offset))


WAIT = Text(
    "Clients retry by themselves; nothing to do unless it lasts.",
    "클라이언트가 알아서 다시 시도하므로, 계속되지 않는 한 할 일은 없습니다.",
)
CHECK_KEY = Text(
    "Check UPSTREAM_API_KEY, or the client's ANTHROPIC_AUTH_TOKEN.",
    "UPSTREAM_API_KEY 또는 클라이언트의 ANTHROPIC_AUTH_TOKEN을 확인하세요.",
)
CHECK_ACCOUNT = Text(
    "Sign in at the provider's console and check the account.",
    "제공자 콘솔에 로그인해 계정 상태를 확인하세요.",
)
TOP_UP = Text(
    "The balance is used up: top it up, or switch to a key with a plan.",
    "잔액이 없습니다. 충전하거나 플랜이 있는 키로 바꾸세요.",
)
FEWER = Text(
    "Too many requests at once for this plan: run fewer agents in parallel.",
    "이 플랜에 비해 동시 요청이 너무 많습니다. 동시에 실행하는 에이전트를 줄이세요.",
)
SLOWER = Text("Too many requests per minute for this plan.", "이 플랜에 비해 분당 요청이 너무 많습니다.")
AWAIT_RESET = Text(
    "Wait for the reset, or use another plan; retrying earlier does not help.",
    "초기화될 때까지 기다리거나 다른 플랜을 쓰세요. 그 전에는 다시 시도해도 소용없습니다.",
)
LATER = Text("Wait for tomorrow, or use another key.", "내일까지 기다리거나 다른 키를 쓰세요.")
CORRECT = Text("The client has to correct its request.", "클라이언트가 요청을 고쳐야 합니다.")
OTHER_MODEL = Text(
    "Choose a model that this provider offers; the client may still have another provider's model names set.",
    "이 제공자에 있는 모델을 고르세요. 클라이언트에 다른 제공자의 모델 이름이 남아 있을 수 있습니다.",
)
