"""A gunicorn configuration that `serve` does not read earns a note, unless it is ours."""

import shutil
from pathlib import Path

import pytest

from claude_proxy.server.leftovers import PLACES, unused_files
from tests.server.process import ROOT


@pytest.mark.parametrize("place", PLACES)
def test_a_file_where_the_documents_image_reads_one_earns_a_note(tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("workers = 9\n")
    (note,) = unused_files(tmp_path)
    assert note.startswith(f"{file} is gunicorn's and has no effect under serve")


def test_the_shipped_file_and_no_file_earn_none(tmp_path: Path) -> None:
    assert unused_files(tmp_path) == []
    (tmp_path / "app").mkdir()
    shutil.copy(ROOT / "gunicorn_conf.py", tmp_path / "app")
    (tmp_path / "gunicorn_conf.py").mkdir()
    assert unused_files(tmp_path) == []
