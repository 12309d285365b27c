"""Extension modules without their symbol tables: smaller, and they still work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import httptools.parser.parser as extension
import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("slim", ROOT / "deploy/docker/slim.py")
assert SPEC is not None
assert SPEC.loader is not None
slim = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(slim)
WORKS = """
import importlib.util, sys
import httptools.parser.errors
del sys.modules["httptools.parser.parser"]
spec = importlib.util.spec_from_file_location("httptools.parser.parser", sys.argv[1])
parser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parser)
print(parser.HttpResponseParser)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ELF is Linux's format")
def test_a_module_is_smaller_and_works(tmp_path: Path) -> None:
    data = Path(extension.__file__).read_bytes()
    kept = slim.cut(data)
    assert len(kept) < len(data)
    file = tmp_path / "parser.so"
    file.write_bytes(kept)
    done = subprocess.run([sys.executable, "-c", WORKS, str(file)], capture_output=True, text=True, check=False)
    assert "HttpResponseParser" in done.stdout, done.stderr
    assert slim.cut(kept) == kept


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(100), b"MZ" + bytes(200), b"not a module"])
def test_what_is_no_such_file_stays_as_it_is(data: bytes) -> None:
    assert slim.cut(data) == data
