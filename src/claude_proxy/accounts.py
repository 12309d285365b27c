"""Makes upstreams and their accounts from the settings; in a reload over those that are in use.

A reload keeps what has not changed: the object of an unchanged upstream; the connection pool of one whose address is the same;
and what is carried of an account (its queue and limit) whose name and credential are the same.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from claude_proxy.errors import SettingsError
from claude_proxy.protocol.providers import PROVIDERS, Provider, find_at
from claude_proxy.proxy.accounts import Account, Upstream
from claude_proxy.proxy.headers import Header
from claude_proxy.routing.routes import Route, Served, never_asked
from claude_proxy.settings import SECRETS, AccountSettings, RouteTable, Settings, UpstreamSettings
from claude_proxy.settings.problems import meant
from claude_proxy.settings.secret_file import secret_in
from claude_proxy.upstream.dial import parse_origin
from claude_proxy.upstream.pool import Pool

MAX_REPLACED = 100  # secrets that a reload has replaced and that are still redacted

log = structlog.get_logger("accounts")


class ClientSecret:
    """The key of the hash by which clients' credentials are told apart: from a file of DATA_DIR, else a random one."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "client-accounts.key"
        self._value = secrets.token_bytes(32)
        self._settled = False

    def __call__(self) -> bytes:
        """Return it. From then on it stays the same, whether it was loaded or not."""
        self._settled = True
        return self._value

    def load(self) -> bool:
        """Read the file, or make it. Return whether it can be kept there; it may take as long as the disk takes."""
        found = secret_in(self._path)
        if found is not None and not self._settled:
            self._value = found
        return found is not None


class HeldSecrets:
    """The proxy's own secrets, for whatever redacts them: those in force, and the latest that a reload has replaced.

    An exchange that began before a reload may still quote a replaced one. May be called in any thread.
    """

    def __init__(self, settings: Settings, upstreams: Iterable[Upstream]) -> None:
        self._found: tuple[bytes, ...] = ()
        self.follow(settings, upstreams)

    def __call__(self) -> tuple[bytes, ...]:
        """Return them."""
        return self._found

    def follow(self, settings: Settings, upstreams: Iterable[Upstream]) -> None:
        """Add those of a new configuration."""
        values = [getattr(settings, name) for name in sorted(SECRETS)]
        found = [value.get_secret_value().encode() for value in values if value is not None]
        fields = [account.credential for one in upstreams for account in one.accounts if account.credential is not None]
        found += [value.removeprefix(b"Bearer ") for _, value in fields]
        replaced = [secret for secret in self._found if secret not in found]
        self._found = (*dict.fromkeys(found), *replaced[:MAX_REPLACED])


def make_upstreams(
    wanted: Sequence[UpstreamSettings],
    routes: Iterable[Route],
    settings: Settings,
    *,
    old: Iterable[Upstream] = (),
    client_secret: Callable[[], bytes] | None = None,
) -> tuple[Upstream, ...]:
    """Return the upstreams that the settings describe. `adopt` completes a reload.

    Args:
        old: those in use.
        client_secret: see `Upstream`.

    Raises:
        SettingsError: a provider is unknown, an upstream would never be asked, or a proxy variable cannot be used.
    """
    known = {upstream.name: upstream for upstream in old}
    made = tuple(_make(one, settings, known.get(one.name), client_secret) for one in wanted)
    where = {one.name: one.where for one in wanted}
    if faults := [_never(one, other, where) for one, other in never_asked([upstream.served for upstream in made], tuple(routes))]:
        raise SettingsError("\n".join(faults))
    return made


def make_routes(tables: Iterable[RouteTable]) -> tuple[Route, ...]:
    """Return the routes of `[[route]]`."""
    return tuple(Route(table.upstreams, table.match.model, table.match.request_class, table.match.agent_type) for table in tables)


def adopt(new: Sequence[Upstream], old: Sequence[Upstream]) -> None:
    """Carry over what the old upstreams and accounts know, and let go of the rest. Called on the event loop.

    A removed account finishes what it has. A pool that is not used on closes each of its connections after its exchange.
    """
    known = {upstream.name: upstream for upstream in old}
    for upstream in new:
        before = known.get(upstream.name)
        if before is not None and before is not upstream and before.base_url == upstream.base_url:
            _carry(upstream, before)
    _retire(new, old)


def provider_of(wanted: UpstreamSettings) -> Provider:
    """Return the provider that an upstream names, else the one of its host.

    Raises:
        SettingsError: there is no provider of that name.
    """
    if wanted.provider is None:
        return find_at(wanted.base_url)
    names = [provider.name for provider in PROVIDERS]
    if wanted.provider not in names:
        known = meant(wanted.provider, names)
        raise SettingsError(f"{wanted.where}: provider={wanted.provider}: unknown{known} Known are {', '.join(sorted(names))}.")
    return next(provider for provider in PROVIDERS if provider.name == wanted.provider)


def header_of(account: AccountSettings, provider: Provider) -> Header:
    """Return the header field that carries an account's key."""
    key = account.key.get_secret_value().encode()
    bearer = (account.auth or provider.auth) == "bearer"
    return (b"authorization", b"Bearer " + key) if bearer else (b"x-api-key", key)


def _make(
    wanted: UpstreamSettings, settings: Settings, before: Upstream | None, client_secret: Callable[[], bytes] | None
) -> Upstream:
    made_from = (wanted, settings.count_tokens_memory, _pool_settings(wanted.base_url, settings))
    if before is not None and before.made_from == made_from:
        return before
    provider = provider_of(wanted)
    upstream = Upstream(
        wanted.name,
        _pool(wanted.base_url, settings, before),
        base_url=wanted.base_url,
        provider=provider,
        served=Served(wanted.name, _realm(wanted, provider), wanted.priority, wanted.weight, wanted.models),
        model_map=wanted.map,
        memory=settings.count_tokens_memory,
        client_secret=client_secret,
        made_from=made_from,
    )
    for account in wanted.accounts:
        upstream.hold(account.name, header_of(account, provider), max_concurrency=account.max_concurrency)
    return upstream


def _realm(wanted: UpstreamSettings, provider: Provider) -> str:
    """Return what upstreams that understand each other share: the provider if it is a named one, else only the address."""
    return provider.name if wanted.provider is not None or provider.public else urlsplit(wanted.base_url).netloc


def _pool_settings(base_url: str, settings: Settings) -> tuple[object, ...]:
    """Return all that a pool is made from; two pools of equal ones are interchangeable."""
    own = settings.connect_timeout, settings.keepalive_expiry, settings.max_connections
    return parse_origin(base_url), settings.upstream_ca_file, *own


def _pool(base_url: str, settings: Settings, before: Upstream | None) -> Pool:
    if before is not None and before.made_from is not None and before.made_from[-1] == _pool_settings(base_url, settings):
        return before.pool
    return Pool(
        parse_origin(base_url),
        settings.upstream_ca_file,
        connect_timeout=settings.connect_timeout,
        expiry=settings.keepalive_expiry,
        limit=settings.max_connections,
    )


def _carry(upstream: Upstream, before: Upstream) -> None:
    upstream.count_tokens = before.count_tokens
    for account in upstream.accounts:
        for other in before.accounts:
            if _same(account, other):
                account.carried = other.carried
    if not upstream.accounts and not before.accounts:
        upstream.clients.carry(before.clients)


def _same(account: Account, other: Account) -> bool:
    return account.name == other.name and account.credential == other.credential


def _retire(new: Sequence[Upstream], old: Sequence[Upstream]) -> None:
    carried = {id(account.carried) for upstream in new for account in (*upstream.accounts, *upstream.clients)}
    pools = {id(upstream.pool) for upstream in new}
    for upstream in old:
        for account in (*upstream.accounts, *upstream.clients):
            account.removed = id(account.carried) not in carried
        if id(upstream.pool) not in pools:
            upstream.pool.retire()


def _never(one: Served, other: Served, where: dict[str, str]) -> str:
    return (
        f'{where[one.name]}: it would never be asked, since "{other.name}" is another provider, comes first and serves the same '
        "models. Name it in a [[route]], or give both the models that are theirs."
    )


async def load_in_time(secret: ClientSecret, seconds: float = 2.0) -> None:
    """Load the secret, but do not let a disk that hangs delay the start for longer than `seconds`."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def load() -> None:
        if not secret.load():
            log.info("client_accounts", note="DATA_DIR cannot keep their secret: clients get new account names at each start")
        with suppress(RuntimeError):  # the loop has been closed since
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=load, name="client-secret", daemon=True).start()
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), seconds)
