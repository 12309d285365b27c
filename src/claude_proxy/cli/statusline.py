"""`claude-proxy statusline`: the command behind Claude Code's status line.

It runs every two seconds for each Claude Code, so it imports only a few modules of the standard library, and `cli.main` calls it
without importing Typer. It always prints one line in time and exits with 0: Claude Code hides the line of a command that fails.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Mapping

PREFIX = "/api/anthropic"  # proxy.target.PREFIX; importing it from there takes longer than all of this
PATH = "/api/v1/statusline"
LIMIT = 0.18  # seconds for everything but the start of Python, which takes 0.05
QUICK = 0.06  # seconds after which the proxy's answer is late
MAX_INPUT = 256 * 1024  # bytes
MAX_ANSWER = 64 * 1024
NOT_ANSWERING = "claude-proxy does not answer"
REASONS = {401: "claude-proxy asks for a key", 404: "claude-proxy has no status line"}


def statusline() -> None:
    """Print one line about the session that Claude Code describes on standard input.

    Claude Code calls this itself, every two seconds, once `claude-proxy code` or `claude-proxy env --settings` have set it up. It
    needs no options: the address and the credential come from ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN.
    """
    asking = Asking(os.environ)
    threading.Thread(target=asking.run, daemon=True).start()  # name resolution and pipes have no timeout of their own
    if not asking.done.wait(QUICK):
        import claude_proxy.protocol.status_line  # noqa: F401 - `local_line` may need it; imported while we wait

        asking.done.wait(LIMIT - QUICK)
    line = asking.answer or local_line(asking.given, asking.problem, os.environ)
    with contextlib.suppress(OSError):  # not `sys.stdout`, which would fail again at exit
        os.write(1, line.encode("utf-8", "replace") + b"\n")


class Asking:
    """Reads standard input and asks the proxy, in a thread.

    Attributes:
        given: the content of standard input.
        answer: the proxy's line; empty until it is there.
        problem: why there is no line.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.given = b""
        self.answer = ""
        self.problem = NOT_ANSWERING
        self.done = threading.Event()
        self._environ = environ

    def run(self) -> None:
        """Ask. Never raises."""
        try:
            self.given = read_all()
            status, body = ask(self._environ, self.given, time.monotonic() + LIMIT)
            if status == 200:
                self.answer = next(iter(body.decode("utf-8", "replace").splitlines()), "")
            else:
                self.problem = REASONS.get(status, f"claude-proxy answers {status}")
        except NotOurs:
            self.problem = "ANTHROPIC_BASE_URL names no claude-proxy"
        except (OSError, ValueError):  # no answer, or none of ours
            pass
        finally:
            self.done.set()  # in any case: a bug of ours must not cost the line either


class NotOurs(Exception):
    """ANTHROPIC_BASE_URL is not a claude-proxy: nothing is sent there."""


def read_all() -> bytes:
    """Read standard input, unless it is a terminal. Uses `os.read`, because a blocked `sys.stdin` breaks the exit of Python."""
    if os.isatty(0):
        return b""
    parts = []
    left = MAX_INPUT
    while left > 0 and (part := os.read(0, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def ask(environ: Mapping[str, str], given: bytes, deadline: float) -> tuple[int, bytes]:
    """Send the input to the proxy that Claude Code uses; returns status and body.

    Written by hand, because importing `http.client` would double the CPU time of this program. HTTP/1.0, so that the answer is
    never chunked and ends with the connection (RFC 9112 section 6.1).

    Raises:
        NotOurs: ANTHROPIC_BASE_URL does not end as ours does.
        OSError, ValueError: there is no answer.
    """
    scheme, host, port, path = place(environ.get("ANTHROPIC_BASE_URL", ""))
    question = head(environ, host, port, path, len(given)) + given
    with socket.create_connection((host, port), timeout=max(0.01, deadline - time.monotonic())) as plain:
        if scheme == "https":
            import ssl

            with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured:
                return exchange(secured, question, deadline)
        return exchange(plain, question, deadline)


def place(base_url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of the route, from ANTHROPIC_BASE_URL."""
    scheme, found, rest = base_url.rstrip("/").partition("://")
    if not found or scheme not in ("http", "https") or not rest.endswith(PREFIX):
        raise NotOurs
    authority, _, prefix = rest.removesuffix(PREFIX).partition("/")
    authority = authority.rpartition("@")[2]
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    return scheme, host, int(port or (443 if scheme == "https" else 80)), f"/{prefix}{PATH}" if prefix else PATH


def head(environ: Mapping[str, str], host: str, port: int, path: str, size: int) -> bytes:
    """The request's head, with the credentials that Claude Code itself sends."""
    named = f"[{host}]" if ":" in host else host
    columns = environ.get("COLUMNS", "")
    query = [f"columns={columns}"] if columns.isascii() and columns.isdigit() else []
    query += ["color=0"] if environ.get("NO_COLOR") else []
    lines = [f"POST {path}{'?' if query else ''}{'&'.join(query)} HTTP/1.0", f"host: {named}:{port}"]
    lines += ["content-type: application/json", f"content-length: {size}", *credentials(environ)]
    text = "\r\n".join([*lines, "", ""])
    if not text.isprintable() and any(not char.isprintable() and char not in "\r\n" for char in text):
        raise ValueError("a variable holds what no header may")
    return text.encode("latin-1")


def credentials(environ: Mapping[str, str]) -> list[str]:
    """The header fields with the client's credentials, including the proxy's key."""
    found = []
    token, key = environ.get("ANTHROPIC_AUTH_TOKEN", "").strip(), environ.get("ANTHROPIC_API_KEY", "").strip()
    if token and "\n" not in token:
        found.append(f"authorization: Bearer {token}")
    for line in environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "x-api-key":
            key = value.strip()
    if key and "\n" not in key:
        found.append(f"x-api-key: {key}")
    return found


def exchange(connection: socket.socket, question: bytes, deadline: float) -> tuple[int, bytes]:
    """Send the question and read the answer until it ends."""
    connection.sendall(question)
    answer = b""
    while len(answer) < MAX_ANSWER:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        part = connection.recv(MAX_ANSWER)
        if not part:
            break
        answer += part
    top, found, body = answer.partition(b"\r\n\r\n")
    words = top.split(None, 2)
    if not found or len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ValueError("no HTTP answer")
    return int(words[1]), body


def local_line(given: bytes, problem: str, environ: Mapping[str, str]) -> str:
    """The line without the proxy."""
    from claude_proxy.protocol.status_line import COLUMNS, local_status, read_client, render

    columns = environ.get("COLUMNS", "")
    width = int(columns[:5]) if columns.isascii() and columns.isdigit() else COLUMNS
    return render(local_status(read_client(given), problem), width, color=not environ.get("NO_COLOR"))
