"""Compares credentials without storing them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from claude_proxy.exchange import Header

_KEY = secrets.token_bytes(32)  # random per process, so a mark cannot be matched with a credential outside it


def marks(headers: Iterable[Header]) -> frozenset[bytes]:
    """A keyed hash of each credential in a request's headers, about 2 us each.

    Bearer and x-api-key give the same mark for the same credential: a client may send it as either.
    """
    found = []
    for name, value in headers:
        if name == b"authorization":
            value = value.partition(b" ")[2]
        elif name != b"x-api-key":
            continue
        if value.strip():
            found.append(mark(value))
    return frozenset(found)


def mark(credential: bytes) -> bytes:
    """The keyed hash (BLAKE2, RFC 7693 section 2.9) of one credential."""
    return hashlib.blake2b(credential.strip(), key=_KEY, digest_size=16).digest()
