"""Which block broke the prompt cache: the verdict on each Messages call, found while the upstream thinks.

The body is cut after it was sent, so the request does not wait; a large body is cut in a thread, so other requests do not wait
either. The verdict is in the exchange before any `on_exchange_end` runs.

A conversation is identified by session, agent and upstream (another upstream has a cold cache). For a client without a session id
(an SDK), the credential and the first block of the messages identify it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence

from claude_proxy.exchange import MESSAGES, CacheVerdict, Exchange, Header, Listener, Tap, Usage
from claude_proxy.observe.credentials import marks
from claude_proxy.protocol.blocks import HASH, MAX_BODY, Prompt, cut
from claude_proxy.protocol.cache_verdict import CacheWatch, Comparison

MIN_BODY = 4096
"""Bytes below which a prompt is shorter than any model caches (1,024 tokens)."""
IN_THREAD = 256 * 1024  # larger bodies are cut in a thread
MAX_WAITING = 16 * 1024 * 1024  # total bytes of bodies waiting for a thread; more are not compared
AUXILIARY = "auxiliary"  # titles, tool call checks, summaries: sent under the session's id, but not part of its conversation


class CacheObserver(Listener):
    """Puts the verdict into `Exchange.cache`.

    Args:
        watch: remembers what was sent.
        clock: monotonic seconds.
    """

    def __init__(self, watch: CacheWatch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.watch = watch or CacheWatch()
        self.clock = clock
        self.waiting = 0  # bytes

    def tap(self, exchange: Exchange) -> Tap | None:
        """Only Messages calls have a prompt that is cached, and only a long one."""
        wanted = (
            exchange.kind is MESSAGES and exchange.bytes_in >= MIN_BODY and exchange.request_class != AUXILIARY
        )  # what has been read so far: all of a body that can be cut
        return _CacheTap(self, exchange) if wanted else None


class _CacheTap(Tap):
    """Compares one request with what was sent before, and settles when its usage is known."""

    __slots__ = ("_compared", "_ended", "_exchange", "_key", "_observer", "_prompt", "_sent")

    def __init__(self, observer: CacheObserver, exchange: Exchange) -> None:
        self._observer = observer
        self._exchange = exchange
        self._key: Hashable = None
        self._sent = 0.0
        self._prompt: Prompt | None = None
        self._compared: Comparison | None = None
        self._ended = False

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        size = len(body)
        if not whole or not MIN_BODY <= size <= MAX_BODY:
            return
        exchange = self._exchange
        self._sent = self._observer.clock()
        who: Hashable = exchange.session or (marks(headers) or exchange.client)
        self._key = (who, exchange.agent, exchange.upstream)
        if self._prompt is not None:  # another attempt with the same body
            self._compare(self._prompt)
        elif size <= IN_THREAD:
            self._compare(cut(body))
        elif self._observer.waiting + size <= MAX_WAITING:
            self._cut_in_thread(body)

    def on_end(self, exchange: Exchange) -> None:
        self._ended = True
        exchange.cache = self._settle()

    def _cut_in_thread(self, body: bytes) -> None:
        self._observer.waiting += len(body)
        cutting = asyncio.get_running_loop().run_in_executor(None, cut, body)
        size = len(body)

        def done(result: asyncio.Future[Prompt | None]) -> None:
            self._observer.waiting -= size
            if result.cancelled() or result.exception() is not None:
                return
            self._compare(result.result())
            if self._ended:  # too late for this verdict, but the next request is compared with this one
                self._settle()

        cutting.add_done_callback(done)

    def _compare(self, prompt: Prompt | None) -> None:
        self._prompt = prompt
        if prompt is None:
            return
        key = self._key if self._exchange.session is not None else (self._key, prompt.messages[:HASH])
        self._compared = self._observer.watch.compare(key, prompt, self._sent)

    def _settle(self) -> CacheVerdict | None:
        compared, self._compared = self._compared, None
        return None if compared is None else self._observer.watch.settle(compared, taken(self._exchange))


def taken(exchange: Exchange) -> Usage | None:
    """The usage, if the upstream accepted the prompt; None after an error, or if no prompt tokens were reported."""
    usage = exchange.usage
    if usage is None or exchange.status >= 500 or not (usage.input or usage.cache_read or usage.cache_write):
        return None
    return usage
