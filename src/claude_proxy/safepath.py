"""Starts child processes so that Python imports nothing from the working directory.

`python -m` puts the working directory first on the path, and so does an empty part of PYTHONPATH
(`PYTHONPATH=$PYTHONPATH:/x` often leaves one). In somebody else's checkout, its `fastapi.py` or `sitecustomize.py`
would then run with our rights.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# `-P` (Python 3.11): do not put the working directory or the script's folder on the path.
PYTHON = (sys.executable, "-P")


def without_working_directory(environ: Mapping[str, str], *folders: str) -> dict[str, str]:
    """Return `environ` changed so that a child's Python, and those it starts, import nothing from the working directory.

    Args:
        folders: absolute folders to import from in addition.
    """
    kept = [folder for folder in environ.get("PYTHONPATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    path = os.pathsep.join([*kept, *(folder for folder in folders if folder not in kept)])
    changed = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    return {**changed, "PYTHONSAFEPATH": "1", **({"PYTHONPATH": path} if path else {})}
