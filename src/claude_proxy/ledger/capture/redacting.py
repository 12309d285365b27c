"""Removes credentials from bytes before they are stored: those of the exchange and the proxy, and anything that looks like one.

Works on JSON as it was written. What is taken out never spans a quote or a backslash, so a string stays a string. In such text a
line break is the two bytes `\\n`: a key at the start of a line has a letter before it, which the patterns know.

Each pattern runs only where one of its marks occurs, and takes time linear in the text. Text is looked at in windows, with a
short pause between them: an expression holds the interpreter's lock, and the event loop must get it in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable

from claude_proxy.ledger.capture.pacing import yield_to_the_loop

REDACTED = b"[redacted]"
SHORTEST = 6  # characters of a credential that is looked for by itself; shorter ones occur by chance
WINDOW = 64 * 1024
OVERLAP = 1024  # more than any pattern has to see before it knows that it matches
REMEMBERED = 20_000  # slices whose redacted hash is remembered: a conversation is sent again with each turn
HASH = 16  # bytes

# Group 1 of a pattern is what goes; all of `_SK`, and of `_ZAI` also the 32 digits before it.
_SK = re.compile(rb"sk-(?:(?<![A-Za-z0-9]sk-)|(?<=\\[bfnrt]sk-))[\w-]{6,}")
_ZAI = re.compile(rb"\.(?<=[0-9a-f]{32}\.)[A-Za-z0-9]{8,}")
_SCHEME = re.compile(rb"(?i)(?:bearer|basic)[ \t]{1,4}((?=[\w.~+/=-]{0,64}[0-9])[\w.~+/=-]{6,}|[\w.~+/=-]{20,})")
_PREFIXED = re.compile(
    rb"(?:(?<![A-Za-z0-9+/])|(?<=\\[bfnrt]))"
    rb"((?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}"
    rb"|AIza[\w-]{30,}|ya29\.[\w-]{16,}|[rs]k_(?:live|test)_\w{16,}|npm_\w{30,}|pypi-[\w-]{30,}|hf_\w{20,}|tk_\w{20,}"
    rb"|SG\.[\w-]{16,64}\.[\w-]{16,}|eyJ[\w-]{16,}(?:\.[\w-]+)*)"
)
_PEM = re.compile(rb"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----((?:[A-Za-z0-9+/=\s]|\\{1,4}[nr])*)")
_NAMED = re.compile(
    rb"(?i)(?:api[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|secret[_-]?key|access[_-]?key|client[_-]?secret|passw(?:or)?d"
    rb"|authorization)(?:\\{0,8}[\"']\s{0,4}:\s{0,4}\\{0,8}[\"']|\s{0,4}[:=]\s{0,4}(?:\\{0,8}[\"'])?)"
    rb"((?=[\w.~+/=@!#$%^&*-]{0,64}[0-9])[\w.~+/=@!#$%^&*-]{6,})"
)
_USERINFO = re.compile(rb"://[^/\s@:\"'\\]{0,100}:([^/\s@\"'\\]{1,256})@")

_PREFIXES = (
    b"AKIA ASIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xox xapp- AIza ya29. k_live_ k_test_ npm_ pypi- hf_ tk_ SG. eyJ"
).split()
_EXACT = (  # marks as they are written
    ([b"sk-"], _SK),
    ([b"."], _ZAI),
    ([b"://"], _USERINFO),
    ([b"PRIVATE KEY-----"], _PEM),
    (_PREFIXES, _PREFIXED),
)
_ANY_CASE = (  # marks in small letters
    ([b"bearer", b"basic"], _SCHEME),
    ([b"key", b"token", b"secret", b"passw", b"authorization"], _NAMED),
)

Span = tuple[int, int]


class Redactor:
    """Redacts for one set of credentials.

    Args:
        secrets: exact credentials, besides what looks like one.
    """

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        self._words = sorted(
            {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}, key=len, reverse=True
        )
        self.key = hashlib.blake2b(b"\0".join(self._words), digest_size=HASH).digest()

    def __call__(self, data: bytes) -> bytes:
        """`data` without credentials."""
        spans = self._spans(data)
        return _without(data, spans) if spans else data

    def text(self, text: str) -> str:
        """The same for text, such as a string out of JSON."""
        return self(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def _spans(self, data: bytes) -> list[Span]:
        spans: list[Span] = []
        for start in range(0, len(data), WINDOW):
            if start:
                yield_to_the_loop()
            for word in self._words:
                spans += _occurrences(data, word, start, start + WINDOW)
            spans += _lookalikes(data, start)
        return spans


def _forms(secret: bytes) -> set[bytes]:
    """A credential as it is, and as JSON may escape it."""
    written = json.dumps(secret.decode("latin-1"))[1:-1].encode()
    return {secret, written, written.replace(b"/", b"\\/")}


def _occurrences(data: bytes, word: bytes, start: int, stop: int) -> list[Span]:
    spans = []
    at = data.find(word, start, stop + len(word) - 1)
    while at >= 0:
        spans.append((at, at + len(word)))
        at = data.find(word, at + len(word), stop + len(word) - 1)
    return spans


def _lookalikes(data: bytes, start: int) -> list[Span]:
    stop = min(start + WINDOW + OVERLAP, len(data))
    part = data[start:stop]
    folded = part.lower()
    patterns = [pattern for marks, pattern in _EXACT if any(mark in part for mark in marks)]
    patterns += [pattern for marks, pattern in _ANY_CASE if any(mark in folded for mark in marks)]
    spans = []
    for pattern in patterns:
        for found in pattern.finditer(data, start, stop):
            whole = pattern.match(data, found.start()) if found.end() == stop else found
            spans.append(_secret_of(whole or found))
    return spans


def _secret_of(found: re.Match[bytes]) -> Span:
    if found.re is _ZAI:
        return found.start() - 32, found.end()
    return found.span() if found.re is _SK else found.span(1)


def _without(data: bytes, spans: list[Span]) -> bytes:
    parts: list[bytes] = []
    done = 0
    for start, end in sorted(spans):
        if end <= done:
            continue
        if start >= done:
            parts += (data[done:start], REDACTED)
        done = end
    return b"".join([*parts, data[done:]])


class Memory:
    """Maps the hash of a slice to the hash of its redacted form, so that each slice is redacted once.

    The hashes are keyed by a random value of the process, and by the credentials that were looked for.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._known: OrderedDict[bytes, bytes] = OrderedDict()
        self._limit = limit
        self._salt = os.urandom(HASH)

    def key(self, kind: str, raw: bytes, redactor: Redactor) -> bytes:
        """Under which a slice is remembered."""
        return hashlib.blake2b(raw, digest_size=HASH, key=redactor.key, salt=self._salt, person=kind.encode()).digest()

    def get(self, key: bytes) -> bytes | None:
        """The redacted hash."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, key: bytes, redacted: bytes) -> None:
        """Remember it; the one that was not asked for longest is forgotten."""
        self._known[key] = redacted
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
