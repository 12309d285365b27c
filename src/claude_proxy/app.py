"""Builds the application from the settings, the only place that connects its parts. Opens nothing before the lifespan starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import structlog
from fastapi import FastAPI

from claude_proxy import __version__, logs, memory
from claude_proxy.access.gate import Gate
from claude_proxy.access.origin import OriginRules, preflight_headers
from claude_proxy.accounts import ClientSecret, HeldSecrets, load_in_time, make_routes, make_upstreams
from claude_proxy.errors import ProxyError, render
from claude_proxy.exchange import Listener, Listeners
from claude_proxy.ids import Ids
from claude_proxy.ledger import Ledger
from claude_proxy.ledger.charging import Charging
from claude_proxy.observe.cache import CacheObserver
from claude_proxy.observe.line import ExchangeLog
from claude_proxy.observe.live import Live
from claude_proxy.observe.machine import Machine
from claude_proxy.observe.metrics import Metrics
from claude_proxy.observe.quota import QuotaPoll
from claude_proxy.observe.quota_sharing import QuotaSharing
from claude_proxy.observe.seen import Together
from claude_proxy.observe.sessions import Sessions
from claude_proxy.observe.siblings import Siblings
from claude_proxy.observe.sources import Sources
from claude_proxy.parts import (
    advise,
    hosts_of,
    learned_limits,
    make_capture,
    make_charging,
    make_headcount,
    make_incidents,
    make_kept,
    make_ledger,
    make_notifier,
    make_origins,
    make_quota_poll,
    make_reader,
    make_status,
    make_turns,
    make_viewers,
    queued,
    watched_quotas,
)
from claude_proxy.proxy.client import Receive, Scope, Send
from claude_proxy.proxy.config import Config
from claude_proxy.proxy.forward import Forward
from claude_proxy.proxy.target import PREFIX, below_prefix
from claude_proxy.proxy.turns import Turns
from claude_proxy.reload import Reloader
from claude_proxy.settings import Loaded, Settings, load, unread_sentence
from claude_proxy.signals import on_hangup, on_stop_signal
from claude_proxy.web import Door, PageFacts, install
from claude_proxy.web import Upstream as UpstreamFacts
from claude_proxy.web.admin import require_viewer
from claude_proxy.web.api import Sources as ApiSources
from claude_proxy.web.api import install_api, items
from claude_proxy.web.asgi import answer, refuse_websocket, with_cors
from claude_proxy.web.examining import examination
from claude_proxy.web.login_start import LoginStart
from claude_proxy.web.metrics import metrics
from claude_proxy.web.pages import Site, install_pages

if TYPE_CHECKING:
    from claude_proxy.notify import Notifier
    from claude_proxy.observe.status import StatusSource

log = structlog.get_logger("app")


class App(FastAPI):
    """FastAPI serves the pages; requests below the prefix go straight to `forward`, past its middleware and routing."""

    forward: Forward
    origins: OriginRules
    published_under: str = ""  # ROOT_PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        kind = scope["type"]
        if kind == "lifespan":
            await super().__call__(scope, receive, send)
            return
        if self.published_under and not scope.get("root_path"):
            scope["root_path"] = self.published_under  # for servers without an option for it
        if kind == "websocket":
            await refuse_websocket(receive, send)
            return
        if self.origins.any_named and (origin := self.origins.allowed_origin(scope)) is not None:
            if scope["method"] == "OPTIONS":
                await answer(send, 204, preflight_headers(scope, origin), b"")
                return
            send = with_cors(send, origin)
            scope["extensions"] = {}  # the extension would bypass this `send`
        path = below_prefix(scope)
        if path is None:
            await self._page(scope, receive, send)
        else:
            await self.forward.serve(scope, receive, send, path)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        unrepeat_root_path(scope)
        try:
            self.origins.check_page(scope)
        except ProxyError as error:
            refusal = render(error)
            await answer(send, refusal.status, refusal.headers, refusal.body)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings | Loaded | None = None,
    *,
    default_base_url: str | None = None,
    beside: str | Path | None = None,
    listeners: Iterable[Listener] = (),
    read: Callable[[], Loaded] | None = None,
) -> App:
    """Build the application.

    Args:
        settings: by default read from the environment and the settings file (settings/places.py).
        default_base_url: the BASE_URL to use if neither of them sets it (proxy.py).
        beside: `__file__` of the proxy.py that is served; a claude-proxy.toml next to it is read if no other settings file is.
        listeners: additional observers of exchanges.
        read: reads the settings again for a reload; by default from where they came, and never if `settings` are given.

    Raises:
        SettingsError: with a sentence for each invalid setting.
    """
    read = read or (reader_of(default_base_url, beside) if settings is None else None)
    loaded = taken(settings, read)
    settings, origins = loaded.settings, loaded.sources
    app = bare_app()
    app.state = cast("Any", SimpleNamespace(settings=settings, draining=False, ids=Ids(), live=Live()))  # faster than State
    secret = app.state.client_secret = ClientSecret(settings.data_dir)
    routes = make_routes(loaded.tables.routes)
    upstreams = make_upstreams(loaded.upstreams, routes, settings, client_secret=secret)
    hosts = hosts_of(upstreams)
    charging = make_charging(hosts)
    held = HeldSecrets(settings, upstreams)
    notifier = make_notifier(settings, app.state.ids, lambda: ledger, lambda: app.state.reader, held)
    ledger = app.state.ledger = make_ledger(settings, charging, app.state.ids, notifier)
    app.state.reader = make_reader(settings, ledger)
    siblings = Siblings(settings.data_dir)
    quota = make_quota_poll(settings, upstreams, ledger, QuotaSharing(siblings, lambda: counted.leads), notifier)
    app.state.capture = make_capture(settings, held)
    counted = Metrics(sources(app, notifier, charging, quota), data_dir=settings.data_dir)
    app.state.machine = machine = machine_of(app, siblings)
    app.state.together = together_of(app, siblings, charging)
    sessions = Sessions(projects=settings.project_names)
    watch = None if ledger is None else CacheObserver()
    turns = make_turns(settings)
    shared = (counted, app.state.live, siblings, machine, make_headcount(turns, settings, siblings, lambda: app.forward.config))
    # `sessions` comes first: it names the project that the others record.
    kept = (watch, ledger, app.state.capture, quota, notifier, learned_limits(turns, settings))
    hang_on(app, sessions, ExchangeLog(), *shared, *listeners, *kept)
    app.published_under, app.origins = settings.root_path, make_origins(settings)
    config = Config(settings, make_gate(app, settings), upstreams, routes)
    app.forward = Forward(config, app.state.listeners, app.state.ids, turns)
    status = app.state.status = make_status(app.state.reader, sessions, ledger, charging, hosts, quota)
    door = Door(settings, sessions)
    app.state.reloader = None if read is None else make_reloader(app, loaded, read, Followers(hosts, held, door, quota, turns))
    app.state.viewers = make_viewers(settings)
    shown = api_sources(app, settings, notifier, origins)
    add_routes(app, shown, site_of(app, shown, beside), (status, door), counted)
    return app


def taken(settings: Settings | Loaded | None, read: Callable[[], Loaded] | None) -> Loaded:
    """The settings to begin with, given or read; logging is configured by them."""
    if settings is None:
        assert read is not None
        settings = read()
    loaded = settings if isinstance(settings, Loaded) else Loaded.of(settings)
    told = structlog.is_configured()  # by serve or gunicorn_conf.py, which have logged it once for all workers
    logs.configure(loaded.settings.log_level, loaded.settings.log_format)
    if loaded.unread is not None and not told:
        log.warning("option", note=unread_sentence(loaded.unread))
    return loaded


def hang_on(app: App, *listeners: Listener | None) -> None:
    """Let listeners follow every exchange, in this order."""
    app.state.listeners = Listeners([listener for listener in listeners if listener is not None], on_listener_error)


def reader_of(default_base_url: str | None, beside: str | Path | None) -> Callable[[], Loaded]:
    """What reads the settings, at the start and in each reload; the arguments are those of `create_app`."""
    defaults = {} if default_base_url is None else {"base_url": default_base_url}
    return partial(load, defaults=defaults, beside=None if beside is None else Path(beside))


def make_gate(app: App, settings: Settings) -> Gate:
    """Who may pass under these settings."""
    return Gate(settings, app.origins, lambda: bool(app.state.draining))


class Followers(NamedTuple):
    """What has to learn of a reload besides the path."""

    hosts: dict[str, str]
    held: HeldSecrets
    door: Door
    quota: QuotaPoll | None
    turns: Turns | None

    def follow(self, config: Config) -> None:
        """A new configuration is in force."""
        self.hosts.update(hosts_of(config.upstreams))  # those of removed upstreams stay: their last exchanges are still priced
        self.held.follow(config.settings, config.upstreams)
        self.door.follow(config.settings)
        if self.quota is not None:
            self.quota.follow(watched_quotas(config.upstreams))
        if self.turns is not None:
            self.turns.follow(config, asyncio.get_running_loop())


def make_reloader(app: App, loaded: Loaded, read: Callable[[], Loaded], followers: Followers) -> Reloader:
    """What brings changed settings into force; it begins with the lifespan."""
    return Reloader(loaded, read, app.forward, partial(make_gate, app), app.state.client_secret, changed=followers.follow)


def bare_app() -> App:
    """Our FastAPI application, without routes."""
    return App(
        title="claude-proxy",
        version=__version__,
        summary="A self-hosted proxy for the Anthropic API.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )


def machine_of(app: App, siblings: Siblings) -> Machine:
    """What this worker and the others do together."""
    return Machine(app.state.live, siblings, lambda: upstreams_of(app))


def upstreams_of(app: App) -> list[dict[str, Any]]:
    """The upstreams in force, as the API shows them."""
    known = queued(app.forward)
    epoch = time.time() - asyncio.get_running_loop().time()
    return [items.upstream(one, app.state.live, known.get(one.name), epoch) for one in app.forward.config.upstreams]


def together_of(app: App, siblings: Siblings, charging: Charging) -> Together:
    """What the page shows of all workers."""
    price = charging.cost_of if app.state.ledger is not None else lambda _: None
    return Together(app.state.live, siblings, price, lambda: upstreams_of(app))


def sources(app: App, notifier: Notifier | None, charging: Charging, quota: QuotaPoll | None) -> Sources:
    """Where the metrics read the state of the other components."""
    ledger: Ledger | None = app.state.ledger
    return Sources(
        upstreams=lambda: [upstream.name for upstream in app.forward.config.upstreams],
        queued=lambda: queued(app.forward),
        in_flight=lambda: app.forward.running,
        listener_errors=lambda: app.state.listeners.errors,
        log_lines_lost=logs.lines_lost,
        notices=lambda: {} if notifier is None else {"sent": notifier.publisher.sent, "lost": notifier.publisher.lost},
        quota=lambda: () if quota is None else quota.windows(),
        has_prices=charging.has_prices,
        price=charging.cost_of,
        credits=charging.credits_of,
        ledger_lost=lambda: 0 if ledger is None else ledger.writer.lost,
        ledger_queue=lambda: 0 if ledger is None else ledger.writer.waiting,
    )


def api_sources(app: App, settings: Settings, notifier: Notifier | None, origins: Mapping[str, str]) -> ApiSources:
    """Where the API reads the state of the other components.

    Args:
        origins: where each setting comes from.
    """
    return ApiSources(
        reader=app.state.reader,
        live=app.state.live,
        machine=app.state.machine,
        timezone=settings.timezone,
        settings=lambda: [items.setting(app.forward.config.settings, field, origins) for field in Settings.model_fields],
        incidents=make_incidents(notifier, app.state.reader),
    )


def site_of(app: App, known: ApiSources, beside: str | Path | None) -> Site:
    """What the page takes from the other rooms, besides what the API takes.

    Args:
        beside: as in `create_app`, for the doctor.
    """
    doctor = examination(() if beside is None else ("--app", str(beside)))
    return Site(known, lambda: facts(app.forward.config), lambda: readiness(app), advise, doctor, make_kept(app.state.settings))


def add_routes(app: App, shown: ApiSources, site: Site, status_line: tuple[StatusSource, Door], counted: Metrics) -> None:
    """Add what is served beside the path: the page with its live part, the API, and what is open to all."""
    admin = require_viewer(app.state.viewers)
    with memory.without("pydantic.v1"):  # FastAPI loads it (1 MB) to ask whether a model is one of Pydantic 1: ours are not
        page = install_pages(app, site, admin, app.state.together)
        install(app, site.facts, site.ready, status_line, app.state.viewers, page)
        app.include_router(metrics(counted.text, admin))
        install_api(app, shown, admin, app.state.viewers.logins)
        nobody = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": []}
        for route in app.routes:  # otherwise FastAPI completes its routes, and asks, in the first request
            route.matches(nobody)


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Start the listeners; at the end close them and the upstream connections."""
    memory.share_heap()
    await app.state.listeners.start()
    opening = LoginStart(app.state.settings, app.state.viewers.logins)
    await opening.start()
    memory.settle()
    logs.gather(asyncio.get_running_loop())
    loop = asyncio.get_running_loop()

    def stopping() -> None:
        app.state.draining = True
        loop.call_soon_threadsafe(app.state.live.end)  # a signal handler may interrupt anything

    restore = on_stop_signal(stopping)
    config = app.forward.config
    if not config.accounts:
        await load_in_time(app.state.client_secret)
    log.info(
        "ready",
        version=__version__,
        upstream=",".join(upstream.base_url for upstream in config.upstreams),
        notices=config.settings.ntfy_topic is not None,
    )
    reloader: Reloader | None = app.state.reloader
    forget = on_hangup(reloader.reload) if reloader is not None else lambda: None
    if reloader is not None:
        reloader.start(loop)
    try:
        yield
    finally:
        forget()
        if reloader is not None:
            reloader.stop()
        restore()
        app.forward.tell_ended()
        await app.state.listeners.aclose()
        opening.close()
        app.forward.close()
        log.info("stopped", running=app.forward.running)
        logs.gather(None)


def facts(config: Config) -> PageFacts:
    """What the pages may show about this proxy."""
    settings = config.settings
    return PageFacts(
        version=__version__,
        prefix=PREFIX,
        upstreams=tuple(UpstreamFacts(upstream.name, upstream.base_url) for upstream in config.upstreams),
        holds_credential=settings.upstream_api_key is not None,
        needs_key=settings.proxy_api_key is not None,
        notices=settings.ntfy_topic is not None,
    )


def readiness(app: App) -> tuple[bool, str]:
    """Whether this process accepts new requests, and if not, why."""
    return (False, "draining") if app.state.draining else (True, "")


def on_listener_error(hook: str, error: Exception) -> None:
    """Log an exception of a listener. The exchange is not affected."""
    log.error("listener failed", hook=hook, exc_info=error)


def unrepeat_root_path(scope: Scope) -> None:
    """Undo uvicorn's repetition of a root path that the front did not strip (docs/facts.md, "ASGI servers")."""
    root = scope.get("root_path", "").rstrip("/")
    while root and scope["path"].startswith(root * 2 + "/"):
        scope["path"] = scope["path"][len(root) :]
