"""Everything that can go wrong here, as one tree; rendered for a client in one place.

ProxyError
├── SettingsError            a setting has a wrong name or value; the start fails with one sentence
├── RequestError      4xx    the client's side
│   ├── BadRequest           400 invalid_request_error
│   ├── Unauthorized         401 authentication_error
│   ├── Forbidden            403 permission_error
│   ├── NotFound             404 not_found_error
│   ├── BodyTimeout          408 invalid_request_error
│   └── BodyTooLarge         413 request_too_large
├── UpstreamError     5xx    the upstream's side, or the way to it
│   ├── ConnectFailed        502 api_error      (name, route, refused, TLS, tunnel)
│   ├── ConnectionLost       502 api_error      (closed before an answer)
│   ├── BadResponse          502 api_error      (not HTTP, or not what was asked)
│   ├── UpstreamTimeout      504 timeout_error  (connect, write, response head)
│   ├── UpstreamRedirect     502 api_error      (BASE_URL leads elsewhere)
│   └── UpstreamIsSelf       508 api_error
├── Unavailable       503    our own side: draining, full, or out of descriptors, memory or threads
└── NoBooks           503    the ledger cannot be read: off, locked, not there yet, or the question takes too long

The types are Anthropic's (https://docs.anthropic.com/en/api/errors), the envelope too: a client shows our sentence
as it would show theirs. `x-claude-proxy-error` marks it as ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

Side = Literal["client", "upstream", "proxy"]


class ProxyError(Exception):
    """Base of all our errors.

    Args:
        message: a sentence for a person: what failed, whose side, what to do.
        code: a stable word for logs, notices and the `x-claude-proxy-error` header.
    """

    status = 500
    type = "api_error"
    code = "internal"
    side: Side = "proxy"
    should_retry: bool | None = None
    retry_after: int | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class SettingsError(ProxyError):
    """A setting that cannot be used: names the setting, its value and what was expected."""

    code = "settings"


class RequestError(ProxyError):
    """The client's request cannot be served as it is; sending it again changes nothing."""

    status = 400
    type = "invalid_request_error"
    code = "bad_request"
    side: Side = "client"
    should_retry: bool | None = False


class BadRequest(RequestError):
    """400: the request breaks HTTP or contradicts itself."""


class Unauthorized(RequestError):
    """401. `x-should-retry: false` spares Claude Code eleven tries (FACTS section 1)."""

    status = 401
    type = "authentication_error"
    code = "unauthorized"


class Forbidden(RequestError):
    """403: a host name or web origin that is not allowed here."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(RequestError):
    """404: nothing of ours and nothing of the upstream's lives at this path."""

    status = 404
    type = "not_found_error"
    code = "not_found"


class BodyTimeout(RequestError):
    """408: the request body stopped coming."""

    status = 408
    code = "body_timeout"
    should_retry = None


class BodyTooLarge(RequestError):
    """413: the body is over the limit of its path."""

    status = 413
    type = "request_too_large"
    code = "body_too_large"


class UpstreamError(ProxyError):
    """No answer could be had from the upstream."""

    status = 502
    code = "upstream"
    side: Side = "upstream"


class ConnectFailed(UpstreamError):
    """502: no connection: name, route, refusal, TLS or the outbound proxy."""

    code = "connect_failed"


class ConnectionLost(UpstreamError):
    """502: the upstream closed the connection before it answered."""

    code = "connection_lost"


class BadResponse(UpstreamError):
    """502: what came back is not a usable HTTP/1.1 response."""

    code = "bad_response"


class UpstreamTimeout(UpstreamError):
    """504: connect, request write or response head took longer than its setting allows."""

    status = 504
    type = "timeout_error"
    code = "upstream_timeout"


class UpstreamRedirect(UpstreamError):
    """502: the upstream answered with a redirect, so BASE_URL is not the API's address."""

    code = "upstream_redirect"
    side: Side = "proxy"
    should_retry = False


class UpstreamIsSelf(UpstreamError):
    """508 (RFC 5842 section 7.2): BASE_URL points back at this proxy."""

    status = 508
    code = "upstream_is_self"
    side: Side = "proxy"
    should_retry = False


class Unavailable(ProxyError):
    """503: this process is draining, has no free connection, or this machine lacks something (`upstream/failures.py`)."""

    status = 503
    type = "overloaded_error"
    code = "unavailable"
    retry_after = 1


class NoBooks(ProxyError):
    """503: the ledger cannot answer; asking the same again at once changes nothing."""

    status = 503
    code = "ledger_unreadable"
    should_retry = False


_CHALLENGE = (b"www-authenticate", b'Bearer realm="claude-proxy"')


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error as a client sees it: status, headers (lower-case names) and body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def render(error: ProxyError, request_id: str | None = None, *, hints: bool = True) -> Rendered:
    """Put `error` into Anthropic's envelope. The only place that does.

    Args:
        request_id: our id of the exchange, so that a user can find its log line.
        hints: whether `x-should-retry` and `retry-after` may be sent (setting RETRY_HINTS).
    """
    envelope: dict[str, object] = {"type": "error", "error": {"type": error.type, "message": error.message}}
    headers = [(b"content-type", b"application/json"), (b"x-claude-proxy-error", error.code.encode())]
    if request_id is not None:
        envelope["request_id"] = request_id
        headers.append((b"request-id", request_id.encode()))
    if error.status == 401:  # RFC 9110 section 11.6.1: a 401 says how to authenticate
        headers.append(_CHALLENGE)
    if hints and error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if hints and error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    body = msgspec.json.encode(envelope)
    headers.append((b"content-length", b"%d" % len(body)))
    return Rendered(error.status, headers, body)
