"""Interprets an upstream's error: which provider code it is, which side has to act, and whether a retry can help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from claude_proxy.cleaning import clean
from claude_proxy.errors import Side
from claude_proxy.exchange import Failure
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Code, Provider, by_name
from claude_proxy.protocol.providers.base import Class
from claude_proxy.protocol.providers.generic import STATUSES, TYPES
from claude_proxy.protocol.usage import ErrorBody

NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
MAX_MESSAGE = 300  # characters of a failure's message
MAX_READ = 64 * 1024  # characters of an error that are read; the readable part comes first
_SECRET = re.compile(r"(?i)\b(?:sk-[\w-]{6,}|tk_\w{6,}|bearer\s+\S+|[0-9a-f]{32}\.\w{8,})")
# If several providers have the same form, the first one.
_DISTINCT = {p.form: p for p in reversed(PROVIDERS) if p.form is not None and p.form.distinct}


def code_of(error: ErrorBody, provider: Provider = GENERIC) -> str | None:
    """The provider's number in an error, from `code`, `type` or the message; None if it has none."""
    return next((word for word, _ in _words(0, error, provider) if is_number(word)), None)


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
    headers: Mapping[bytes, bytes] = NO_HEADERS,
) -> Failure | None:
    """Describe an upstream's error as a `Failure`; None if the answer is not an error.

    Args:
        status: the answer's HTTP status. A 200 whose stream carries an error is one too.
        provider: whose codes to read; GENERIC understands only what is unmistakable (see `providers/generic.py`).
        credential_held: with the proxy's own credential, a refused one is not for the client to fix.
        secrets: what must not be in the failure's message, should the upstream quote it.
        headers: the answer's header fields, names in lower case; some providers tell errors apart there.
    """
    if error is None:
        if status < 400:
            return None
        error = ErrorBody(f"http_{status}", "")
    word, speaker, known = identify(status, error, provider, headers)
    kind = STATUSES.get(status, "api_error") if is_number(error.type) else error.type
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


def identify(
    status: int, error: ErrorBody, provider: Provider, headers: Mapping[bytes, bytes] = NO_HEADERS
) -> tuple[str | None, Provider, Code | None]:
    """The word that stands for an error, whose table it belongs to, and its entry: a known one rather than any number."""
    words = list(_words(status, error, provider, headers))
    for word, speaker in words:
        if word in speaker.codes:
            return word, speaker, speaker.codes[word]
    return (*words[0], None) if words else (None, provider, None)


def _words(
    status: int, error: ErrorBody, provider: Provider, headers: Mapping[bytes, bytes] = NO_HEADERS
) -> Iterator[tuple[str, Provider]]:
    """What may be the code of an error, each with the provider whose table explains it: the surest first."""
    message = error.message[:MAX_READ]
    for speaker, match in _matches(message, provider):
        yield match["code"], speaker
    for header, value, word in provider.marks:
        if headers.get(header.encode("ascii")) == value.encode("ascii"):
            yield word, provider
    yield from ((word, provider) for pattern, word in provider.patterns if pattern.search(message))
    labels = list(_labels(error, provider))
    yield from labels
    if not labels and status in provider.statuses:
        yield provider.statuses[status], provider


def _labels(error: ErrorBody, provider: Provider) -> Iterator[tuple[str, Provider]]:
    """The error's own code and type: numbers, and words that the provider's table knows."""
    labels = [label for label in (error.code, error.type) if label is not None]
    for label in filter(is_number, labels):
        yield label, provider
        if provider.relays and len(label) <= 5:
            yield from ((label, speaker) for speaker in PROVIDERS if int(label) in speaker.numbers)
    yield from ((label, provider) for label in labels if label in provider.codes)


def _matches(message: str, provider: Provider) -> Iterator[tuple[Provider, re.Match[str]]]:
    """Yield each provider whose form the message has, and the match."""
    speakers = (provider, *_DISTINCT.values()) if provider.relays else (provider,)
    for speaker in speakers:
        if speaker.form is not None and (match := speaker.form.pattern.match(message)):
            yield speaker, match


def is_number(word: str) -> bool:
    """Whether a code is a number, as z.ai's and MiniMax's are."""
    return word.isascii() and word.isdigit()


def _is_auth(status: int, kind: str) -> bool:
    return status in (401, 403) or (kind in TYPES and TYPES[kind].class_ is Class.AUTH)


def _side(status: int, kind: str) -> Side:
    if status >= 500 or status in (402, 429):
        return "upstream"
    if kind in TYPES:
        return TYPES[kind].side
    return "client" if status >= 400 else "upstream"
