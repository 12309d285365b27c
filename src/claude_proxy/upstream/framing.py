"""Where a response of an upstream ends, how forgiving its parser is, and what is said of one that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

import httptools

from claude_proxy.errors import BadResponse, ProxyError

MAX_HEAD = 256 * 1024  # bytes of a response's header fields
MAX_DIGITS = 100  # of a Content-Length: the parser reads any number of leading zeros, but Python's int does not
Header = tuple[bytes, bytes]

# What Node's and Python's clients read without complaint and llhttp refuses by default: folded or odd header values, a
# bare LF, spaces behind a chunk size, another minor version, Content-Length beside chunked (RFC 9112 section 6.1: chunked
# wins, and the connection is not used again). Nothing here can smuggle: no other parser reads this connection.
LENIENT = {
    "lenient_headers": True,
    "lenient_version": True,
    "lenient_optional_cr_before_lf": True,
    "lenient_spaces_after_chunk_size": True,
    "lenient_chunked_length": True,
}


def new_parser(protocol: object) -> httptools.HttpResponseParser:
    """A response parser that calls `protocol`."""
    parser = httptools.HttpResponseParser(protocol)
    parser.set_dangerous_leniencies(**LENIENT)
    return parser


def is_chunked(headers: Iterable[Header]) -> bool:
    """Whether `chunked`, and nothing else, is the Transfer-Encoding.

    Raises:
        BadResponse: there is another coding, which nobody here could take off.
    """
    if any(value.strip().lower() != b"chunked" for name, value in headers if name == b"transfer-encoding"):
        raise BadResponse("The upstream's answer has a Transfer-Encoding besides 'chunked'. That has to be fixed on its side.")
    return True


def without_nul(headers: list[Header]) -> list[Header]:
    """The fields with each NUL replaced by a space (RFC 9110 section 5.5): no server would send one on."""
    return [(name, value.replace(b"\0", b" ")) for name, value in headers]


def cause(error: Exception) -> ProxyError:
    """What to report of an answer that could not be read: our own refusal, which the parser wraps, or the parser's."""
    for reason in (error, error.__context__):
        if isinstance(reason, ProxyError):
            return reason
    return BadResponse(f"The upstream's answer is not valid HTTP/1.1 ({error}). Check BASE_URL; else it has to be fixed there.")


def head_too_large() -> BadResponse:
    """The response's header fields exceed MAX_HEAD."""
    return BadResponse(f"The upstream sent headers of more than {MAX_HEAD // 1024} KiB. That has to be fixed on its side.")
