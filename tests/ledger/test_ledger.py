"""The listener: what the path does, what it costs to load, and the event loop's part."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.exchange import Listeners
from claude_proxy.ledger import Charge, Ledger, Options, State
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import Say, Store, Trouble
from tests.architecture.source import SRC
from tests.ledger.books import exchange_of, rows
from tests.ledger.places import Place
from tests.ledger.waiting import until


def ledger(folder: Path, **options: Any) -> Ledger:
    def opener(say: Say) -> Callable[[], Store]:
        return Opener(Options(folder), ids.Ids(), say)

    return Ledger(opener, **options)


async def test_an_exchange_that_ends_is_in_the_books_after_the_stop(tmp_path: Path) -> None:
    books = ledger(tmp_path, price=lambda _: Charge(5))
    listeners = Listeners([books])
    await books.start()
    for _ in range(3):
        listeners.exchange_end(exchange_of())
    await books.aclose()
    assert books.writer.state is State.STOPPED
    with Place(tmp_path).engine().connect() as connection:
        assert [row["cost_nano"] for row in rows(connection)] == [5, 5, 5]
        assert rows(connection, "run")[0]["clean"] == 1
    assert listeners.errors == 0


async def test_the_path_never_waits_for_the_database() -> None:
    gate = threading.Event()

    def opener(_: Say) -> Callable[[], Store]:
        def never() -> Store:
            gate.wait(30)
            raise Trouble("locked")

        return never

    books = Ledger(opener)
    await books.start()
    for _ in range(20):
        books.on_exchange_end(exchange_of())
    assert books.writer.waiting == 20
    gate.set()
    await books.aclose(0.1)
    assert books.writer.lost == 20


async def test_a_stop_does_not_wait_for_a_database_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    def opener(_: Say) -> Callable[[], Store]:
        def hang() -> Store:
            gate.wait(30)
            raise Trouble("hung")

        return hang

    books = Ledger(opener)
    await books.start()
    books.on_exchange_end(exchange_of())
    await books.aclose(0.05)
    assert books.writer.waiting == 1
    gate.set()
    assert books.writer.join(20)


async def test_a_loss_is_told_on_the_event_loop(tmp_path: Path) -> None:
    import asyncio

    told: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    def opener(_: Say) -> Callable[[], Store]:
        def full() -> Store:
            raise Trouble("the disk is full")

        return full

    books = Ledger(opener, on_loss=lambda lost: told.put_nowait((lost, threading.get_ident())))
    for _ in range(10_005):
        books.on_exchange_end(exchange_of())
    await books.start()
    lost, thread = await asyncio.wait_for(told.get(), 20)
    assert (lost, thread) == (5, threading.get_ident())
    await books.aclose(0.05)


async def test_what_the_thread_says_comes_through_the_event_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    books = ledger(tmp_path / "file" / "data")
    await books.start()
    until(lambda: books.writer.state is State.WRITING)
    assert "kept in memory" not in capsys.readouterr().out
    await books.aclose()
    assert "kept in memory" in capsys.readouterr().out


async def test_after_the_ledger_is_off_no_record_is_made(tmp_path: Path) -> None:
    options = Options(tmp_path, database_url="mysql://nowhere")
    books = Ledger(lambda say: Opener(options, ids.Ids(), say))
    await books.start()
    until(lambda: books.writer.state is State.OFF)
    books.on_exchange_end(object())  # type: ignore[arg-type]
    await books.aclose()
    assert books.writer.lost == 0


@pytest.mark.parametrize("module", ["claude_proxy.app", "claude_proxy.ledger", "claude_proxy.ledger.record"])
def test_nothing_loads_a_database_before_it_is_needed(module: str) -> None:
    assert not loaded(f"import {module}") & {"sqlalchemy", "alembic", "psycopg", "sqlite3"}


def test_a_ledger_in_a_file_loads_neither_alembic_nor_another_databases_driver(tmp_path: Path) -> None:
    place = f"Options(Path({str(tmp_path)!r}))"
    code = (
        "from pathlib import Path; from claude_proxy import ids; from claude_proxy.ledger.opening import Opener; "
        f"from claude_proxy.ledger.options import Options; Opener({place}, ids.Ids(), print)().close(0)"
    )
    found = loaded(code)
    assert "sqlalchemy" in found
    assert not found & {"alembic", "mako", "psycopg", "sqlalchemy.dialects.postgresql"}


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has after running `code`."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    environ = os.environ | {"PYTHONPATH": str(SRC.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environ, check=True)
    return set(done.stdout.split())
