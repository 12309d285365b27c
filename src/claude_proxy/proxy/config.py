"""What the path works with: one value, taken once per exchange, so that a reload affects only later exchanges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from claude_proxy.admission import Admission
from claude_proxy.errors import NotFound
from claude_proxy.proxy.accounts import Account, ClientAccounts, Upstream
from claude_proxy.proxy.client import Scope
from claude_proxy.routing.routes import Candidate, Route, Routes
from claude_proxy.settings import Settings
from claude_proxy.upstream.pool import Pool

if TYPE_CHECKING:
    from claude_proxy.proxy.call import Call

__all__ = ["Account", "ClientAccounts", "Config", "Gate", "Upstream"]

_AGENT_TYPE = b"x-claude-code-agent-type"


class Gate(Protocol):
    """Decides which requests may pass, and how large they may be (`access/`)."""

    def admit(self, scope: Scope) -> Admission:
        """The terms on which a request may pass. Raises ProxyError."""

    def body_limit(self, path: str) -> int:
        """Largest request body in bytes at this path (below the prefix)."""


class Config:
    """The settings in force, the gate, and where requests go. A reload makes another one.

    Args:
        settings: those that the path reads.
        gate: decides which requests may pass.
        upstreams: in the file's order; at least one.
        routes: `[[route]]`, in the file's order.

    Attributes:
        retired: pools that a reload has taken out of use, while earlier exchanges still use them.
    """

    __slots__ = ("_by_name", "_only", "_routes", "gate", "retired", "settings", "upstreams")

    def __init__(self, settings: Settings, gate: Gate, upstreams: Sequence[Upstream], routes: Iterable[Route] = ()) -> None:
        self.settings = settings
        self.gate = gate
        self.upstreams = tuple(upstreams)
        self.retired: tuple[Pool, ...] = ()
        self._by_name = {upstream.name: upstream for upstream in upstreams}
        self._routes = Routes([upstream.served for upstream in upstreams], tuple(routes))
        only = self.upstreams[0]
        # The usual case: one upstream for all models, so nothing has to be looked up.
        self._only = only if len(self.upstreams) == 1 and only.served.models == ("*",) else None

    @property
    def accounts(self) -> tuple[Account, ...]:
        """All held accounts, in the file's order. Those of clients come and go (`ClientAccounts`)."""
        return tuple(account for upstream in self.upstreams for account in upstream.accounts)

    def candidates(self, call: Call) -> tuple[Candidate, ...]:
        """The upstreams that may serve a request, in order.

        Raises:
            NotFound: no upstream serves the model.
        """
        exchange, fields = call.exchange, call.request.fields
        agent_type = fields[_AGENT_TYPE].decode("latin-1") if _AGENT_TYPE in fields else None
        found = self._routes.candidates(call.request.target.kind, exchange.model, exchange.request_class, agent_type)
        if not found:
            raise _not_served(exchange.model, self.upstreams)
        return found

    def accounts_for(self, call: Call) -> tuple[Account, ...]:
        """The accounts that may serve a request, by the rank of their upstream, then in the file's order.

        A request for something that an account owns, such as a batch, gets only that account.

        Raises:
            NotFound: no upstream serves the model.
        """
        if self._only is not None:
            return self._only.accounts_of(call.request)
        return tuple(
            account
            for candidate in self.candidates(call)
            for account in self._by_name[candidate.upstream].accounts_of(call.request)
        )

    def tiers_for(self, call: Call) -> tuple[tuple[Account, ...], ...]:
        """The same accounts, grouped by rank.

        Raises:
            NotFound: no upstream serves the model.
        """
        if self._only is not None:
            return (self._only.accounts_of(call.request),)
        tiers: dict[int, tuple[Account, ...]] = {}
        for candidate in self.candidates(call):
            accounts = self._by_name[candidate.upstream].accounts_of(call.request)
            tiers[candidate.rank] = tiers.get(candidate.rank, ()) + accounts
        return tuple(tiers.values())

    def choose(self, call: Call) -> Account:
        """The account for a request without regard to their states: the first that may serve it.

        Raises:
            NotFound: no upstream serves the model.
        """
        return self.accounts_for(call)[0]

    def owns(self, client: tuple[str, int], server: tuple[str, int]) -> bool:
        """Whether a connection between these addresses is one of our own to an upstream.

        Both ends are compared: a local port alone serves several connections, to different destinations.
        """
        pair = (client, server)
        for upstream in self.upstreams:  # noqa: SIM110 - for each request: a generator would cost three times as much
            if pair in upstream.pool.own:
                return True
        return False

    def close(self) -> None:
        """Close the upstream connections."""
        for pool in (*(upstream.pool for upstream in self.upstreams), *self.retired):
            pool.close()


def _not_served(model: str | None, upstreams: Iterable[Upstream]) -> NotFound:
    """404 as the API answers for an unknown model (docs.anthropic.com/en/api/errors)."""
    served = dict.fromkeys(pattern for upstream in upstreams for pattern in upstream.served.models)
    return NotFound(
        f"No upstream of this proxy serves the model {model}. Ask for one of {', '.join(served)}, or add it to models of an "
        "[[upstream]] at the proxy.",
        code="model_not_served",
    )
