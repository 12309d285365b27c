"""Sends the rest of a request body while the answer is awaited."""

from __future__ import annotations

from claude_proxy.errors import ConnectionLost
from claude_proxy.proxy.call import Call, read_timeout, write_timeout
from claude_proxy.proxy.client import ClientGone
from claude_proxy.proxy.deadline import Deadline
from claude_proxy.upstream.connection import Connection


class Upload:
    """Moves the rest of a body from the client to the upstream.

    It reads ahead by what the connection buffers (1 MiB) and then waits, so memory stays flat and a disconnect is noticed as
    soon as ASGI reports it. Whatever ends the body early ends the exchange, with one exception: if the connection was stale, so
    that nothing was written, what was read is kept, and the next attempt continues with it.
    """

    def __init__(self, call: Call, connection: Connection, *, chunked: bool) -> None:
        self._call = call
        self._connection = connection
        self._chunked = chunked
        self._unsent = 0
        self._patience = Deadline(call.loop, call.deadline.timers, self._expired)

    async def run(self) -> None:
        """Run until the body is sent, or cannot be sent any more. From then on a disconnect is watched for as without a body."""
        call, connection = self._call, self._connection
        is_stale = False
        try:
            while not call.client.done:
                await self._step()
            if self._chunked:
                connection.write(b"0\r\n\r\n")
            call.uploaded = True
            if not connection.status:
                call.await_head(connection)
        except ConnectionLost as error:
            is_stale = error.code == "stale_connection"
            if not is_stale:
                self._fail(error)
        except Exception as error:  # passed on as the reason
            self._fail(error)
        finally:
            self._patience.close()
            # The watcher discards what arrives of the body, which the next attempt may have to send.
            if not is_stale and call.upload is not None:
                call.watch_client()

    async def _step(self) -> None:
        call, connection = self._call, self._connection
        self._patience.arm("read", call.settings.client_read_timeout)
        data = await call.client.part()
        call.exchange.bytes_in = call.client.size
        if data:
            self._write(data)
        self._unsent = connection.unsent
        self._patience.arm("write", call.settings.write_timeout)
        await connection.drained()

    def _write(self, data: bytes) -> None:
        try:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        except ConnectionLost as error:
            if error.code == "stale_connection":
                self._call.request.keep(data)
            raise

    def _fail(self, error: Exception) -> None:
        """The rest of the body will not be sent, which ends the exchange; but an answer that came early does not need it."""
        call = self._call
        if isinstance(error, ClientGone) or not self._connection.status:
            call.interrupt(error)
        elif call.upload is not None:
            call.upload.cancel()

    def _expired(self, name: str) -> None:
        call, unsent = self._call, self._connection.unsent
        if name == "read":
            self._fail(read_timeout(call.settings))
        elif unsent >= self._unsent:
            self._fail(write_timeout(call.settings))
        else:
            self._unsent = unsent
            self._patience.arm("write", call.settings.write_timeout)
