"""A request that the server itself turns away, before any app sees it."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from claude_proxy.errors import ProxyError, RequestError, render


class RefusedError(RequestError):
    """Status, a short code for `x-claude-proxy-error`, and a sentence: what, whose side, what to do.

    All are the client's mistakes and final, but for 408: its headers may arrive in time the next time.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.status = status
        if status == 408:
            self.should_retry = None


def as_response(error: ProxyError, default_block: bytes, *, with_body: bool) -> bytes:
    """The whole response, which ends the connection.

    Args:
        default_block: the rendered `date` and `server` lines.
        with_body: false for HEAD.
    """
    rendered = render(error)
    lines = [STATUS_LINE[rendered.status], default_block]
    for name, value in rendered.headers:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"connection: close\r\n\r\n")
    if with_body:
        lines.append(rendered.body)
    return b"".join(lines)
