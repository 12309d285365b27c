"""A request that the server itself rejects, before the app sees it."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from claude_proxy.errors import ProxyError, RequestError, render


class RefusedError(RequestError):
    """A status, a short code for `x-claude-proxy-error`, and a message: what failed, on whose side, what to do.

    All are client errors that a retry cannot fix, except 408: the headers may arrive in time on the next try.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.status = status
        if status == 408:
            self.should_retry = None


def as_response(error: ProxyError, default_block: bytes, *, with_body: bool) -> bytes:
    """Render the whole response, after which the connection closes.

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
