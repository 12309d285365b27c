"""Programs that are started so that Python finds no module in the working directory.

`python -m` puts the working directory first on the path, and an empty part of PYTHONPATH means it too
(`PYTHONPATH=$PYTHONPATH:/x` often leaves one). In a checkout that somebody else wrote, a `fastapi.py` or `sitecustomize.py`
would then run as us.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# `-P` (Python 3.11): the folder that a program starts in is not on its path.
PYTHON = (sys.executable, "-P")


def without_working_directory(environ: Mapping[str, str], *folders: str) -> dict[str, str]:
    """`environ` for a child whose Python does not look into the working directory, nor do the Pythons that it starts.

    Args:
        folders: absolute folders to look into as well.
    """
    kept = [folder for folder in environ.get("PYTHONPATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    path = os.pathsep.join([*kept, *(folder for folder in folders if folder not in kept)])
    changed = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    return {**changed, "PYTHONSAFEPATH": "1", **({"PYTHONPATH": path} if path else {})}
