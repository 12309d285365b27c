"""What a process says about logins at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from claude_proxy.access.logins import Kept, Logins
from claude_proxy.settings import Settings, load
from claude_proxy.web.login_start import LoginStart


def settings(folder: Path, **more: Any) -> Settings:
    return load({}, data_dir=folder, **{"host": "0.0.0.0", **more}).settings


async def started(folder: Path, group: str | None, **more: Any) -> tuple[LoginStart, Logins, list[Any]]:
    """Start one process of a group of workers; returns what it logged too."""
    logins = Logins(folder)
    start = LoginStart(settings(folder, **more), logins, lambda: group)
    with capture_logs() as log:
        await start.start()
    return start, logins, log


def links(log: list[Any]) -> list[str]:
    return [line["link"] for line in log if line["event"] == "login"]


async def test_a_process_alone_logs_a_link_that_works(tmp_path: Path) -> None:
    _, logins, log = await started(tmp_path, None, public_url="https://proxy.example/x")
    [link] = links(log)
    assert link.startswith("https://proxy.example/x/login#code=")
    assert logins.take_code(link)


async def test_on_loopback_there_is_nothing_to_say(tmp_path: Path) -> None:
    _, logins, log = await started(tmp_path, None, host="127.0.0.1")
    assert log == []
    assert logins.kept is Kept.FILES


async def test_the_first_of_several_workers_logs_it(tmp_path: Path) -> None:
    workers = [await started(tmp_path, "group") for _ in range(3)]
    assert [len(links(log)) for _, _, log in workers] == [1, 0, 0]
    for start, _, _ in workers:
        start.close()


async def test_the_next_start_logs_another(tmp_path: Path) -> None:
    first, _, log = await started(tmp_path, "group")
    first.close()
    second, _, again = await started(tmp_path, "group")
    second.close()
    assert len({*links(log), *links(again)}) == 2


async def test_servers_that_share_a_folder_log_one_each(tmp_path: Path) -> None:
    starts = [await started(tmp_path, group) for group in ("one", "another")]
    assert [len(links(log)) for _, _, log in starts] == [1, 1]
    for start, _, _ in starts:
        start.close()


async def test_where_the_workers_cannot_lock_each_logs_one(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("in the way")
    for _ in range(2):
        _, _, log = await started(tmp_path, "group")
        assert len(links(log)) == 1


@pytest.mark.parametrize(
    ("group", "kept", "count", "said"),
    [(None, Kept.MEMORY, 1, "end with this process"), ("group", Kept.NOWHERE, 0, "ADMIN_TOKEN alone")],
)
async def test_without_a_folder_it_says_what_that_means(
    tmp_path: Path, group: str | None, kept: Kept, count: int, said: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    _, logins, log = await started(tmp_path / "file", group)
    [note] = [line["note"] for line in log if line["event"] == "logins_not_kept"]
    assert said in note
    assert "cannot be written (not a directory)" in note
    assert logins.kept is kept
    assert len(links(log)) == count


async def test_a_full_disk_costs_the_link_and_not_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    _, _, log = await started(tmp_path, None)
    [line] = log
    assert (line["event"], "No space left on device" in line["note"]) == ("login_link_failed", True)
