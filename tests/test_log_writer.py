"""The writer's queue: order, bound, losses told where they happened, waits that end."""

import threading
from collections.abc import Iterator

import pytest

from claude_proxy.log_writer import LogWriter, pieces


class Log:
    """Where the writer writes: in turn it takes what it is given, fails, or waits until `go` is set."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.reached = threading.Event()

    def write(self, data: bytes) -> None:
        self.reached.set()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        self.taken.append(data)

    def writer(self, room: int = 1000) -> LogWriter:
        return LogWriter(self.write, lambda count, reason: f"lost {count} {reason}\n".encode(), room)

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self.taken).splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.go.set()


def stop_reading(log: Log, writer: LogWriter) -> None:
    """Let the writer run into a reader that does not read, with one line in its hand."""
    log.go.clear()
    log.reached.clear()
    writer.put([b"held\n"])
    assert log.reached.wait(30)


def test_lines_come_out_in_the_order_they_went_in(log: Log) -> None:
    writer = log.writer(10**6)
    for n in range(1000):
        writer.put([b"%d\n" % n, b"%d and a half\n" % n])
    assert writer.drain(30)
    assert log.lines == [line for n in range(1000) for line in (b"%d" % n, b"%d and a half" % n)]
    assert writer.lost == 0


def test_lines_of_several_threads_are_all_written(log: Log) -> None:
    writer = log.writer(10**6)
    threads = [threading.Thread(target=lambda: [writer.put([b"x\n"]) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.drain(30)
    assert len(log.lines) == 2000


def test_what_does_not_fit_is_dropped_and_told_in_its_place(log: Log) -> None:
    writer = log.writer(room=30)
    stop_reading(log, writer)
    writer.put([b"kept 1\n", b"kept 2\n", b"x" * 30 + b"\n", b"short, but after a dropped one\n"])
    writer.put([b"too late\n"])
    log.go.set()
    assert writer.drain(30)
    writer.put([b"after\n"])
    assert writer.drain(30)
    assert log.lines == [b"held", b"kept 1", b"kept 2", b"lost 3 while nobody read the log", b"after"]
    assert writer.lost == 3


def test_a_line_larger_than_the_queue_is_written_if_nothing_waits(log: Log) -> None:
    writer = log.writer(room=10)
    writer.put([b"x" * 100 + b"\n"])
    assert writer.drain(30)
    assert log.lines == [b"x" * 100]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (ValueError("I/O operation on closed file"), "I/O operation on closed file"),
        (AttributeError("odd stream"), "odd stream"),
    ],
)
def test_lines_that_cannot_be_written_are_told_before_the_next_that_can(log: Log, error: Exception, reason: str) -> None:
    writer = log.writer()
    log.error = error
    for _ in range(2):
        writer.put([b"a\n", b"b\n"])
        assert writer.drain(30)
    log.error = None
    writer.put([b"c\n"])
    assert writer.drain(30)
    assert log.lines == [f"lost 4 because they could not be written: {reason}".encode(), b"c"]
    assert writer.lost == 4


def test_a_wait_for_a_reader_that_has_stopped_ends(log: Log) -> None:
    writer = log.writer()
    assert writer.drain(1000)  # nothing to wait for
    stop_reading(log, writer)
    assert not writer.drain(0.01)
    assert not writer.drain(1000)  # it has not read since
    log.go.set()
    while not writer.drain(30):
        pass
    assert log.lines == [b"held"]


def test_a_closed_writer_writes_what_it_has_and_ends(log: Log) -> None:
    writer = log.writer()
    stop_reading(log, writer)
    writer.put([b"last\n"])
    writer.close()
    log.go.set()
    assert writer._thread is not None
    writer._thread.join(30)
    assert not writer._thread.is_alive()
    assert log.lines == [b"held", b"last"]


def test_where_no_thread_can_be_started_lines_wait_for_one(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer = log.writer()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        writer.put([b"early\n"])
    assert not writer.drain(0.01)
    writer.put([b"late\n"])
    while not writer.drain(30):  # at once, until the thread that has begun now has written something
        pass
    assert log.lines == [b"early", b"late"]


@pytest.mark.parametrize(
    ("sizes", "joined"),
    [
        ([], []),
        ([10], [(10, 1)]),
        ([4000, 96, 1], [(4096, 2), (1, 1)]),
        ([4000, 97], [(4000, 1), (97, 1)]),
        ([10, 5000, 10], [(10, 1), (5000, 1), (10, 1)]),
    ],
)
def test_pieces_are_no_longer_than_a_pipe_takes_whole(sizes: list[int], joined: list[tuple[int, int]]) -> None:
    assert [(len(piece), count) for piece, count in pieces(b"x" * size for size in sizes)] == joined
