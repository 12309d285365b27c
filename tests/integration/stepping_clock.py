"""`claude_proxy` with a clock that steps back an hour at SIGUSR1: `python stepping_clock.py serve ...`."""

import signal
import sys
import time

HOUR = 3600
_real, _real_ns = time.time, time.time_ns
_behind = 0


def step(*_: object) -> None:
    """Set the clock back."""
    global _behind
    _behind += HOUR


def main() -> None:
    """Run the program."""
    time.time = lambda: _real() - _behind
    time.time_ns = lambda: _real_ns() - _behind * 10**9
    signal.signal(signal.SIGUSR1, step)
    from claude_proxy.cli import main as run

    sys.argv[0] = "claude-proxy"
    run()


if __name__ == "__main__":
    main()
