"""Upstreams and their accounts: where requests go, and with whose credential."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

from claude_proxy.patterns import matches
from claude_proxy.protocol.providers import GENERIC, Provider
from claude_proxy.proxy.count_tokens import CountTokens
from claude_proxy.proxy.headers import CREDENTIALS, Header
from claude_proxy.proxy.request import Request
from claude_proxy.routing.routes import Served
from claude_proxy.upstream.pool import Pool

MAX_CLIENTS = 1000  # client credentials that are remembered
_WITHHELD = frozenset(CREDENTIALS)
_NONE: frozenset[bytes] = frozenset()


class Account:
    """One credential at one upstream.

    Args:
        name: for logs, books and notices; never the credential.
        credential: header field that replaces the client's; None if the client's own is sent.
        max_concurrency: the most requests at a time; None if the settings name no limit.

    Attributes:
        id: `upstream/name`, the same after a restart and a reload.
        withheld: the client's header fields that are not sent to the upstream.
        removed: whether a reload has removed it: it finishes its running requests and gets no new ones.
        carried: what other parts store about it (its queue and limit). A reload passes the same dict to the new account of
            the same name and credential, so that exchanges of the old configuration still update it.
    """

    __slots__ = ("__weakref__", "carried", "credential", "id", "max_concurrency", "name", "removed", "upstream", "withheld")

    def __init__(
        self, upstream: Upstream, name: str, credential: Header | None = None, *, max_concurrency: int | None = None
    ) -> None:
        self.upstream = upstream
        self.name = name
        self.id = f"{upstream.name}/{name}"
        self.credential = credential
        self.withheld = _NONE if credential is None else _WITHHELD
        self.max_concurrency = max_concurrency
        self.removed = False
        self.carried: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Account({self.id})"

    @property
    def held(self) -> bool:
        """Whether the proxy holds the credential."""
        return self.credential is not None

    @property
    def starting_limit(self) -> int | None:
        """How many requests at a time to begin with: what the settings say, else what is known of the provider."""
        return self.max_concurrency or self.upstream.provider.concurrency


class Upstream:
    """A configured upstream.

    Args:
        name: for logs and notices.
        pool: its connections.
        credential: header field of its only account, which is then called "default"; `hold` adds others.
        base_url: as the user wrote it, for messages.
        provider: who answers there, and so what its errors mean.
        served: what routes know about it; by default it serves every model.
        model_map: pairs of a pattern and the model to send instead; the first match is used.
        memory: seconds to remember that it has no count_tokens (COUNT_TOKENS_MEMORY).
        client_secret: returns the key of the hash by which clients' credentials are told apart.
        made_from: the settings that it was made from, by which a reload tells whether it has changed.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        credential: Header | None = None,
        *,
        base_url: str = "",
        provider: Provider = GENERIC,
        served: Served | None = None,
        model_map: tuple[tuple[str, str], ...] = (),
        memory: float = 0.0,
        client_secret: Callable[[], bytes] | None = None,
        made_from: tuple[object, ...] | None = None,
    ) -> None:
        self.name = name
        self.made_from = made_from
        self.pool = pool
        self.base_url = base_url
        self.provider = provider
        self.served = served or Served(name)
        self.model_map = model_map
        self.accounts: tuple[Account, ...] = ()
        self.clients = ClientAccounts(self, client_secret)
        self.prefix = pool.origin.target_prefix
        self.host = pool.origin.host_header
        proxy = pool.origin.proxy
        self.proxy_authorization = None if proxy is None or pool.origin.tls else proxy.authorization
        self.count_tokens = CountTokens(memory)
        if credential is not None:
            self.hold("default", credential)

    def __repr__(self) -> str:
        return f"Upstream({self.name})"

    def hold(self, name: str, credential: Header, *, max_concurrency: int | None = None) -> Account:
        """Add an account. Allowed only while the configuration is being built."""
        account = Account(self, name, credential, max_concurrency=max_concurrency)
        self.accounts += (account,)
        return account

    @property
    def credential(self) -> Header | None:
        """The first account's header field; None if each client sends its own credential."""
        return self.accounts[0].credential if self.accounts else None

    def accounts_of(self, request: Request) -> tuple[Account, ...]:
        """The accounts that a request may use: the held ones, else the client's own."""
        return self.accounts or (self.clients.find(request.fields, request.withheld),)

    def target(self, model: str | None) -> str | None:
        """The model to send in place of `model`; None to leave it as it is."""
        if model is None:
            return None
        return next((target for pattern, target in self.model_map if matches(pattern, model) and target != model), None)


def too_many_workers(upstreams: Iterable[Upstream], workers: int) -> str | None:
    """A sentence that recommends one worker if an account allows too few requests for so many; None if all allow enough."""
    if workers < 2:
        return None
    limits = {one.id: one.starting_limit for upstream in upstreams for one in upstream.accounts}
    limits |= {one.name: one.provider.concurrency for one in upstreams if not one.accounts}
    name, limit = min(limits.items(), key=lambda item: item[1] or math.inf)
    if limit is None or limit >= 2 * workers:
        return None
    return (
        f"{name} takes {limit} at a time, too few for {workers} workers: each sends 1 at a time, even if others are idle, and "
        "requests queue in order within one worker only. Use one worker: it serves hundreds of streams."
    )


class ClientAccounts:
    """The accounts of clients that send their own credentials, each known by a keyed hash (HMAC-SHA256) of its credential.

    A client's account belongs to the one upstream that its credential is sent to. The 1,000 most recently used are remembered;
    one that is in use stays the same account even if it is no longer among them.

    Args:
        secret: returns the key of the hash; by default a random one of this process.
    """

    def __init__(self, upstream: Upstream, secret: Callable[[], bytes] | None = None, limit: int = MAX_CLIENTS) -> None:
        own = secrets.token_bytes(32)
        self._upstream = upstream
        self._secret = secret or (lambda: own)
        self._limit = limit
        self._by_fields: OrderedDict[tuple[bytes | None, bytes | None], Account] = OrderedDict()  # least recently used first
        self._by_name: WeakValueDictionary[str, Account] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._by_fields)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_name.values())

    def find(self, fields: Mapping[bytes, bytes], withheld: frozenset[bytes] = _NONE) -> Account:
        """Return the account of the credential in a request's header fields.

        Args:
            fields: header fields by name.
            withheld: names of those that carry this proxy's own key.
        """
        shown = (fields.get(b"authorization"), fields.get(b"x-api-key"))
        if withheld:
            shown = (
                None if b"authorization" in withheld else shown[0],
                None if b"x-api-key" in withheld else shown[1],
            )
        account = self._by_fields.get(shown)
        if account is None:
            return self._add(shown)
        self._by_fields.move_to_end(shown)
        return account

    def carry(self, old: ClientAccounts) -> None:
        """Take over what is carried with the accounts of `old`, for a reload that does not change the address."""
        for shown, before in old._by_fields.items():
            self._add(shown).carried = before.carried

    def _add(self, shown: tuple[bytes | None, bytes | None]) -> Account:
        name = self._name(shown)
        account = self._by_name.get(name)
        if account is None:
            account = self._by_name[name] = Account(self._upstream, name)
        self._by_fields[shown] = account
        if len(self._by_fields) > self._limit:
            self._by_fields.popitem(last=False)
        return account

    def _name(self, shown: tuple[bytes | None, bytes | None]) -> str:
        first, second = shown if self._upstream.provider.auth == "bearer" else shown[::-1]
        value = first or second  # with both, the provider reads the one that it documents
        if value is None:
            return "anonymous"
        scheme, _, rest = value.partition(b" ")
        credential = rest.strip() if scheme.lower() == b"bearer" else value.strip()
        return "client-" + hmac.new(self._secret(), credential, hashlib.sha256).hexdigest()[:12]
