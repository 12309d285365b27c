"""A secret that survives restarts, for its owner only."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from claude_proxy.settings.secret_file import SIZE, secret_in


def test_it_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    first = secret_in(path)
    assert first is not None
    assert len(first) == SIZE
    assert secret_in(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_several_that_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[bytes | None] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(secret_in(tmp_path / "key"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {secret_in(tmp_path / "key")}
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * (SIZE + 1)])
def test_a_damaged_one_is_not_used_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    assert secret_in(tmp_path / "key") is None
    assert (tmp_path / "key").read_bytes() == content


def test_without_a_place_for_it_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert secret_in(tmp_path / "file" / "key") is None
