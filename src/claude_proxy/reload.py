"""Reloads the settings while the proxy serves: when a file has changed, or at SIGHUP without a terminal.

The settings are read and checked whole in a thread of their own, so that a slow disk delays no request. Then they are swapped at
once for the exchanges to come; those that run finish under the settings they began with. If anything is wrong the old settings
stay, and the log says what.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from claude_proxy.accounts import ClientSecret, adopt, make_routes, make_upstreams
from claude_proxy.errors import ProxyError
from claude_proxy.proxy.config import Config, Gate
from claude_proxy.proxy.forward import Forward
from claude_proxy.settings import RELOADED, Loaded, Settings

EVERY = 2.0  # seconds between two looks at the files
SETTLED = 0.2  # seconds without a change after which a file counts as completely written
PATIENCE = 10.0  # seconds that the event loop may take to swap

log = structlog.get_logger("settings")
State = dict[Path, tuple[int, ...] | None]


class Reloader:
    """Watches the settings files and brings changes into force.

    Args:
        loaded: the settings in force.
        read: reads them again. Raises SettingsError.
        forward: gets the new configuration.
        make_gate: makes the gate of a configuration.
        secret: of clients' accounts.
        changed: told of each new configuration, on the event loop.
        every: seconds between two looks.
    """

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded],
        forward: Forward,
        make_gate: Callable[[Settings], Gate],
        secret: ClientSecret,
        *,
        changed: Callable[[Config], None] = lambda _: None,
        every: float = EVERY,
    ) -> None:
        self._read = read
        self._forward = forward
        self._make_gate = make_gate
        self._secret = secret
        self._changed = changed
        self._every = every
        self._seen = state_of(loaded.watched)
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch. The thread is a daemon: a disk that hangs does not keep the process from ending."""
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="settings", daemon=True)
        self._thread.start()

    def reload(self) -> None:
        """Have the settings read again soon, whether a file has changed or not. May be called in a signal handler."""
        self._wake.set()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()
        self._wake.set()

    # -- in the thread

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped.is_set():
            asked = self._wake.wait(self._every)
            self._wake.clear()
            if self._stopped.is_set():
                return
            self.look(loop, asked=asked)

    def look(self, loop: asyncio.AbstractEventLoop, *, asked: bool = False) -> None:
        """Reload if a file has changed, or if `asked`; return when that is done. Not to be called on the event loop."""
        now = state_of(self._seen)
        if asked or now != self._seen:
            self._seen = self._settled(now)
            self._load(loop)

    def _settled(self, now: State) -> State:
        """Wait until the files stop changing: an editor may be in the middle of writing one."""
        while not self._stopped.wait(SETTLED):
            before, now = now, state_of(self._seen)
            if now == before:
                break
        return now

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loaded = self._read()
            swap = self._prepared(loaded)
        except ProxyError as error:
            log.warning("settings_refused", problem=error.message, note="the settings in force stay as they are")
            return
        except Exception:  # a fault of ours must not end the watch: the settings in force stay
            log.exception("settings_refused", note="the settings in force stay as they are")
            return
        self._seen = {path: self._seen.get(path) or state_of((path,))[path] for path in loaded.watched}
        done = threading.Event()

        def swap_now() -> None:
            swap()
            done.set()

        try:
            loop.call_soon_threadsafe(swap_now)
        except RuntimeError:  # the loop has been closed
            return
        done.wait(PATIENCE)  # the next reload builds on this one

    def _prepared(self, loaded: Loaded) -> Callable[[], None]:
        """Do everything that may fail or take time. Return what is left to do on the event loop.

        Raises:
            SettingsError: the settings cannot be used.
        """
        current = self._forward.config
        settings = current.settings.model_copy(update={name: getattr(loaded.settings, name) for name in RELOADED})
        routes = make_routes(loaded.tables.routes)
        upstreams = make_upstreams(loaded.upstreams, routes, settings, old=current.upstreams, client_secret=self._secret)
        if not any(upstream.accounts for upstream in upstreams):
            self._secret.load()
        config = Config(settings, self._make_gate(settings), upstreams, routes)
        later = [name.upper() for name in restart_only(loaded.settings, settings)]

        def swap() -> None:
            adopt(upstreams, current.upstreams)
            pools = [*current.retired, *(upstream.pool for upstream in current.upstreams)]
            in_use = [upstream.pool for upstream in upstreams]
            config.retired = tuple(pool for pool in pools if pool not in in_use and len(pool))
            self._forward.config = config
            self._changed(config)
            log.info("settings_reloaded", **summary(config, current), **({"at_next_start": later} if later else {}))

        return swap


def restart_only(found: Settings, current: Settings) -> list[str]:
    """Return the settings that have changed but are read at the start only."""
    return [name for name in Settings.model_fields if name not in RELOADED and getattr(found, name) != getattr(current, name)]


def summary(config: Config, before: Config) -> dict[str, list[str]]:
    """Return the names of upstreams, and of accounts that came and went, for the log."""
    new, old = ({account.id: account for account in one.accounts} for one in (config, before))
    found = {
        "upstreams": [upstream.name for upstream in config.upstreams],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "new_key": [name for name in new if name in old and new[name].credential != old[name].credential],
    }
    return {name: names for name, names in found.items() if names}


def state_of(paths: Iterable[Path]) -> State:
    """Return what tells whether each file has changed; None for a missing one. Links are followed, as Kubernetes swaps them."""
    found: State = {}
    for path in paths:
        try:
            stat = path.stat()
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev)
        except OSError:
            found[path] = None
    return found
