"""Several workers, one answer: reports over real Unix sockets, leaders that end, die, hang or talk nonsense."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_proxy.errors import Unavailable
from claude_proxy.observe import catalogue as c
from claude_proxy.observe.election import MAX_SOCKET_PATH, Election, NoElection
from claude_proxy.observe.leading import Gauges
from claude_proxy.observe.reports import Report, write
from claude_proxy.observe.sharing import Sharing
from claude_proxy.observe.tally import Snapshot, Tally
from tests.integration.leftovers import until
from tests.observe.folders import short_folder

LOST = (c.LEDGER_LOST.name,)
NEVER = 3600.0  # seconds: no report unless the test asks for one


class Worker:
    """One worker's sums: a counter that tests add to, and a gauge of 1."""

    def __init__(self, folder: Path, *, group: str = "group", period: float = NEVER, patience: float = 5.0) -> None:
        self.tally = Tally()
        self.cell = self.tally.cell(c.LEDGER_LOST)
        self.gauge = 1.0
        self.sharing = Sharing(folder, group, self.tally, self._gauges, period=period, patience=patience)

    def _gauges(self) -> Gauges:
        return [((c.WORKERS.name,), self.gauge)]

    @property
    def leads(self) -> bool:
        return self.sharing.leads

    async def start(self) -> Worker:
        await self.sharing.start()
        return self

    async def ask(self) -> tuple[float, float]:
        """The counter and the gauge of everybody."""
        snapshot = await self.sharing.snapshot()
        return dict(snapshot.sums).get(LOST, [0])[0], dict(snapshot.gauges)[c.WORKERS.name,]


@asynccontextmanager
async def workers(folder: Path, count: int, **more: float) -> AsyncIterator[list[Worker]]:
    """So many workers; the first is the leader."""
    started = [await Worker(folder, **more).start() for _ in range(count)]  # type: ignore[arg-type]
    try:
        yield started
    finally:
        for worker in reversed(started):
            await worker.sharing.aclose()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


async def test_any_worker_answers_with_the_sums_of_all(folder: Path) -> None:
    async with workers(folder, 3) as all_of_them:
        assert [worker.leads for worker in all_of_them] == [True, False, False]
        for number, worker in enumerate(all_of_them):
            worker.cell[0] += 10**number
        for worker in all_of_them:
            await worker.ask()
        assert [await worker.ask() for worker in all_of_them] == [(111, 3)] * 3


async def test_workers_report_by_themselves(folder: Path) -> None:
    async with workers(folder, 2, period=0.001) as (leader, other):
        other.cell[0] += 7
        await until(lambda: leader.cell[0] == 7)
        other.cell[0] += 1
        await until(lambda: leader.cell[0] == 8)


async def test_a_worker_that_ends_leaves_its_sums_and_takes_its_gauges(folder: Path) -> None:
    async with workers(folder, 2) as (leader, other):
        await other.ask()
        assert await leader.ask() == (0, 2)
        other.cell[0] += 5
        await other.sharing.aclose()
        await until(lambda: dict(leader.sharing._leading._gauges) == {})
        assert await leader.ask() == (5, 1)


async def test_a_leader_that_ends_is_replaced_and_the_sums_begin_at_zero(folder: Path) -> None:
    """At zero exactly: Prometheus would count whatever remained as new."""
    async with workers(folder, 3) as (leader, second, third):
        second.cell[0] += 5
        await second.ask()
        assert await leader.ask() == (5, 2)
        await leader.sharing.aclose()
        second.cell[0] += 1
        assert await second.ask() == (1, 1)
        assert second.leads
        third.cell[0] += 1
        assert await third.ask() == (2, 2)


async def test_workers_elect_a_new_leader_without_being_asked(folder: Path) -> None:
    async with workers(folder, 3, period=0.001) as (leader, second, third):
        await leader.sharing.aclose()
        await until(lambda: second.leads or third.leads)
        assert second.leads != third.leads


async def test_a_report_that_was_not_confirmed_is_neither_lost_nor_added_twice(folder: Path) -> None:
    async with workers(folder, 2) as (leader, other):
        other.cell[0] += 5
        await other.ask()
        other.cell[0] += 3
        drained = other.tally.drain()
        other.sharing._number += 1
        other.sharing._unsure = drained  # as if the answer had not come ...
        report = Report(other.sharing._name, other.sharing._number, Snapshot(drained, []))
        leader.sharing._leading._take(report)  # ... although the leader had added it
        other.cell[0] += 1
        assert await other.ask() == (9, 2)


async def test_what_was_not_confirmed_is_kept_while_there_is_no_leader(folder: Path) -> None:
    election = Election(folder, "group")
    assert election.stand()  # and never listens
    async with workers(folder, 1, patience=0.05) as (worker,):
        worker.cell[0] += 5
        with pytest.raises(Unavailable, match="does not answer"):
            await worker.ask()
        election.resign()
        worker.cell[0] += 2
        assert await worker.ask() == (7, 1)


async def test_a_leader_that_hangs_makes_no_wrong_numbers(folder: Path) -> None:
    """Its place is not free, so there is no answer; when it is back, nothing is missing."""
    election = Election(folder, "group")
    assert election.stand()
    assert election.socket is not None

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(hang, election.socket)
    election.announce()
    async with workers(folder, 1, patience=0.05) as (worker,):
        worker.cell[0] += 5
        with pytest.raises(Unavailable, match="does not answer"):
            await worker.ask()
        server.close()
        election.resign()
        assert await worker.ask() == (5, 1)


@pytest.mark.parametrize("answer", [b"", b"\0", b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\2\x93\1"])
async def test_an_answer_that_is_nonsense_is_no_answer(folder: Path, answer: bytes) -> None:
    election = Election(folder, "group")
    assert election.stand()
    assert election.socket is not None

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(talk, election.socket)
    election.announce()
    async with workers(folder, 1) as (worker,):
        worker.cell[0] += 5
        with pytest.raises(Unavailable):
            await worker.ask()
        server.close()
        election.resign()
        assert await worker.ask() == (5, 1)


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\xc1", b"\xff\xff\xff\xff"])
async def test_a_leader_that_is_told_nonsense_hangs_up_and_works_on(folder: Path, words: bytes) -> None:
    async with workers(folder, 2) as (leader, other):
        path = leader.sharing._election.socket
        assert path is not None
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(words)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        other.cell[0] += 1
        assert await other.ask() == (1, 2)


async def test_the_leader_remembers_a_bounded_number_of_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.observe.leading.MAX_REMEMBERED", 3)
    async with workers(folder, 1) as (leader,):
        path = leader.sharing._election.socket
        assert path is not None
        for number in range(9):
            reader, writer = await asyncio.open_unix_connection(path)
            write(writer, Report(f"w{number}", 1, Snapshot([(LOST, [1])], [])))
            await reader.readexactly(4)
            writer.close()
        assert (await leader.ask())[0] == 9
        assert list(leader.sharing._leading._last) == ["w6", "w7", "w8"]


async def test_a_fault_of_ours_in_one_report_does_not_end_the_next_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with workers(folder, 2, period=0.001) as (leader, other):
        faults = iter([RuntimeError("a bug")])

        def gauges() -> Gauges:
            for fault in faults:
                raise fault
            return []

        other.sharing._refresh = gauges  # type: ignore[method-assign]
        await until(lambda: "metrics_report_failed" in capsys.readouterr().out)
        other.cell[0] += 3
        await until(lambda: leader.cell[0] == 3)


# -- where they meet


async def test_servers_that_share_a_folder_do_not_share_their_sums(folder: Path) -> None:
    async with workers(folder, 1) as (one,), workers(folder, 1, group="second") as (two,):
        one.cell[0] += 1
        assert one.leads
        assert two.leads
        assert (await one.ask(), await two.ask()) == ((1, 1), (0, 1))


async def test_what_they_leave_is_an_empty_folder_for_this_user_alone(folder: Path) -> None:
    async with workers(folder, 2) as (_, other):
        await other.ask()
        assert (folder / "workers").stat().st_mode & 0o777 == 0o700
        assert sorted(path.name for path in (folder / "workers").iterdir()) == ["group.lock", "group.sock"]
    assert list((folder / "workers").iterdir()) == []


async def test_a_long_path_puts_the_socket_elsewhere(folder: Path) -> None:
    deep = folder / ("x" * 60) / ("y" * 60)
    async with workers(deep, 2) as (leader, other):
        place = leader.sharing._election.socket
        assert place is not None
        assert len(os.fsencode(place)) <= MAX_SOCKET_PATH
        assert place.parent.stat().st_mode & 0o777 == 0o700
        other.cell[0] += 1
        assert await other.ask() == (1, 2)
    assert not place.parent.exists()


@pytest.mark.parametrize("length", range(MAX_SOCKET_PATH - 3, MAX_SOCKET_PATH + 4))
async def test_no_length_of_a_path_keeps_workers_apart(folder: Path, length: int) -> None:
    rest = length - len(os.fsencode(folder / "x" / "workers" / "group.sock")) + 1
    async with workers(folder / ("é" * (rest // 2) + "x" * (rest % 2)), 2) as (_, other):
        assert await other.ask() == (0, 2)


def in_the_way(folder: Path) -> None:
    folder.mkdir()
    (folder / "workers").write_text("a file where the folder should be")


def no_folder(folder: Path) -> None:
    folder.write_text("a file where DATA_DIR should be")


def a_folder_as_lock(folder: Path) -> None:
    (folder / "workers" / "group.lock").mkdir(parents=True)


def a_link_as_lock(folder: Path) -> None:
    """Somebody else's file is not to be written through a link."""
    (folder / "workers").mkdir(parents=True)
    (folder / "workers" / "group.lock").symlink_to(folder / "elsewhere")


def a_folder_as_socket(folder: Path) -> None:
    (folder / "workers" / "group.sock").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [in_the_way, no_folder, a_folder_as_lock, a_link_as_lock, a_folder_as_socket])
async def test_where_they_cannot_meet_each_answers_for_itself_and_says_so_once(
    folder: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder / "data"
    spoil(data)
    async with workers(data, 2) as both:
        for number, worker in enumerate(both):
            worker.cell[0] += number + 1
        assert [await worker.ask() for worker in both] == [(1, 1), (2, 1)]
        assert [await worker.ask() for worker in both] == [(1, 1), (2, 1)]
    said = capsys.readouterr().out
    assert said.count("metrics_not_shared") == 2
    assert said.count(f"{data}/workers") == 2
    assert not (data / "elsewhere").exists()


async def test_a_temporary_folder_that_is_too_long_is_said_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = folder / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(NoElection, match="too long for a unix socket"):
        Election(deep, "group").stand()
    assert list(deep.iterdir()) == [deep / "workers"]


# -- what killed servers leave behind


def left_behind(folder: Path, group: str, socket: Path) -> None:
    """A lock file that nobody holds, and the socket it names."""
    (folder / "workers").mkdir(exist_ok=True)
    (folder / "workers" / f"{group}.lock").write_bytes(os.fsencode(socket))


async def test_leftovers_of_killed_servers_are_removed(folder: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp(prefix="claude-proxy-")) / "sock"
    for group, place in (("here", folder / "workers/here.sock"), ("there", elsewhere), ("group", folder / "workers/group.sock")):
        left_behind(folder, group, place)
        server = await asyncio.start_unix_server(lambda *_: None, place)
        server.close()
        await server.wait_closed()
        place.unlink(missing_ok=True)
        bound(place)
    left_behind(folder, "without", Path("/nowhere/at/all"))
    async with workers(folder, 1):
        assert sorted(path.name for path in (folder / "workers").iterdir()) == ["group.lock", "group.sock"]
    assert not elsewhere.parent.exists()


def bound(place: Path) -> None:
    """A socket's file as a killed process leaves it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))


async def test_what_is_no_socket_is_never_removed(folder: Path) -> None:
    precious = folder / "precious"
    precious.write_text("x")
    left_behind(folder, "old", precious)
    async with workers(folder, 1):
        assert precious.read_text() == "x"


async def test_a_living_servers_files_stay(folder: Path) -> None:
    async with workers(folder, 2, group="first") as (_, other), workers(folder, 1, group="second"):
        assert await other.ask() == (0, 2)


def test_there_is_one_leader_at_a_time(folder: Path) -> None:
    """Two leaders would each have half of the sums."""
    first, second = Election(folder, "group"), Election(folder, "group")
    assert first.stand()
    assert not second.stand()
    first.resign()
    assert second.stand()
    assert not first.stand()
    second.resign()


def test_a_lock_on_a_file_that_is_removed_meanwhile_is_taken_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it, the old leader resigns and removes it."""
    old, new, third = (Election(folder, "group") for _ in range(3))
    assert old.stand()
    flock = fcntl.flock

    def late(lock: int, how: int) -> None:
        old.resign()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert new.stand()
    assert not third.stand()
    new.resign()
