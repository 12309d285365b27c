"""Limits on the size of a request's head and on how long the server waits."""

from dataclasses import dataclass

# Longer than the idle timeouts of front proxies (Traefik 90 s, nginx and ALB 60 s): if the server closed first, the
# front could send a request on a connection that is just being closed.
KEEP_ALIVE = 100.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one connection. Sizes are in bytes, times in seconds.

    Claude Code sends about 2 KB of headers in 25 lines; the defaults leave room for thirty times that.
    """

    head_bytes: int = 64 * 1024
    header_count: int = 256
    target_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    keep_alive: float = KEEP_ALIVE
    # How long input is read and discarded after an early response, so that a reset does not destroy the response.
    linger_seconds: float = 5.0
    # Pipelined requests wait in memory; beyond these limits they are dropped and the connection closes.
    pipeline_bytes: int = 64 * 1024
    pipeline_depth: int = 16
