"""Runs a Python command under cProfile, between two signals: ``profiled.py STATS SCRIPT [ARGUMENT...]``.

SIGUSR1 starts the profile, SIGUSR2 ends it and writes STATS: start-up and shutdown stay out of it.
"""

import cProfile
import os
import runpy
import signal
import sys


def main() -> None:
    """Install the two handlers and become the command."""
    stats, script = sys.argv[1:3]
    profile = cProfile.Profile()

    def finish(*_: object) -> None:
        profile.disable()
        profile.dump_stats(stats + ".part")
        os.replace(stats + ".part", stats)  # noqa: PTH105 (the reader waits for the whole file)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, finish)
    sys.argv = sys.argv[2:]
    sys.path[0] = os.path.dirname(script)  # noqa: PTH120 (as if Python had been given the script itself)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
