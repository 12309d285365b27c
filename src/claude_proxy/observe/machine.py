"""Running exchanges, events and upstreams of all workers of this server. With one worker they are that worker's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from claude_proxy.exchange import Listener
from claude_proxy.observe.live import Live, What
from claude_proxy.observe.siblings import Siblings

RESCAN = 1.0  # seconds between two searches for new workers, while events are read
HEARTBEAT = 5.0  # seconds of silence after which another worker sends a heartbeat
UP = "up"
_COUNTS = ("running", "waiting", "connections")  # limits are each worker's part of the account's, so they are added too
Item = dict[str, Any]


class Found(NamedTuple):
    """Items of all workers.

    Attributes:
        silent: workers that did not answer in time, and whose items are missing.
    """

    items: list[Item]
    silent: int = 0


class Machine(Listener):
    """Asks this worker and the others.

    Args:
        live: of this worker.
        siblings: the others.
        upstreams: this worker's upstreams, as the API shows them.
        rescan: seconds between two searches for new workers.
    """

    def __init__(self, live: Live, siblings: Siblings, upstreams: Callable[[], list[Item]], *, rescan: float = RESCAN) -> None:
        self._live = live
        self._siblings = siblings
        self._upstreams = upstreams
        self._rescan = rescan
        self._feed: asyncio.Task[None] | None = None
        siblings.on_question("running", lambda _: live.running())
        siblings.on_question("upstreams", lambda _: upstreams())
        siblings.on_listen("events", self._own_events)
        live.on_watched = self._on_watched

    async def running(self) -> Found:
        """The running exchanges, the oldest first."""
        others = await self._siblings.ask("running")
        items = [*self._live.running(), *(one for items in others.data for one in items)]
        return Found(sorted(items, key=lambda one: (one["started_at"], one["id"])), others.silent)

    async def upstreams(self) -> Found:
        """The upstreams, with the sums of all workers."""
        others = await self._siblings.ask("upstreams")
        return Found(merged((self._upstreams(), *others.data)), others.silent)

    async def aclose(self) -> None:
        """Stop reading the others' events."""
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.wait((self._feed,))

    # -- events

    async def _own_events(self) -> AsyncIterator[Any]:
        """The events of this worker, for another one."""
        watcher = self._live.watch_own()
        try:
            while (event := await watcher.next(HEARTBEAT)) is not None:
                yield event
        finally:
            self._live.unwatch(watcher)

    def _on_watched(self, watched: bool) -> None:
        """Read the others' events while this worker has readers."""
        if self._feed is not None:
            self._feed.cancel()
        self._feed = asyncio.get_running_loop().create_task(self._follow(), name="events") if watched else None

    async def _follow(self) -> None:
        links: dict[Path, asyncio.Task[None]] = {}
        try:
            while True:
                for path in self._siblings.others():
                    if path not in links or links[path].done():
                        links[path] = asyncio.create_task(self._read(path))
                await asyncio.sleep(self._rescan)
        finally:
            for link in links.values():
                link.cancel()
            await asyncio.gather(*links.values(), return_exceptions=True)

    async def _read(self, path: Path) -> None:
        async for what, data in self._siblings.listen(path, "events"):
            self._live.pass_on(What(what), data)


def merged(of_workers: Iterable[Iterable[Item]]) -> list[Item]:
    """The upstreams of several workers as one list: counts are added, and an upstream is up if it is up in every worker."""
    found: dict[str, Item] = {}
    for items in of_workers:
        for item in items:
            known = found.get(item["name"])
            found[item["name"]] = item if known is None else _added(known, item)
    return list(found.values())


def _added(one: Item, other: Item) -> Item:
    """Two workers' view of an upstream, or of an account, as one; what only one of them knows is its word."""
    both = one | {name: one.get(name, 0) + other[name] for name in _COUNTS if name in other}
    if other["state"] != UP and (one["state"] == UP or (other.get("back_at") or "") > (one.get("back_at") or "")):
        both |= {name: other[name] for name in ("state", "reason", "back_at") if name in other}
    if one.get("limit") is not None and other.get("limit") is not None:
        both["limit"] = one["limit"] + other["limit"]
    if "accounts" in other:
        accounts = {account["name"]: account for account in one.get("accounts", ())}
        for account in other["accounts"]:
            name = account["name"]
            accounts[name] = _added(accounts[name], account) if name in accounts else account
        both["accounts"] = list(accounts.values())
    return both
