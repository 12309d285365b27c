"""The Makefile's way to a virtual environment, with a Python that is written by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As Debian's without python3-venv: `-m venv` leaves an interpreter without pip behind and fails.
HALF = """\
#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; printf '#!/bin/sh\\nexit 1\\n' >"$3/bin/python"; chmod 755 "$3/bin/python"; exit 1;;
esac
"""
WHOLE = HALF.replace("exit 1\\n", 'echo "$@" >>used\\n').replace('"; exit 1;;', '";;')

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """`make .venv/.run` with this as `python3`."""
    script = folder / "python3"
    script.write_text(python)
    script.chmod(0o755)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    command = ["make", "--no-print-directory", f"PYTHON={script}", ".venv/.run"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a make that runs the tests
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_a_virtual_environment_that_cannot_be_made_names_the_package(tmp_path: Path) -> None:
    done = make(tmp_path, HALF)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stdout


def test_one_that_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    make(tmp_path, HALF)
    done = make(tmp_path, WHOLE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pip --disable-pip-version-check install" in (tmp_path / "used").read_text()


def test_run_names_the_checkouts_own_proxy_py() -> None:
    """`serve` searches nothing, so the constant in proxy.py and the file beside it count only if it is named."""
    done = subprocess.run(["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "claude-proxy serve --app proxy.py" in done.stdout


def test_one_that_works_is_kept(tmp_path: Path) -> None:
    assert make(tmp_path, WHOLE).returncode == 0
    (tmp_path / ".venv/.run").unlink()
    assert make(tmp_path, HALF).returncode == 0
