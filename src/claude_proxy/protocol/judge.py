"""Interprets an upstream's error: which provider code it is, which side has to act, and whether a retry can help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from claude_proxy.cleaning import clean
from claude_proxy.errors import Side
from claude_proxy.exchange import Failure
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Code, Provider, by_name
from claude_proxy.protocol.providers.base import Class
from claude_proxy.protocol.providers.generic import STATUSES, TYPES
from claude_proxy.protocol.usage import ErrorBody

MAX_MESSAGE = 300  # characters of a failure's message
MAX_READ = 64 * 1024  # characters of an error that are read; the readable part comes first
_SECRET = re.compile(r"(?i)\b(?:sk-[\w-]{6,}|tk_\w{6,}|bearer\s+\S+|[0-9a-f]{32}\.\w{8,})")
# If several providers have the same form, the first one.
_DISTINCT = {p.form: p for p in reversed(PROVIDERS) if p.form is not None and p.form.distinct}


def code_of(error: ErrorBody, provider: Provider = GENERIC) -> str | None:
    """Return the provider's number in an error, from the message, `code` or `type`; None if there is none."""
    return next((word for word, _ in _words(error, provider) if _is_number(word)), None)


def text_of(error: ErrorBody, secrets: Iterable[str] = (), provider: Provider = GENERIC) -> str:
    """Return the error's message without code, control characters, `secrets` and what looks like one, truncated."""
    message = error.message[:MAX_READ]
    found = next((match for _, match in _matches(message, provider)), None)
    text = " ".join((clean(found["text"] if found else message, MAX_READ) or "").split())
    if len(error.message) > MAX_READ:
        text = text.rpartition(" ")[0]  # the last word may be the truncated beginning of a secret, which would not be recognised
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return _SECRET.sub("[redacted]", text)[:MAX_MESSAGE]


def judge(
    status: int,
    error: ErrorBody | None,
    *,
    provider: Provider = GENERIC,
    credential_held: bool,
    secrets: Iterable[str] = (),
) -> Failure | None:
    """Describe an upstream's error as a `Failure`; None if the answer is not an error.

    Args:
        status: the answer's HTTP status; 200 for an error in a stream.
        provider: whose codes to use; GENERIC uses only unambiguous ones (see `providers/generic.py`).
        credential_held: whether the proxy sent its own credential, so that a refused one is not the client's fault.
        secrets: strings to remove from the failure's message, in case the upstream quotes them.
    """
    if error is None:
        if status < 400:
            return None
        error = ErrorBody(f"http_{status}", "")
    word, speaker, known = _identify(error, provider)
    kind = STATUSES.get(status, "api_error") if _is_number(error.type) else error.type
    refused = known.class_ is Class.AUTH if known is not None else _is_auth(status, kind)
    holder: Side = "proxy" if credential_held else "client"
    side = holder if refused else known.side if known is not None else _side(status, kind)
    words = text_of(error, secrets, provider) or (known.meaning.en if known else f"the upstream answered {status}")
    return Failure(side, kind, words, None if word == kind else word, speaker.name if known is not None else None)


def explain(failure: Failure | None) -> Code | None:
    """Return the provider table's entry for a failure; None for our own failures and for unknown codes."""
    if failure is None or failure.provider is None:
        return None
    return by_name(failure.provider).codes.get(failure.provider_code or failure.kind)


def retry_hint(failure: Failure | None) -> bool | None:
    """Return False if a retry cannot help according to the provider's table; None if it may, or if we do not know."""
    code = explain(failure)
    return None if code is None or code.retry else False


def _identify(error: ErrorBody, provider: Provider) -> tuple[str | None, Provider, Code | None]:
    """Return the error's code, the provider whose table has it, and the entry. Known codes are preferred to unknown numbers."""
    words = list(_words(error, provider))
    for word, speaker in words:
        if word in speaker.codes:
            return word, speaker, speaker.codes[word]
    return (*words[0], None) if words else (None, provider, None)


def _words(error: ErrorBody, provider: Provider) -> Iterator[tuple[str, Provider]]:
    """Yield the possible codes of an error, each with the provider whose table explains it, the most reliable first."""
    message = error.message[:MAX_READ]
    for speaker, match in _matches(message, provider):
        yield match["code"], speaker
    for candidate in (error.code, error.type):
        if candidate is not None and _is_number(candidate):
            yield candidate, provider
            if provider.relays and len(candidate) <= 5:
                yield from ((candidate, speaker) for speaker in PROVIDERS if int(candidate) in speaker.numbers)
    for pattern, word in provider.patterns:
        if pattern.search(message):
            yield word, provider
    if error.type in provider.codes:
        yield error.type, provider


def _matches(message: str, provider: Provider) -> Iterator[tuple[Provider, re.Match[str]]]:
    """Yield each provider whose form the message has, and the match."""
    speakers = (provider, *_DISTINCT.values()) if provider.relays else (provider,)
    for speaker in speakers:
        if speaker.form is not None and (match := speaker.form.pattern.match(message)):
            yield speaker, match


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _is_auth(status: int, kind: str) -> bool:
    return status in (401, 403) or (kind in TYPES and TYPES[kind].class_ is Class.AUTH)


def _side(status: int, kind: str) -> Side:
    if status >= 500 or status in (402, 429):
        return "upstream"
    if kind in TYPES:
        return TYPES[kind].side
    return "client" if status >= 400 else "upstream"
