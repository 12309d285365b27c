"""Small answers that the application gives before FastAPI is asked."""

from __future__ import annotations

from claude_proxy.access.origin import cors_headers
from claude_proxy.proxy.client import Message, Receive, Send


def with_cors(send: Send, origin: bytes) -> Send:
    """Let a page of `origin` read the answer; the upstream's own CORS fields give way."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if not pair[0].startswith(b"access-control-")]
            message["headers"] = [*kept, *cors_headers(origin)]
        await send(message)

    return wrapped


async def answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """A whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse_websocket(receive: Receive, send: Send) -> None:
    """Neither the API nor the pages have websockets: close the handshake (ASGI turns that into a 403)."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})
