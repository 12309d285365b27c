"""Conditions of the machine: told when they begin and when they end, once each."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.notify.events import Condition, Event
from claude_proxy.notify.health import LOW_BYTES, Health, space_of

GIB = 1024**3


class Machine:
    """Says what the test wants, and keeps what is told."""

    def __init__(self) -> None:
        self.lost = 0
        self.total, self.free = 100 * GIB, 50 * GIB
        self.broken = False
        self.events: list[Event] = []
        self.health = Health(self.events.append, ledger_lost=lambda: self.lost, space=self.space)

    def space(self) -> tuple[int, int]:
        if self.broken:
            raise OSError("gone")
        return self.total, self.free

    async def look(self) -> list[tuple[str, bool]]:
        """What a look tells."""
        self.events.clear()
        await self.health.look()
        return [(event.fault.word, event.on) for event in self.events if isinstance(event, Condition)]


async def test_the_first_look_tells_both_for_what_an_earlier_run_has_left_open() -> None:
    machine = Machine()
    assert await machine.look() == [("ledger_losing", False), ("disk_low", False)]
    assert await machine.look() == []


async def test_a_disk_that_fills_is_told_once_and_is_over_with_room_to_spare() -> None:
    machine = Machine()
    await machine.look()
    machine.free = LOW_BYTES - 1
    assert await machine.look() == [("disk_low", True)]
    assert "511 of 102400 MiB are free in DATA_DIR." in str(machine.events)
    machine.free = LOW_BYTES + 1
    assert await machine.look() == []
    machine.free = 2 * LOW_BYTES
    assert await machine.look() == [("disk_low", False)]


async def test_on_a_small_disk_a_share_counts() -> None:
    machine = Machine()
    machine.total, machine.free = GIB, GIB // 10
    assert ("disk_low", False) in await machine.look()
    machine.free = GIB // 25
    assert await machine.look() == [("disk_low", True)]


async def test_lost_rows_are_told_and_over_after_ten_calm_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    await machine.look()
    machine.lost = 5
    assert await machine.look() == [("ledger_losing", True)]
    assert "5 exchanges are lost so far." in str(machine.events)
    machine.lost = 7
    assert await machine.look() == []
    monkeypatch.setattr("claude_proxy.notify.health.CALM", 0.0)
    assert await machine.look() == [("ledger_losing", False)]


async def test_a_disk_that_cannot_be_asked_is_no_news() -> None:
    machine = Machine()
    machine.broken = True
    assert await machine.look() == [("ledger_losing", False)]


def test_the_space_of_a_folder_that_is_not_there_yet_is_its_parents(tmp_path: Path) -> None:
    assert space_of(tmp_path / "a" / "b")[0] == space_of(tmp_path)[0] > 0
