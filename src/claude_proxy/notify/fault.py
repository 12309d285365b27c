"""A failure that a client saw, reduced to what a notice may contain; and which exchanges are such failures."""

from __future__ import annotations

import msgspec

from claude_proxy.exchange import Exchange, Failure, Outcome
from claude_proxy.notify.advice import OWN, Advice, advise, reset
from claude_proxy.notify.notice import plain
from claude_proxy.protocol.providers import GENERIC, Provider

STOPPING = "draining"  # the code of a refusal while this process stops
_NOBODYS = frozenset((Outcome.REFUSED, Outcome.CANCELLED, Outcome.CLIENT_STALLED, Outcome.ABORTED))


class Fault(msgspec.Struct, frozen=True):
    """One failure. Its texts are clean, short and without secrets, because they are stored and published.

    Attributes:
        upstream: the upstream's name; "" for none.
        label: a short name of the upstream that is safe to publish.
        word: the error class: the provider's code, else the kind.
        message: the failure's message, one line.
        model: the requested model, "" if none.
        status: HTTP status, 0 if none.
        about: what it means and what to do.
        reset_at: Unix time at which a quota resets, if the failure says so.
        stated: that time as the provider wrote it, where it names no zone; `assumed` is the zone that we took.
        quoted: whether the message is the upstream's.
        ours: whether this proxy or its machine failed, not the upstream.
        account: the account at the upstream; "" where it has only one.
    """

    upstream: str
    label: str
    word: str
    message: str
    about: Advice
    model: str = ""
    status: int = 0
    reset_at: float | None = None
    stated: str = ""
    assumed: str = ""
    quoted: bool = False
    ours: bool = False
    account: str = ""

    @classmethod
    def of(cls, exchange: Exchange, failure: Failure, label: str, provider: Provider = GENERIC) -> Fault:
        """Describe the failure of `exchange`; `provider` is that of its upstream."""
        quoted = failure.provider_code is not None or failure.kind.endswith("_error")  # our own kinds never end with `_error`
        found = reset(failure, provider)
        return cls(
            upstream=exchange.upstream,
            label=label,
            word=plain(failure.provider_code or failure.kind, 40) or "internal",
            message=plain(failure.message, 300),
            about=advise(failure, provider),
            model=plain(exchange.model),
            status=exchange.status,
            reset_at=None if found is None else found.at.timestamp(),
            stated=found.stated if found is not None and found.assumed else "",
            assumed="" if found is None else found.assumed,
            quoted=quoted,
            ours=failure.side == "proxy" and not quoted and not failure.kind.startswith("http_"),
            account=account_of(exchange),
        )

    @property
    def key(self) -> str:
        """Names the incident that this failure belongs to."""
        key = f"{self.upstream}\n{self.about.group or self.word}"
        return f"{key}\n{self.account}" if self.about.of_account and self.account else key

    def is_about(self, upstream: str, account: str) -> bool:
        """Whether what an account answers says something about this failure."""
        if self.about.of_account and self.account != account:
            return False
        return self.upstream in (upstream, "")


def account_of(exchange: Exchange) -> str:
    """The account of an exchange, for notices."""
    return account_named(exchange.account)


def account_named(name: str | None) -> str:
    """An account's name in notices: "" for the only one of an upstream."""
    account = plain(name, 60)
    return "" if account == "default" else account


def condition(word: str, message: str, *, upstream: str = "", label: str = "") -> Fault:
    """Describe something wrong with this machine, or with an upstream as a whole, that no single exchange shows."""
    return Fault(upstream, label, word, plain(message, 300), OWN[word], ours=not upstream)


def concerns(exchange: Exchange) -> bool:
    """Whether an exchange can open or close an incident; probes, token counts and model lists cannot."""
    path = exchange.path.strip("/")
    aside = path in ("", "api/hello", "v1/models") or path.startswith("v1/models/") or path.endswith("/count_tokens")
    return not aside and exchange.method not in ("HEAD", "OPTIONS")


def harms(exchange: Exchange, failure: Failure) -> bool:
    """Whether a client saw a failure that is not its own, and not our shutdown, which was intended.

    An answer that reached its `stop_reason` is complete: however it ended, nothing is missing.
    """
    harmless = exchange.outcome in _NOBODYS or exchange.stop_reason is not None
    return failure.side != "client" and not harmless and failure.kind != STOPPING and concerns(exchange)


def went_well(exchange: Exchange) -> bool:
    """Whether an exchange shows that its upstream works."""
    return exchange.outcome is Outcome.COMPLETED and 200 <= exchange.status < 400 and concerns(exchange)
