"""The answers of `/api/v1` as OpenAPI describes them. Nothing runs through these models: tests hold the answers against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ID = "cp_6h28x52yemr00"
AT = "2026-11-28T09:31:07.214Z"


class Answer(BaseModel):
    """All fields are always there; null means not known."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class FourCounts(Answer):
    """Tokens as the upstream reported them; input does not include what was read from or written to the cache."""

    input_tokens: int | None = Field(examples=[1204])
    output_tokens: int | None = Field(examples=[381])
    cache_read_input_tokens: int | None = Field(examples=[52480])
    cache_creation_input_tokens: int | None = Field(examples=[640])


class Usage(FourCounts):
    """The same, with what else the upstream may report."""

    cache_creation_5m_input_tokens: int | None = None
    cache_creation_1h_input_tokens: int | None = None
    web_searches: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None


class Failure(Answer):
    """Why it went wrong."""

    side: Literal["client", "upstream", "proxy"] | None = Field(description="Who has to act.", examples=["upstream"])
    kind: str | None = Field(examples=["rate_limit_error"])
    message: str | None = Field(examples=["Too many requests"])
    provider_code: str | None = Field(examples=["429-1"])


class Cache(Answer):
    """What became of the prompt cache."""

    verdict: str = Field(examples=["changed"])
    area: str | None = Field(description="Where the first changed block is.", examples=["tools"])
    block: int | None = Field(description="The first block that changed.")
    message: int | None = Field(description="In which message, if it is in one.")
    lost_tokens: int | None
    lost_usd: float | None


class Exchange(Answer):
    """One finished call."""

    id: str = Field(examples=[ID])
    started_at: str = Field(examples=[AT], description="RFC 3339, UTC.")
    session: str | None
    agent: str | None
    parent_agent: str | None
    class_: str | None = Field(alias="class", description="What Claude Code asked it for.", examples=["main"])
    client: str | None = Field(description="The client key's name, else the client's address.")
    user_agent: str | None
    upstream: str | None = Field(examples=["default"])
    account: str | None
    model: str | None = Field(description="As the client named it.", examples=["glm-5.3"])
    model_sent: str | None = Field(description="What the upstream's `map` put in its place; null if the name went as it was.")
    model_served: str | None = Field(description="As the answer names it.")
    kind: Literal["messages", "count_tokens", "batches", "other"]
    stream: bool
    status: int = Field(examples=[200])
    outcome: str | None = Field(examples=["completed"])
    failed: bool
    failure: Failure | None
    stop_reason: str | None = Field(examples=["end_turn"])
    upstream_request_id: str | None
    usage: Usage
    cost_usd: float | None = Field(description="API list price; null where none is known, which is not 0.", examples=[0.0213])
    price: str | None = Field(description="Which price it was computed with.")
    credits: float | None = Field(description="Plan credits, where the upstream meters them.")
    queue_ms: int | None
    first_byte_ms: int | None = Field(examples=[812])
    duration_ms: int = Field(examples=[9120])
    silence_ms: int = Field(description="Longest time without a byte from the upstream.")
    bytes_in: int
    bytes_out: int
    cache: Cache | None
    transcript: int | None = Field(description="The captured conversation's last node, where capture was on.")


class Attempt(Answer):
    """One try at one upstream; times count from the exchange's start."""

    number: int
    upstream: str | None
    account: str | None
    status: int | None
    reused_connection: bool
    sent_ms: int
    head_ms: int | None
    failure: Failure | None


class WholeExchange(Exchange):
    """One exchange and its attempts; none are listed where the only one went well."""

    project: str | None
    attempts: list[Attempt]


class Sums(Answer):
    """Sums over Messages calls; docs/books.md says what each number means."""

    exchanges: int = Field(examples=[412])
    failed: int
    cancelled: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cost_usd: float | None = Field(description="API list price of the priced exchanges; null where none of those has a price.")
    unpriced_exchanges: int = Field(description="Used, but missing from cost_usd: no price is known.")
    credits: float | None
    web_searches: int
    count_tokens_calls: int
    other_calls: int


class OfModel(Sums):
    """The part of one model."""

    model: str | None


class Group(Sums):
    """One group; `key` is null for what has none."""

    key: str | None = Field(examples=["2026-11-28"])
    upstream: str | None = Field(None, description="Only with `by=window`: a window is one account's.")
    account: str | None = Field(None, description="Only with `by=window`.")
    models: list[str]
    breakdown: list[OfModel] | None = Field(None, description="Only where it was asked for.")


class UsageReport(Answer):
    """Sums over a time, in groups."""

    from_: str = Field(alias="from", examples=["2026-11-22T00:00:00+09:00"])
    to: str = Field(examples=["2026-11-28T18:45:00+09:00"])
    timezone: str = Field(examples=["Asia/Seoul"])
    by: str = Field(examples=["day"])
    totals: Sums
    groups: list[Group]
    more: int = Field(default=0, description="With `limit` only: how many groups it left out.", examples=[12])


class OfAgent(Sums):
    """The part of one agent; null is the main conversation."""

    agent: str | None


class Session(Sums):
    """One session of Claude Code."""

    session: str | None
    project: str | None
    first_seen: str = Field(examples=[AT])
    last_seen: str = Field(examples=[AT])
    models: list[str]
    agents: list[OfAgent]


class Exchanges(Answer):
    """A page, newest first."""

    items: list[Exchange]
    next: str | None = Field(description="Send it as `before` for the next page; null on the last one.", examples=[ID])


class Sessions(Answer):
    """A page, the session that was active last first."""

    items: list[Session]
    next: str | None


class Window(Answer):
    """One window of a plan. After its reset nothing of the sample is known any more."""

    window: str = Field(examples=["5h"])
    meter: str = Field(description="credits, tokens, tool-calls or other.", examples=["credits"])
    used_ratio: float | None = Field(description="Used share by the provider's count; 1 is all of it.", examples=[0.1198])
    used: float | None
    allowance: float | None = Field(examples=[12000.0])
    left: float | None
    resets_at: str | None = Field(examples=[AT])
    computed_credits: float | None = Field(description="What this proxy counted in the window, up to the sample.")
    uncredited_exchanges: int | None = Field(description="Used, but missing from computed_credits: no coefficients are known.")
    spent_outside: float | None = Field(description="The difference: what was spent outside this proxy.")


class TimeToEmpty(Answer):
    """The window that is used up first at the present rate, before its reset."""

    window: str
    at: str = Field(examples=[AT])
    seconds: int


class Plan(Answer):
    """The plan of one account, by the provider's last word."""

    upstream: str | None
    account: str | None = Field(description="Null in samples of earlier releases.", examples=["default"])
    sampled_at: str = Field(examples=[AT])
    windows: list[Window]
    burn_rate: float | None = Field(description="Credits per hour, from the last 30 minutes (an estimate).")
    time_to_empty: TimeToEmpty | None = Field(description="An estimate; null where every window resets before it is empty.")


class Quotas(Answer):
    """Empty where no upstream has a quota endpoint, or none was asked yet."""

    items: list[Plan]


class LiveExchange(Answer):
    """An exchange that runs, as far as it has come; or, in an event, one that has just ended."""

    id: str = Field(examples=[ID])
    started_at: str = Field(examples=[AT])
    state: Literal["reading", "waiting", "sent", "answering", "ended"]
    kind: str
    session: str | None
    agent: str | None
    class_: str | None = Field(alias="class")
    client: str | None
    upstream: str | None
    model: str | None
    stream: bool
    status: int | None
    outcome: str | None
    attempts: int
    bytes_in: int
    bytes_out: int
    usage: FourCounts
    first_byte_ms: int | None
    duration_ms: int
    silent_ms: int | None = Field(description="Since the upstream's answer last brought something.")
    place: int | None = Field(description="In the queue, 1 for the next one; null if it does not wait there.")


class OfAllWorkers(Answer):
    """What all workers of this server answered."""

    silent_workers: int = Field(description="Workers that did not answer in time; their part is missing.", examples=[0])


class Running(OfAllWorkers):
    """What runs now."""

    items: list[LiveExchange]


class Account(Answer):
    """One account of an upstream, as the queue sees it. Accounts of clients are listed while they are in use."""

    name: str = Field(examples=["work"])
    state: Literal["up", "out", "ejected", "failing"] = Field(
        description="out: its usage is used up, or its credential was refused; ejected: after failures, others are asked; "
        "failing: the same, but no other account may serve its requests, so it is asked all the same."
    )
    reason: str = Field(description="Why it is out: the code of the upstream, or the status; empty if it is not.")
    back_at: str | None = Field(description="When it is in rotation again, where that is known.", examples=[AT])
    limit: int | None = Field(description="Requests that it takes at once, as learned; null as long as no limit is known.")
    running: int
    waiting: int = Field(description="Requests that may be sent there; with several accounts each is counted at all of them.")


class Upstream(Answer):
    """One configured upstream."""

    name: str = Field(examples=["default"])
    base_url: str = Field(examples=["https://api.example/anthropic"])
    provider: str = Field(examples=["Anthropic"])
    state: str = Field(description="up, or out, ejected or failing if none of its accounts is in rotation.", examples=["up"])
    back_at: str | None = Field(description="When an account is in rotation again, where that is known.", examples=[AT])
    credential: Literal["held", "client"] = Field(description="Whose credential goes there.")
    running: int
    waiting: int = Field(description="Requests in the queue that may be sent there.")
    connections: int
    accounts: list[Account]


class Upstreams(OfAllWorkers):
    """In the order of their preference."""

    items: list[Upstream]


class PushedNotice(Answer):
    """A notice about an incident."""

    at: str = Field(examples=[AT])
    title: str


class Incident(Answer):
    """What fails of one upstream in one way, from its first failure until it works again."""

    id: str = Field(examples=["cp_6h28x52yemr00"])
    upstream: str = Field(description="Empty where the proxy or its machine is at fault.")
    code: str = Field(examples=["rate_limit_error"])
    meaning: str
    message: str
    fix: str
    failing: bool
    opened_at: str = Field(examples=[AT])
    last_failed_at: str = Field(examples=[AT])
    closed_at: str | None = Field(examples=[AT])
    failures: int
    told: bool = Field(description="Whether it was worth a notice.")
    pushed: list[PushedNotice] = Field(description="The notices about it.")


class Incidents(Answer):
    """The last ones, the last failure first. None are added while no notices are configured."""

    items: list[Incident]


class Setting(Answer):
    """One setting; a secret's value is the word `set`."""

    name: str = Field(examples=["PORT"])
    value: Any
    source: str | None = Field(description="`env PORT`, a file's path, `default` ...; null where the app was given it.")
    secret: bool
    description: str


class SettingsList(Answer):
    """All settings in force, in the order of docs/settings.md."""

    items: list[Setting]
