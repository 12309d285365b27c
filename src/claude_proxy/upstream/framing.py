"""How an upstream's response is framed, how lenient its parser is, and the errors for one that cannot be parsed."""

from __future__ import annotations

from collections.abc import Iterable

import httptools

from claude_proxy.errors import BadResponse, ProxyError

MAX_HEAD = 256 * 1024  # bytes of a response's header fields
MAX_DIGITS = 100  # of a Content-Length: the parser reads any number of leading zeros, but Python's int does not
Header = tuple[bytes, bytes]

# What Node's and Python's clients accept and llhttp refuses by default: folded or odd header values, a bare LF, spaces
# after a chunk size, another minor version, Content-Length together with chunked (RFC 9112 section 6.1: chunked wins, and
# the connection is not reused). This cannot enable request smuggling, because no other parser reads this connection.
LENIENT = {
    "lenient_headers": True,
    "lenient_version": True,
    "lenient_optional_cr_before_lf": True,
    "lenient_spaces_after_chunk_size": True,
    "lenient_chunked_length": True,
}


def new_parser(protocol: object) -> httptools.HttpResponseParser:
    """Return a response parser that calls `protocol`."""
    parser = httptools.HttpResponseParser(protocol)
    parser.set_dangerous_leniencies(**LENIENT)
    return parser


def is_chunked(headers: Iterable[Header]) -> bool:
    """Whether the Transfer-Encoding is `chunked` and nothing else.

    Raises:
        BadResponse: there is another coding, which we cannot decode.
    """
    if any(value.strip().lower() != b"chunked" for name, value in headers if name == b"transfer-encoding"):
        raise BadResponse("The upstream's response has a Transfer-Encoding besides 'chunked'. That has to be fixed on its side.")
    return True


def without_nul(headers: list[Header]) -> list[Header]:
    """Replace each NUL in a field by a space (RFC 9110 section 5.5), since no server would forward it."""
    return [(name, value.replace(b"\0", b" ")) for name, value in headers]


def cause(error: Exception) -> ProxyError:
    """Return the error for a response that could not be parsed: ours, which the parser wraps, or one for the parser's."""
    for reason in (error, error.__context__):
        if isinstance(reason, ProxyError):
            return reason
    return BadResponse(f"The upstream's answer is not valid HTTP/1.1 ({error}). Check BASE_URL; else it has to be fixed there.")


def head_too_large() -> BadResponse:
    """Return the error for header fields larger than MAX_HEAD."""
    return BadResponse(f"The upstream sent headers of more than {MAX_HEAD // 1024} KiB. That has to be fixed on its side.")
