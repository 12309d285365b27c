"""A small GET of our own at an upstream's origin, over the way that requests take: the same TLS, outbound proxy and addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from claude_proxy.errors import BadResponse
from claude_proxy.upstream.pool import Pool

LIMIT = 256 * 1024


async def fetch(
    pool: Pool, path: str, headers: Iterable[tuple[bytes, bytes]], *, timeout: float, limit: int = LIMIT
) -> tuple[int, bytes]:
    """Status and body of `GET path`. A redirect is not followed, and the connection serves nothing else.

    Args:
        path: from the origin's root, whatever path the base URL has.
        headers: without Host.
        timeout: seconds for all of it.

    Raises:
        ProxyError: there is no answer, or it is larger than `limit` bytes.
        TimeoutError: it takes too long.
    """
    origin = pool.origin
    root = origin.target_prefix.removesuffix(origin.base_path)
    lines = [b"GET %b%b HTTP/1.1" % (root, path.encode("ascii")), b"host: " + origin.host_header, b"connection: close"]
    lines += [b"%b: %b" % pair for pair in headers]
    if origin.proxy is not None and not origin.tls and origin.proxy.authorization is not None:
        lines.append(b"proxy-authorization: " + origin.proxy.authorization)
    async with asyncio.timeout(timeout):
        connection = await pool.connect(asyncio.get_running_loop())
        try:
            connection.send(b"\r\n".join([*lines, b"", b""]), b"")
            status = await connection.head()
            body = bytearray()
            while data := await connection.read():
                body += data
                if len(body) > limit:
                    raise BadResponse(f"The answer of {origin.host} is larger than {limit} bytes.")
            return status, bytes(body)
        finally:
            connection.abort()
