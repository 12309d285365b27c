"""Publishing over HTTP: one JSON POST to the server's root (docs.ntfy.sh/publish, "Publish as JSON").

Notices are rare, so `urllib` is enough: it honours HTTPS_PROXY and NO_PROXY and verifies TLS. It blocks, so each attempt
runs in a daemon thread; unlike a pool's thread, one that hangs on a dead server does not delay our exit.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any

from claude_proxy.notify.answer import Answer, Verdict, judge
from claude_proxy.notify.notice import Notice, plain
from claude_proxy.settings import Settings

SILENCE = 10.0  # seconds without a byte
WHOLE = 15.0  # seconds for one attempt
MAX_REPLY = 64 * 1024


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: one would send the token to another host and turn the POST into a GET."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], *rest: Any) -> None:
        return None


class Http:
    """Pushes notices to one topic of one server.

    Args:
        settings: ntfy_topic (must be set), ntfy_server, ntfy_token, ntfy_user, ntfy_password.
        silence: seconds without a byte after which an attempt fails.
        whole: seconds for one attempt.
    """

    def __init__(self, settings: Settings, *, silence: float = SILENCE, whole: float = WHOLE) -> None:
        self._server = settings.ntfy_server
        self._topic = settings.ntfy_topic
        self._authorization = authorization(settings)
        self._silence = silence
        self._whole = whole
        self._opener = urllib.request.build_opener(NoRedirect())
        self._thread: threading.Thread | None = None

    async def send(self, notice: Notice) -> Answer:
        """Make one attempt. Never raises if the network or the server fails."""
        if self._thread is not None and self._thread.is_alive():
            return Answer(Verdict.AGAIN, "ntfy has not answered the previous attempt yet.", reached=False)
        try:
            async with asyncio.timeout(self._whole):
                return await self._in_thread(lambda: self._post(notice))
        except TimeoutError:
            return Answer(Verdict.AGAIN, f"ntfy did not answer within {self._whole:g} s.", reached=False)

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        def run() -> None:
            try:
                answer = work()
            except Exception as error:  # the waiting side must always get a result
                answer = Answer(Verdict.REFUSED, f"The notice could not be sent: {type(error).__name__}.")
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody is waiting
                loop.call_soon_threadsafe(settle, answer)

        self._thread = threading.Thread(target=run, name="ntfy", daemon=True)
        self._thread.start()
        return await future

    def _post(self, notice: Notice) -> Answer:
        try:
            return self._exchange(self._request(notice))
        except (OSError, http.client.HTTPException) as error:
            return Answer(Verdict.AGAIN, f"ntfy cannot be reached at NTFY_SERVER: {_reason(error)}.", reached=False)

    def _exchange(self, request: urllib.request.Request) -> Answer:
        try:
            reply = self._opener.open(request, timeout=self._silence)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return judge(reply.status, headers, reply.read(MAX_REPLY))

    def _request(self, notice: Notice) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "User-Agent": "claude-proxy"}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        return urllib.request.Request(f"{self._server}/", encode(notice, self._topic or ""), headers)  # noqa: S310  (http or https: Settings checks it)


def authorization(settings: Settings) -> str | None:
    """The Authorization field: the token, else user and password as RFC 7617 has it; None for neither."""
    if settings.ntfy_token is not None:
        return f"Bearer {settings.ntfy_token.get_secret_value()}"
    if settings.ntfy_user is None or settings.ntfy_password is None:
        return None
    pair = f"{settings.ntfy_user}:{settings.ntfy_password.get_secret_value()}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def encode(notice: Notice, topic: str) -> bytes:
    """Return the JSON of one publish. `sequence_id` is supported since ntfy 2.16; older servers ignore it."""
    fields: dict[str, object] = {
        "topic": topic,
        "title": notice.title,
        "message": notice.message,
        "priority": notice.priority,
        "tags": list(notice.tags),
        "sequence_id": notice.sequence,
    }
    if notice.link:
        fields["click"] = notice.link
        fields["actions"] = [{"action": "view", "label": notice.button, "url": notice.link}]
    return json.dumps(fields, ensure_ascii=False).encode()


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({plain(inner.verify_message, 120)})"
    if isinstance(inner, TimeoutError):
        return "it does not answer"
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return plain(text, 120) or type(inner).__name__
