"""One try at one upstream: what is sent there, and on which connection it must not go."""

from __future__ import annotations

from claude_proxy.errors import BadRequest, UpstreamIsSelf
from claude_proxy.proxy import headers as h
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.target import Target
from claude_proxy.proxy.upload import Upload
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.pool import Pool

CHUNKED = b"transfer-encoding: chunked\r\n"


class Upstream:
    """A configured upstream: its pool, and the credential that goes there instead of the client's.

    Args:
        name: for logs and notices.
        credential: header field with the held credential, or None to let the client's pass.
    """

    def __init__(self, name: str, pool: Pool, credential: h.Header | None) -> None:
        self.name = name
        self.pool = pool
        self.credential = credential
        self.withheld = frozenset(h.CREDENTIALS) if credential is not None else frozenset()
        self.prefix = pool.origin.target_prefix
        self.host = pool.origin.host_header
        proxy = pool.origin.proxy
        self.proxy_authorization = None if proxy is None or pool.origin.tls else proxy.authorization


def send_request(call: Call, connection: Connection, upstream: Upstream, target: Target) -> None:
    """Write a request's head and what has been read of its body; what is still to come of it follows in a task (`Upload`).

    Raises:
        ConnectionLost: the connection's close was seen before a byte was written.
        BadRequest: the request cannot be passed on.
    """
    body = b"".join(call.body) if len(call.body) != 1 else call.body[0]
    length = call.fields.get(b"content-length")
    chunked = length is None and (b"transfer-encoding" in call.fields or not call.client.done)
    try:
        if not call.fields_checked:
            h.refuse_breaks(call.headers)
        head = h.request_head(
            call.exchange.method.encode(),
            upstream.prefix + target.path_and_query,
            upstream.host,
            call.headers,
            call.fields,
            credential=upstream.credential,
            withheld=upstream.withheld | call.withheld if call.withheld else upstream.withheld,
            framing=_framing(length, len(body), chunked=chunked),
        )
    except ValueError as error:
        raise BadRequest(f"The request's headers cannot be passed on: {error}. The client has to mend that.") from None
    if upstream.proxy_authorization:
        head = head[:-2] + b"proxy-authorization: %b\r\n\r\n" % upstream.proxy_authorization
    if chunked:
        body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        body += b"0\r\n\r\n" if call.client.done else b""
    connection.send(head, body, is_head=call.exchange.method == "HEAD")
    if call.client.done:
        call.await_head(connection)
    else:
        call.upload = call.loop.create_task(Upload(call, connection, chunked=chunked).run())


def _framing(length: bytes | None, size: int, *, chunked: bool) -> bytes:
    if length is not None:
        return b"content-length: %b\r\n" % length
    if chunked:
        return CHUNKED
    return b"content-length: %d\r\n" % size if size else b""


def refuse_self(call: Call, connection: Connection) -> None:
    """An upstream address that is the very address this request came in on is this proxy.

    Raises:
        UpstreamIsSelf: so it is.
    """
    server = call.scope.get("server")
    if server is not None and connection.peer == tuple(server)[:2]:
        connection.abort()
        raise own_address()


def own_address() -> UpstreamIsSelf:
    """508: following BASE_URL leads back here."""
    return UpstreamIsSelf(
        "BASE_URL points back at this proxy, so the request would go in a circle. Set BASE_URL to the real API, such as "
        "https://api.z.ai/api/anthropic. (ANTHROPIC_BASE_URL is for clients, not for the proxy.)"
    )
