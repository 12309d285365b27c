"""What the rules are told, and what they ask for. Events travel between workers, so all are plain data."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from claude_proxy.notify.fault import Fault
from claude_proxy.notify.notice import Notice


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An exchange ended with a failure that its client saw."""

    fault: Fault


class Answered(msgspec.Struct, frozen=True, tag=True):
    """An exchange went well.

    Attributes:
        label: a short name of the upstream that is safe to publish.
        took: seconds from the request to now. An answer that was already under way when something failed proves nothing.
        head: seconds until the upstream's response head; None if not known.
        hidden: failed attempts that the client did not see.
        account: the account that answered; "" where the upstream has only one.
    """

    upstream: str
    label: str
    model: str
    took: float
    head: float | None = None
    hidden: int = 0
    account: str = ""


class QuotaWindow(msgspec.Struct, frozen=True):
    """One window of a plan, by the provider's own count.

    Attributes:
        name: such as "5h" or "week".
        used: share, 0 to 1 and more.
        resets_at: Unix seconds; None if the provider does not say.
    """

    name: str
    used: float
    resets_at: float | None


class QuotaSeen(msgspec.Struct, frozen=True, tag=True):
    """A provider was asked for the windows of an account's plan.

    Attributes:
        account: as in `Answered`.
    """

    upstream: str
    label: str
    windows: tuple[QuotaWindow, ...]
    account: str = ""


class Condition(msgspec.Struct, frozen=True, tag=True):
    """Something that lasts has begun, has changed, or has ended (`on` is false)."""

    fault: Fault
    on: bool


class Happened(msgspec.Struct, frozen=True, tag=True):
    """Something that is over as soon as it is noticed."""

    fault: Fault


class Published(msgspec.Struct, frozen=True, tag=True):
    """An attempt to push has ended.

    Attributes:
        reached: whether something answered; False where the network or the server is down.
        sequence: of the notice that was taken; "" if none was.
    """

    reached: bool
    sequence: str = ""


class Figures(msgspec.Struct, frozen=True, tag=True):
    """What the books say of the time that a daily summary is about; None for what is not known."""

    since: float
    until: float
    exchanges: int | None = None
    failed: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class Tick(msgspec.Struct, frozen=True, tag=True):
    """Time has passed: do what is due."""


Event: TypeAlias = Failed | Answered | QuotaSeen | Condition | Happened | Published | Figures | Tick


class Push(NamedTuple):
    """Queue a notice."""

    notice: Notice


class Withdraw(NamedTuple):
    """Drop what waits in the queue under this sequence: something else says it better."""

    sequence: str


class Summarise(NamedTuple):
    """Ask the books for the figures of a time, and tell the rules as `Figures`."""

    since: float
    until: float


class Hurry(NamedTuple):
    """The network is back: try what waits now."""


class Record(NamedTuple):
    """Write an incident down."""

    incident: Report


class Report(msgspec.Struct, frozen=True):
    """An incident as the books and the API know it. Times are Unix seconds.

    Attributes:
        id: made as an exchange's id is.
        closed: None while it lasts.
        pushed: the notices about it: when, and their titles.
    """

    id: int
    upstream: str
    code: str
    meaning: str
    message: str
    fix: str
    opened: float
    seen: float
    closed: float | None
    failures: int
    told: bool
    pushed: tuple[tuple[float, str], ...] = ()


Action: TypeAlias = Push | Withdraw | Summarise | Hurry | Record
