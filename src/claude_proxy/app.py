"""The only wiring: settings in, application out. Importing this, and `create_app` itself, open nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from starlette.datastructures import State

from claude_proxy import __version__, logs
from claude_proxy.access.gate import Gate
from claude_proxy.access.origin import OriginRules, preflight_headers
from claude_proxy.errors import ProxyError, render
from claude_proxy.exchange import Listener, Listeners
from claude_proxy.ids import Ids
from claude_proxy.ledger import Ledger
from claude_proxy.ledger.charging import Charging
from claude_proxy.observe import seen
from claude_proxy.observe.cache import CacheObserver
from claude_proxy.observe.fleet import Fleet
from claude_proxy.observe.line import ExchangeLog
from claude_proxy.observe.live import Live, Watcher
from claude_proxy.observe.metrics import Metrics
from claude_proxy.observe.quota import QuotaPoll
from claude_proxy.observe.sessions import Sessions
from claude_proxy.observe.sources import Sources
from claude_proxy.parts import (
    make_capture,
    make_charging,
    make_ledger,
    make_notifier,
    make_quota_poll,
    make_reader,
    make_status,
    make_upstream,
)
from claude_proxy.proxy.client import Receive, Scope, Send
from claude_proxy.proxy.config import Config
from claude_proxy.proxy.forward import Forward
from claude_proxy.proxy.target import PREFIX, below_prefix
from claude_proxy.settings import Settings, load, unread_sentence
from claude_proxy.signals import on_stop_signal
from claude_proxy.web import Door, PageFacts, install
from claude_proxy.web import Upstream as UpstreamFacts
from claude_proxy.web.admin import require_admin
from claude_proxy.web.api import Sources as ApiSources
from claude_proxy.web.api import install_api, items
from claude_proxy.web.asgi import answer, refuse_websocket, with_cors
from claude_proxy.web.examining import examination
from claude_proxy.web.metrics import metrics
from claude_proxy.web.pages import Site, Workers, install_pages

if TYPE_CHECKING:
    from claude_proxy.exchange import Failure
    from claude_proxy.notify import Notifier
    from claude_proxy.notify.advice import Advice
    from claude_proxy.observe.status import StatusSource
    from claude_proxy.protocol.providers import Provider
    from claude_proxy.web.admin import Check

log = structlog.get_logger("app")


class App(FastAPI):
    """FastAPI for the pages; what is below the prefix goes straight to `forward`, past FastAPI's stack."""

    forward: Forward
    origins: OriginRules
    published_under: str = ""  # ROOT_PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        kind = scope["type"]
        if kind == "lifespan":
            await super().__call__(scope, receive, send)
            return
        if self.published_under and not scope.get("root_path"):
            scope["root_path"] = self.published_under  # for servers that cannot be told
        if kind == "websocket":
            await refuse_websocket(receive, send)
            return
        if self.origins.any_named and (origin := self.origins.allowed_origin(scope)) is not None:
            if scope["method"] == "OPTIONS":
                await answer(send, 204, preflight_headers(scope, origin), b"")
                return
            send = with_cors(send, origin)
            scope["extensions"] = {}  # no way past `send`
        path = below_prefix(scope)
        if path is None:
            await self._page(scope, receive, send)
        else:
            await self.forward.serve(scope, receive, send, path)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        unrepeat_root_path(scope)
        try:
            self.origins.check(scope)
        except ProxyError as error:
            refusal = render(error)
            await answer(send, refusal.status, refusal.headers, refusal.body)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    *,
    default_base_url: str | None = None,
    beside: str | Path | None = None,
    listeners: Iterable[Listener] = (),
) -> App:
    """Build the application.

    Args:
        settings: by default read from the environment and the one file of settings (settings/places.py).
        default_base_url: what BASE_URL is where neither says it (proxy.py).
        beside: the named proxy.py (its `__file__`); a claude-proxy.toml beside it is read if no other file is.
        listeners: told of exchanges besides our own.

    Raises:
        SettingsError: with a sentence for each setting that cannot be used.
    """
    name, unread = "default", None
    origins: Mapping[str, str] = {}
    if settings is None:
        defaults = {} if default_base_url is None else {"base_url": default_base_url}
        loaded = load(defaults=defaults, beside=None if beside is None else Path(beside))
        settings, name, unread, origins = loaded.settings, loaded.upstream_name, loaded.unread, loaded.sources
    told = structlog.is_configured()  # by serve or gunicorn_conf.py, which have said it once for all workers
    logs.configure(settings.log_level, settings.log_format)
    if unread is not None and not told:
        log.warning("option", note=unread_sentence(unread))
    app = bare_app()
    state: dict[str, Any] = {"settings": settings, "draining": False, "ids": Ids()}
    app.state = State(state)
    upstream = make_upstream(settings, name)
    charging = make_charging({name: settings.base_url})
    ledger = app.state.ledger = make_ledger(settings, charging, app.state.ids)
    app.state.reader = make_reader(settings, ledger)
    app.state.live = live = Live()
    quota = make_quota_poll(settings, (upstream,), ledger)
    notifier = make_notifier(settings)
    app.state.capture = make_capture(settings)
    counted = Metrics(sources(app, notifier, charging, quota), data_dir=settings.data_dir)
    app.state.fleet = Fleet(live, told_here(app, charging), settings.data_dir)
    sessions = Sessions(projects=settings.project_names)
    watch = None if ledger is None else CacheObserver()
    # `sessions` comes first: it names the project that the others record.
    kept = (watch, ledger, app.state.capture, quota, notifier, app.state.fleet)
    found = (sessions, ExchangeLog(), counted, live, *listeners, *kept)
    app.state.listeners = Listeners([listener for listener in found if listener is not None], on_listener_error)
    app.published_under = settings.root_path
    app.origins = OriginRules(settings.allowed_hosts, settings.allowed_origins)
    gate = Gate(settings, app.origins, lambda: bool(state["draining"]))
    app.forward = Forward(Config(settings, gate, (upstream,)), app.state.listeners, app.state.ids)
    windows = quota.windows if quota is not None else tuple
    status = make_status(app.state.reader, sessions, ledger, charging, {name: settings.base_url}, windows)
    app.state.status = status
    admin = require_admin(settings.admin_token)
    known = api_sources(app, settings, notifier, origins)
    add_pages(app, site_of(app, known, name, beside), (status, Door(settings, sessions)), admin)
    app.include_router(metrics(counted.text, admin))
    install_api(app, known, admin)
    return app


def bare_app() -> App:
    """FastAPI as we use it, without a route."""
    return App(
        title="claude-proxy",
        version=__version__,
        summary="A self-hosted proxy for the Anthropic API.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )


def sources(app: App, notifier: Notifier | None, charging: Charging, quota: QuotaPoll | None) -> Sources:
    """What the metrics take from the other rooms."""
    ledger: Ledger | None = app.state.ledger
    return Sources(
        upstreams=lambda: [upstream.name for upstream in app.forward.config.upstreams],
        in_flight=lambda: app.forward.running,
        listener_errors=lambda: app.state.listeners.errors,
        log_lines_lost=logs.lines_lost,
        notices=lambda: {} if notifier is None else {"sent": notifier.publisher.sent, "lost": notifier.publisher.lost},
        quota=lambda: () if quota is None else quota.windows(),
        price=charging.cost_of,
        credits=charging.credits_of,
        ledger_lost=lambda: 0 if ledger is None else ledger.writer.lost,
        ledger_queue=lambda: 0 if ledger is None else ledger.writer.waiting,
    )


def api_sources(app: App, settings: Settings, notifier: Notifier | None, origins: Mapping[str, str]) -> ApiSources:
    """What the API takes from the other rooms.

    Args:
        origins: where each setting comes from.
    """
    return ApiSources(
        reader=app.state.reader,
        live=app.state.live,
        timezone=settings.timezone,
        upstreams=lambda: [items.upstream(one, app.state.live) for one in app.forward.config.upstreams],
        incidents=lambda: [] if notifier is None else notifier.incidents(),
        settings=lambda: [items.setting(settings, field, origins) for field in Settings.model_fields],
    )


def site_of(app: App, known: ApiSources, name: str, beside: str | Path | None) -> Site:
    """What the page takes from the other rooms, besides what the API takes.

    Args:
        name: of the upstream.
        beside: as in `create_app`, for the doctor.
    """
    doctor = examination(() if beside is None else ("--app", str(beside)))
    return Site(known, lambda: facts(app.state.settings, name), lambda: readiness(app), doctor, advice)


def advice(failure: Failure, provider: Provider) -> Advice:
    """What a failure means; the room of notices is imported by the first who asks."""
    from claude_proxy.notify.advice import advise

    return advise(failure, provider)


def add_pages(app: App, site: Site, status_line: tuple[StatusSource, Door], admin: Check) -> None:
    """The page with its live part, and what is open to all."""
    fleet: Fleet = app.state.fleet
    page = install_pages(app, site, admin, Workers(fleet.answer, fleet.ask, fleet.let_go))
    install(app, site.facts, site.ready, status_line, page)


def told_here(app: App, charging: Charging) -> Callable[[Watcher], dict[str, Any]]:
    """What this process tells those who look at the page, of its own and of the other workers."""
    price = charging.cost_of if app.state.ledger is not None else lambda _: None

    def tell(watcher: Watcher) -> dict[str, Any]:
        live = app.state.live
        told = seen.told(live, watcher, price, asyncio.get_running_loop().time())
        return told | {"upstreams": [items.upstream(one, live) for one in app.forward.config.upstreams]}

    return tell


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """What needs a running loop: listeners started, at the end closed, and the connections with them."""
    await app.state.listeners.start()
    gc.freeze()  # what is there now stays: the collector need not walk it again and again
    logs.gather(asyncio.get_running_loop())
    loop = asyncio.get_running_loop()

    def stopping() -> None:
        app.state.draining = True
        loop.call_soon_threadsafe(app.state.live.end)  # a signal's handler may run in the middle of anything

    restore = on_stop_signal(stopping)
    log.info(
        "ready", version=__version__, upstream=app.state.settings.base_url, notices=app.state.settings.ntfy_topic is not None
    )
    try:
        yield
    finally:
        restore()
        await app.state.listeners.aclose()
        app.forward.close()
        log.info("stopped", running=app.forward.running)
        logs.gather(None)


def facts(settings: Settings, name: str = "default") -> PageFacts:
    """What the pages may say about this proxy."""
    return PageFacts(
        version=__version__,
        prefix=PREFIX,
        upstreams=(UpstreamFacts(name, settings.base_url),),
        holds_credential=settings.upstream_api_key is not None,
        needs_key=settings.proxy_api_key is not None,
        notices=settings.ntfy_topic is not None,
    )


def readiness(app: App) -> tuple[bool, str]:
    """Whether new requests are welcome, and why not."""
    return (False, "draining") if app.state.draining else (True, "")


def on_listener_error(hook: str, error: Exception) -> None:
    """A listener failed; the exchange did not notice."""
    log.error("listener failed", hook=hook, exc_info=error)


def unrepeat_root_path(scope: Scope) -> None:
    """Behind a front that does not strip, uvicorn's root path stands before the path twice (docs/facts.md, "ASGI servers")."""
    root = scope.get("root_path", "").rstrip("/")
    while root and scope["path"].startswith(root * 2 + "/"):
        scope["path"] = scope["path"][len(root) :]
