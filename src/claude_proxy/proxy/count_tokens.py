"""Remembers that an upstream has no count_tokens, so that 26 calls at once cost one request (docs/facts.md, "Claude Code")."""

from __future__ import annotations

import asyncio

from claude_proxy.errors import NotFound
from claude_proxy.protocol.decoding import decompressor
from claude_proxy.protocol.usage import read_answer

PATIENCE = 3.0  # seconds that a request waits for the probe's result before it asks itself


class CountTokens:
    """What is known about one upstream's `POST /v1/messages/count_tokens`.

    Args:
        memory: seconds for which the answer is remembered; 0 switches all of this off.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._missing_until = 0.0
        self._there_until = 0.0
        self._probe: asyncio.Future[bool] | None = None  # its result: whether the probe got an answer

    async def enter(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Called before such a request goes upstream. Returns True if it is the probe, which must end in `learn` or `gave_up`.

        While nothing is known, the first request is the probe; others wait for its result, at most PATIENCE.

        Raises:
            NotFound: the upstream is known to have no such endpoint.
        """
        if self._memory <= 0:
            return False
        until = loop.time() + PATIENCE
        while self._probe is not None:
            probe = self._probe
            await asyncio.wait((probe,), timeout=max(0.0, until - loop.time()))
            if loop.time() < self._missing_until:
                break
            if not probe.done() or probe.result():
                return False
        now = loop.time()
        if now < self._missing_until:
            raise missing()
        if now < self._there_until:
            return False
        self._probe = loop.create_future()
        return True

    def learn(self, now: float, *, is_missing: bool | None) -> None:
        """Record what the probe's answer says. None: it does not tell, and each waiting request asks itself."""
        if is_missing is not None:
            self._missing_until = now + self._memory if is_missing else 0.0
            self._there_until = 0.0 if is_missing else now + self._memory
        self._end_probe(answered=True)

    def gave_up(self) -> None:
        """The probe got no answer (its client disconnected, say): the next waiting request becomes the probe."""
        self._end_probe(answered=False)

    def _end_probe(self, *, answered: bool) -> None:
        probe, self._probe = self._probe, None
        if probe is not None and not probe.done():
            probe.set_result(answered)


def looks_missing(status: int, body: bytes, coding: bytes | None = None) -> bool | None:
    """Whether an answer says that the endpoint does not exist; None if it does not tell (429, 401, 5xx).

    A 404 does, and so does a 400 that wraps one; but a 404 about an unknown model comes from an endpoint that exists.
    """
    if status < 400:
        return False
    if status not in (400, 404):
        return None
    if coding is not None:
        body = decompressor(coding.strip().lower()).feed(body)
        if not body:
            return None
    error = read_answer(body).error
    text = (error.message if error is not None else body.decode("utf-8", "replace")).lower()
    about_model = "model" in text and "/v1/messages" not in text and "count_tokens" not in text
    if status == 404:
        return not about_model
    return "404" in text and "not" in text and "found" in text.replace("_", " ") and not about_model


def missing() -> NotFound:
    """The clean 404 that Claude Code understands: it estimates the count itself."""
    return NotFound("The upstream has no count_tokens endpoint; estimate the count instead.", code="no_count_tokens")
