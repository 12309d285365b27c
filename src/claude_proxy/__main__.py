"""`python -m claude_proxy` is `claude-proxy`."""

import sys
from pathlib import Path


def leave_working_directory() -> None:
    """Take the working directory, which `-m` puts first, off the path: a fastapi.py there would be taken for the real one.

    It stays where this package itself lives in it.
    """
    try:
        here = Path.cwd()
    except OSError:  # it has been deleted: nothing can be imported from it
        return
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() == here != Path(__file__).resolve().parents[1]:
        del sys.path[0]


leave_working_directory()

from claude_proxy.cli import main  # noqa: E402  what it imports is what the path is cleaned for

if __name__ == "__main__":
    main()
