"""All errors of the proxy, as one tree, and the only place that renders them for a client.

ProxyError
├── SettingsError            a setting has a wrong name or value; the start fails with one sentence
├── RequestError      4xx    the client's side
│   ├── BadRequest           400 invalid_request_error
│   ├── Unauthorized         401 authentication_error
│   ├── Forbidden            403 permission_error
│   ├── NotFound             404 not_found_error
│   ├── BodyTimeout          408 invalid_request_error
│   ├── BodyTooLarge         413 request_too_large
│   └── TooManyTries         429 rate_limit_error
├── UpstreamError     5xx    the upstream's side, or the network to it
│   ├── ConnectFailed        503 api_error      (name, route, refused, TLS, tunnel)
│   │   └── Untrusted        503 api_error      (the certificate is not trusted)
│   ├── ConnectionLost       502 api_error      (closed before an answer)
│   ├── BadResponse          502 api_error      (not HTTP, or not what was asked)
│   ├── UpstreamTimeout      504 timeout_error  (connect, write, response head)
│   ├── UpstreamRedirect     502 api_error      (BASE_URL leads elsewhere)
│   ├── UpstreamIsSelf       508 api_error
│   └── NoTurn               429 rate_limit_error (the account's limit: it waited for too long, or the account is out)
├── Unavailable       503    our own side: draining, full, or out of descriptors, memory or threads
└── NoBooks           503    the ledger cannot be read: off, locked, not there yet, or the question takes too long

The types and the envelope are Anthropic's (https://docs.anthropic.com/en/api/errors), so a client shows our message
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
        message: for a person: what failed, on whose side, what to do.
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
    """A setting has an invalid name or value. The message names the setting, its value and what was expected."""

    code = "settings"


class RequestError(ProxyError):
    """The client's request cannot be served; a retry would fail the same way."""

    status = 400
    type = "invalid_request_error"
    code = "bad_request"
    side: Side = "client"
    should_retry: bool | None = False


class BadRequest(RequestError):
    """400: the request violates HTTP or contradicts itself."""


class Unauthorized(RequestError):
    """401. `x-should-retry: false` saves Claude Code eleven attempts (docs/facts.md, "Retries")."""

    status = 401
    type = "authentication_error"
    code = "unauthorized"


class Forbidden(RequestError):
    """403: the host name or web origin is not allowed."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(RequestError):
    """404: this path is neither ours nor the upstream's."""

    status = 404
    type = "not_found_error"
    code = "not_found"


class BodyTimeout(RequestError):
    """408: the request body stopped arriving."""

    status = 408
    code = "body_timeout"
    should_retry = None


class BodyTooLarge(RequestError):
    """413: the body exceeds the limit of its path."""

    status = 413
    type = "request_too_large"
    code = "body_too_large"


class TooManyTries(RequestError):
    """429: too many wrong codes or tokens were tried.

    Args:
        retry_after: seconds until the next try is allowed.
    """

    status = 429
    type = "rate_limit_error"
    code = "too_many_tries"
    should_retry = None
    retry_after = 30

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 30) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class UpstreamError(ProxyError):
    """The upstream gave no usable answer."""

    status = 502
    code = "upstream"
    side: Side = "upstream"


class ConnectFailed(UpstreamError):
    """503: connecting failed: name lookup, route, refused, TLS or outbound proxy. Nothing was sent, so nothing is billed."""

    status = 503
    code = "connect_failed"


class Untrusted(ConnectFailed):
    """503: the upstream's certificate is not trusted; another try would fail the same way."""

    code = "tls_failed"


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


class NoTurn(UpstreamError):
    """429 in our words: the request was not sent, because its account takes no more for now.

    A 529 would lose the words at some models, and a 401 would be tried eleven times (docs/facts.md, "Retries").

    Args:
        should_retry: False if trying again cannot help soon.
        retry_after: seconds; at most 60, because Claude Code reads more as "stop".
    """

    status = 429
    type = "rate_limit_error"
    code = "no_turn"

    def __init__(
        self, message: str, *, code: str | None = None, should_retry: bool | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.should_retry = should_retry
        self.retry_after = retry_after


class Unavailable(ProxyError):
    """503: this process is draining or has no free connection, or the machine ran out of something (`upstream/failures.py`)."""

    status = 503
    type = "overloaded_error"
    code = "unavailable"
    retry_after = 1


class NoBooks(ProxyError):
    """503: the ledger cannot answer.

    Args:
        retry_after: seconds after which it probably can; None if asking the same again changes nothing.
    """

    status = 503
    code = "ledger_unreadable"
    should_retry = False

    def __init__(self, message: str, *, code: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        if retry_after is not None:
            self.should_retry = True


_CHALLENGE = (b"www-authenticate", b'Bearer realm="claude-proxy"')


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error as sent to a client: status, headers (lower-case names) and body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def render(error: ProxyError, request_id: str | None = None, *, hints: bool = True) -> Rendered:
    """Render `error` in Anthropic's envelope.

    Args:
        request_id: our id of the exchange, for finding its log line.
        hints: whether `x-should-retry` and `retry-after` may be sent (setting RETRY_HINTS).
    """
    envelope: dict[str, object] = {"type": "error", "error": {"type": error.type, "message": error.message}}
    headers = [(b"content-type", b"application/json"), (b"x-claude-proxy-error", error.code.encode())]
    if request_id is not None:
        envelope["request_id"] = request_id
        headers.append((b"request-id", request_id.encode()))
    if error.status == 401:  # required in a 401 (RFC 9110 section 11.6.1)
        headers.append(_CHALLENGE)
    if hints and error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if hints and error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    body = msgspec.json.encode(envelope)
    headers.append((b"content-length", b"%d" % len(body)))
    return Rendered(error.status, headers, body)
