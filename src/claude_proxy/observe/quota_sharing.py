"""Shares a plan's quota among the workers of one server: one of them asks the provider, and all get the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from claude_proxy.ledger.prices.quota import Quota
from claude_proxy.observe.siblings import Siblings

Key: TypeAlias = tuple[str, str | None]  # an upstream, and its account if the proxy holds the credential


class Wish(NamedTuple):
    """A worker's request that the leader ask.

    Attributes:
        account: whose credential `secret` is.
        secret: the credential that was good there; empty if the proxy holds it.
    """

    key: Key
    account: str | None
    secret: bytes


class Said(NamedTuple):
    """What the leader knows about an account's quota.

    Attributes:
        account: the one that `plan` belongs to.
        plan: what the provider answered last; None if it has not answered yet.
        age: seconds since it was asked; infinite if it never was.
        mixed: as `Watched.mixed`.
    """

    key: Key
    account: str | None
    plan: Quota | None
    age: float
    mixed: bool


class QuotaSharing:
    """Passes requests for the quota to the leader, and its answers to all workers.

    Args:
        leads: whether this worker is the leader.
    """

    def __init__(self, siblings: Siblings, leads: Callable[[], bool]) -> None:
        self._siblings = siblings
        self.leads = leads

    def serve(self, wish: Callable[[Wish], Said | None], learn: Callable[[Said], None]) -> None:
        """Answer the other workers.

        Args:
            wish: called in the leader.
            learn: called in the others with what the leader has learned.
        """

        def wished(data: Any) -> Said | None:
            return wish(msgspec.convert(data, Wish)) if self.leads() else None

        self._siblings.on_question("quota_wish", wished)
        self._siblings.on_question("quota_said", lambda data: learn(msgspec.convert(data, Said)))

    async def wish(self, wanted: Wish) -> Said | None:
        """Ask the leader to ask; returns what it knows, None if there is no leader at the moment.

        The credential goes over a Unix socket that only this user can open.
        """
        answers = await self._siblings.ask("quota_wish", wanted)
        return next((msgspec.convert(one, Said) for one in answers.data if one is not None), None)

    async def tell(self, said: Said) -> None:
        """Send the other workers what the leader knows."""
        await self._siblings.ask("quota_said", said)
