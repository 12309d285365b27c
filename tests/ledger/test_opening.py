"""Opening the ledger: files that are new, damaged, newer, locked, moved, without room, or cannot be."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from claude_proxy import ids
from claude_proxy.ledger import schema
from claude_proxy.ledger.database import file_connect, sqlite_engine, trouble
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import MEMORY_BYTES, LedgerOff, Options, Trouble
from claude_proxy.ledger.runs import Process
from claude_proxy.ledger.store import SqlStore
from claude_proxy.ledger.writer import State, Writer
from tests.ledger.books import Clock, Log, assert_books_balance, entry, exchange_of, records, rows
from tests.ledger.waiting import until

ME, DEAD = Process("boot here 1", os.getpid()), Process("boot here 1", 2**22 + 1)


class House:
    """A data folder, and what opens its ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log()

    @property
    def path(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def engine(self) -> Engine:
        return sqlite_engine(file_connect(self.path))

    def opener(self, process: Process = ME) -> Opener:
        return Opener(Options(self.folder), ids.Ids(), self.log, process=process, wall=Clock())

    def open(self, process: Process = ME) -> SqlStore:
        return self.opener(process)()

    def aside(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if "damaged" in path.name)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "data")


def kept(house: House) -> int:
    with house.engine.connect() as connection:
        return len(rows(connection))


def test_a_new_folder_is_made_and_is_the_users_alone(house: House) -> None:
    house.open().close(0)
    assert house.path.is_file()
    assert house.folder.stat().st_mode & 0o777 == 0o700
    assert house.log.lines == []


def test_what_was_written_is_there_when_it_is_opened_again(house: House) -> None:
    store = house.open()
    store.write([entry(), entry()], 0)
    store.close(0)
    house.open().close(0)
    assert kept(house) == 2


def test_an_empty_file_is_a_new_ledger(house: House) -> None:
    house.folder.mkdir()
    house.path.touch()
    house.open().close(0)
    assert house.aside() == []
    assert kept(house) == 0


# -- damaged


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


@pytest.mark.parametrize("start", [0, 16, 100], ids=["header", "page size", "first page"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(house: House, start: int) -> None:
    store = house.open()
    store.write([entry() for _ in range(50)], 0)
    store.close(0)
    overwrite(house.path, start, 4000)
    store = house.open()
    store.write([entry()], 0)
    store.close(0)
    assert kept(house) == 1
    assert house.aside() == ["ledger.db.damaged-20260921T141320Z"]
    assert house.log.said("was damaged") == [{"kept_as": str(house.folder / house.aside()[0])}]


def test_a_file_that_is_no_database_is_set_aside(house: House) -> None:
    house.folder.mkdir()
    house.path.write_text("these are not the books you are looking for " * 100)
    house.open().close(0)
    assert len(house.aside()) == 1


def test_after_a_kill_all_of_the_file_is_looked_over(house: House) -> None:
    store = house.open(DEAD)
    for _ in range(10):
        store.write([entry(session=None) for _ in range(200)], 0)
    store.close(None)
    size = house.path.stat().st_size
    overwrite(house.path, size // 2 // 4096 * 4096, 4096)
    house.open().close(0)
    assert len(house.aside()) == 1


def test_a_kill_alone_is_no_damage(house: House) -> None:
    store = house.open(DEAD)
    store.write([entry()], 0)
    store.close(None)
    house.open().close(0)
    assert house.aside() == []
    assert len(house.log.said("was killed")) == 1


def test_damage_that_shows_while_it_runs_is_found_at_the_next_try(house: House) -> None:
    with writing(house) as writer:
        for record in records(400):
            writer.put(record)
        until(lambda: writer.written == 400)
        with house.engine.connect() as connection:  # into the file itself
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        overwrite(house.path, 4096, house.path.stat().st_size - 4096)
        for record in records(5):
            writer.put(record)
        until(lambda: writer.written == 405)
    assert len(house.aside()) == 1
    assert kept(house) == 5


# -- off


def test_a_newer_schema_switches_the_ledger_off_and_stays_as_it_is(house: House) -> None:
    house.open().close(0)
    with house.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0999'")
    before = house.path.read_bytes()
    with pytest.raises(LedgerOff, match="newer claude-proxy"):
        house.open()
    assert house.path.read_bytes() == before
    assert house.aside() == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://user:s3cret@db/books", "begins with mysql://, expected postgresql://"),
        ("sqlite:///tmp/s3cret.db", "begins with sqlite://, expected postgresql://"),
        ("s3cret", "cannot be read: expected postgresql://user:password@host:5432/database"),
        ("postgresql://user:s3cret@host:port/db", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_sentence_without_its_secret(tmp_path: Path, url: str, reason: str) -> None:
    options = Options(tmp_path, database_url=url)
    with pytest.raises(LedgerOff, match=reason) as caught:
        Opener(options, ids.Ids(), Log())()
    assert "s3cret" not in str(caught.value) + repr(options)


def test_a_database_server_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    url = f"postgresql://user:s3cret@/books?host={tmp_path}"
    with pytest.raises(Trouble) as caught:
        Opener(Options(tmp_path, database_url=url), ids.Ids(), Log())()
    assert not caught.value.hopeless
    assert "s3cret" not in caught.value.reason


# -- in memory


@pytest.fixture
def nowhere(tmp_path: Path) -> House:
    """A folder that cannot be made: a file stands in its way."""
    (tmp_path / "file").touch()
    return House(tmp_path / "file" / "data")


def test_without_a_folder_the_ledger_is_in_memory_and_says_so_once(nowhere: House) -> None:
    opener = nowhere.opener()
    store = opener()
    batch = [entry() for _ in range(3)]
    store.write(batch, 0)
    store.close(None)
    store = opener()  # opened again, it is the same
    store.write([entry()], 0)
    assert store.in_memory
    assert opener.reading is not None
    with sqlite_engine(opener.reading, reading=True).connect() as connection:
        assert len(rows(connection)) == 4
    (said,) = nowhere.log.said("kept in memory")
    assert said == {"data_dir": str(nowhere.folder), "reason": "not a directory", "bytes": MEMORY_BYTES}
    store.close(0)


def test_two_ledgers_in_memory_are_two(nowhere: House, house: House) -> None:
    one, other = nowhere.opener(), nowhere.opener()
    one().write([entry()], 0)
    other()
    assert other.reading is not None
    with sqlite_engine(other.reading, reading=True).connect() as connection:
        assert rows(connection) == []


# -- trouble that passes


@contextlib.contextmanager
def writing(house: House) -> Iterator[Writer]:
    writer = Writer(house.opener(), say=house.log, delay=0.01, retry=(0.01,))
    writer.start()
    try:
        yield writer
    finally:
        writer.begin_stop(3)
        assert writer.join(20)


def test_a_locked_database_costs_nothing_once_it_is_free(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.ledger.sqlite.BUSY_SECONDS", 0.01)
    house.open().close(0)
    other = sqlite3.connect(house.path, isolation_level=None)
    with writing(house) as writer:
        until(lambda: writer.state is State.WRITING)
        other.execute("BEGIN IMMEDIATE")
        for record in records(300):
            writer.put(record)
        until(lambda: writer.state is State.FAILING)
        assert writer.reason == "the database is locked by another program"
        other.execute("COMMIT")
        until(lambda: writer.written == 300)
    assert writer.lost == 0
    assert kept(house) == 300
    other.close()


def test_a_database_that_is_locked_at_the_start_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.ledger.sqlite.BUSY_SECONDS", 0.01)
    house.open().close(0)
    other = sqlite3.connect(house.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with writing(house) as writer:
        writer.put(records(1)[0])
        until(lambda: writer.state is State.FAILING)
        other.execute("COMMIT")
        until(lambda: writer.written == 1)
    other.close()


def test_a_reader_that_stays_open_holds_up_nobody(house: House) -> None:
    house.open().close(0)
    reader = sqlite3.connect(house.path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM exchange").fetchone() == (0,)
    with writing(house) as writer:
        for record in records(500):
            writer.put(record)
        until(lambda: writer.written == 500)
    assert reader.execute("SELECT count(*) FROM exchange").fetchone() == (0,)
    reader.close()
    assert kept(house) == 500


def test_a_writers_transaction_has_the_lock_from_its_beginning(house: House) -> None:
    """One that reads first and then wants to write fails if another process wrote in between, whatever the busy time-out."""
    house.open().close(0)
    other = sqlite3.connect(house.path, timeout=0, isolation_level=None)
    with house.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_is_taken_away_is_begun_anew(house: House, how: str) -> None:
    with writing(house) as writer:
        writer.put(records(1)[0])
        until(lambda: writer.written == 1)
        for path in list(house.folder.iterdir()):
            path.rename(path.with_name("old-" + path.name)) if how == "replaced" else path.unlink()
        writer.put(records(1)[0])
        until(lambda: writer.written == 2)
    assert kept(house) == 1
    assert house.log.said("cannot be written")[0]["reason"] == "the database file was moved or replaced"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("mounting a small file system takes root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_costs_what_does_not_fit_the_queue_and_writing_resumes(small_disk: Path) -> None:
    house = House(small_disk / "data")
    told: list[int] = []
    ballast = small_disk / "ballast"
    writer = Writer(house.opener(), say=house.log, delay=0.01, retry=(0.01,), limit=300, on_loss=told.append)
    writer.start()
    until(lambda: writer.state is State.WRITING)
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    sent = 0
    while not told:
        for record in records(100):
            writer.put(record)
            sent += 1
        until(lambda: bool(told) or writer.waiting < 100 or writer.state is State.FAILING)
    assert writer.state is State.FAILING
    assert writer.reason == "the disk is full"
    ballast.unlink()
    until(lambda: writer.state is State.WRITING and writer.waiting == 0)
    writer.begin_stop(5)
    assert writer.join(20)
    assert writer.lost == sent - writer.written > 0
    assert kept(house) == writer.written
    assert told[0] >= 1
    assert_books_balance(house.engine)
    with house.engine.connect() as connection:
        assert rows(connection, "run")[0]["lost"] == writer.lost


def test_a_disk_that_is_full_at_the_start_is_waited_for(small_disk: Path) -> None:
    house = House(small_disk / "data")
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with writing(house) as writer:
        writer.put(records(1)[0])
        until(lambda: writer.state is State.FAILING)
        ballast.unlink()
        until(lambda: writer.written == 1)


# -- what errors mean


def sqlite_error(code: int) -> OperationalError:
    original = sqlite3.OperationalError("whatever SQLite says")
    original.sqlite_errorcode = code
    return OperationalError("SELECT 1", None, original)


@pytest.mark.parametrize(
    ("code", "reason", "reopen"),
    [
        (sqlite3.SQLITE_BUSY, "the database is locked by another program", False),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "the database is locked by another program", False),
        (sqlite3.SQLITE_LOCKED, "the database is locked by another program", False),
        (sqlite3.SQLITE_FULL, "the disk is full", True),
        (sqlite3.SQLITE_READONLY, "the database file is read-only", True),
        (sqlite3.SQLITE_READONLY_DBMOVED, "the database file is read-only", True),
        (sqlite3.SQLITE_IOERR_WRITE, "the disk reports an input/output error", True),
        (sqlite3.SQLITE_CANTOPEN, "the database file cannot be opened", True),
        (sqlite3.SQLITE_CORRUPT, "whatever SQLite says", True),
    ],
)
def test_what_sqlite_reports_is_said_in_words_and_tried_again(code: int, reason: str, reopen: bool) -> None:
    found = trouble(sqlite_error(code))
    assert (found.reason, found.reopen, found.hopeless) == (reason, reopen, False)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_MISMATCH])
def test_what_the_rows_are_to_blame_for_is_hopeless(code: int) -> None:
    assert trouble(sqlite_error(code)).hopeless


def test_a_row_that_no_database_takes_is_hopeless(house: House) -> None:
    store = house.open()
    bad = entry()
    bad.charge = bad.charge._replace(cost_nano=2**70)
    with pytest.raises(Trouble) as caught:
        store.write([bad], 0)
    assert caught.value.hopeless
    store.close(0)


@pytest.mark.parametrize("text", ["nul\0byte", "\ud800 surrogate", "x" * 5000, "한국어", "\x1b[31m"])
def test_texts_of_clients_are_cleaned_before_they_come_here(house: House, text: str) -> None:
    store = house.open()
    store.write([entry(model=text, session=text, upstream_request_id=text)], 0)
    store.close(0)
    assert kept(house) == 1


def test_numbers_that_nobody_uses_up_are_cut(house: House) -> None:
    from claude_proxy.exchange import Usage

    store = house.open()
    store.write([entry(usage=Usage(*[2**53] * 7), bytes_in=2**70, ended=1e15) for _ in range(50)], 0)
    store.close(0)
    assert_books_balance(house.engine)
    assert exchange_of().usage is not None
