"""How much of a request's head the server takes, and how long it waits."""

from dataclasses import dataclass

# Longer than the idle time-outs of what stands in front of us (Traefik 90 s, nginx and ALB 60 s): the side that
# sends must be the side that closes, or a request meets a connection that has just gone.
KEEP_ALIVE = 100.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask of us. Sizes are bytes, times are seconds.

    Claude Code sends about 2 KB of headers in 25 lines; the defaults leave room for thirty times that.
    """

    head_bytes: int = 64 * 1024
    header_count: int = 256
    target_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    keep_alive: float = KEEP_ALIVE
    # What is read and thrown away after an early answer, so that a reset does not overtake the answer.
    linger_seconds: float = 5.0
    # A second request behind a running one waits in memory; more than this and it is not waited for.
    pipeline_bytes: int = 64 * 1024
    pipeline_depth: int = 16
