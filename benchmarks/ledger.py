"""The ledger with many rows: `python -m benchmarks.ledger --help`.

Prints what a row costs in time and bytes, how long each question takes, and what start and memory cost; with `--served` also how
long a running proxy with that ledger takes for each call of its API, and whether its retention disturbs the traffic.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import ledger_served
from claude_proxy import ids
from claude_proxy.exchange import Exchange, Failure, Kind, Outcome, Usage
from claude_proxy.ledger.options import Entry, Options
from claude_proxy.ledger.record import Charge, record

DAYS = 200
PER_SESSION, SECONDS_APART = 200, 20.0  # an hour of work; a fifth of it by subagents, a tenth by a small model
PER_AGENT = 20
BATCH = 200
DAY = 86_400
SLOW = 200  # milliseconds that a question may take
MODELS = ("glm-5.3", "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")


def rss() -> float:
    """Megabytes of memory in use."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6


def exchanges(count: int, end: float) -> Iterator[Exchange]:
    """Sessions one after another over the days."""
    rng = random.Random(7)
    for number in range(count):
        session, turn = divmod(number, PER_SESSION)
        if turn == 0:
            began = end - DAYS * DAY * (1 - number / count)
            model = rng.choice(MODELS[:3])
            text = f"{session:08x}-7f1b-4c8e-9a55-{rng.randrange(2**48):012x}"
        agent = turn // PER_AGENT if turn // PER_AGENT % 5 == 4 else None
        at = began + (turn + rng.random()) * SECONDS_APART
        sequence = number % 4096
        failed = rng.random() < 0.02
        yield Exchange(
            *(ids.encode(ids.first_of(int(at * 1000)) | sequence), "POST", "/v1/messages", "127.0.0.1", 0.0, at),
            kind=Kind.MESSAGES,
            upstream="default",
            session=text,
            agent=None if agent is None else f"agent-{agent}",
            request_class="main" if agent is None else "agent",
            model=model if rng.random() < 0.9 else MODELS[3],
            stream=True,
            status=529 if failed else 200,
            upstream_request_id=f"req_011{rng.randrange(16**20):020x}",
            usage=None if failed else Usage(rng.randrange(20), rng.randrange(3000), rng.randrange(150_000), rng.randrange(9000)),
            stop_reason="tool_use",
            bytes_in=rng.randrange(300_000),
            bytes_out=rng.randrange(90_000),
            first_byte=rng.random() * 9,
            longest_silence=rng.random() * 5,
            ended=rng.random() * 60,
            outcome=Outcome.COMPLETED,
            failure=Failure("upstream", "overloaded_error", "Overloaded", "1305") if failed else None,
        )


def timed(question: Callable[[], Any], clock: Callable[[], float], turns: int = 5) -> float:
    """Milliseconds of the middle one of some turns."""
    found = []
    for _ in range(turns):
        started = clock()
        question()
        found.append((clock() - started) * 1000)
    return sorted(found)[turns // 2]


def fill(options: Options, count: int, end: float) -> None:
    """Write the rows, and say what each costs."""
    from claude_proxy.ledger.opening import Opener

    now = end
    store = Opener(options, ids.Ids(), lambda *_, **__: None, wall=lambda: now)()
    making = writing = 0.0
    batch: list[Entry] = []
    rng = random.Random(8)
    for exchange in exchanges(count, end):
        started = time.thread_time()
        kept = record(exchange)
        making += time.thread_time() - started
        batch.append(Entry(kept, Charge(rng.randrange(10**9), None, "2026-11") if kept.used else Charge()))
        if len(batch) == BATCH:
            now = exchange.started_at  # 1,000 new sessions a day, then they are `other`: so the days pass here too
            started = time.thread_time()
            store.write(batch, 0)
            writing += time.thread_time() - started
            batch = []
    if batch:
        store.write(batch, 0)
    store.close(0)
    print(f"record on the path {making / count * 1e6:6.1f} us a row")
    print(f"written            {writing / count * 1e6:6.1f} us a row in batches of {BATCH}, rollup and commit included")


def ask(options: Options, end: float) -> None:
    """How long each question takes."""
    from claude_proxy.ledger.queries import Books

    books = Books.open(options, timeout=60)
    middle = books.exchanges(1)["items"][0]
    week = end - 7 * DAY
    session = middle["session"]
    questions: dict[str, Callable[[], Any]] = {
        "last 50 exchanges": lambda: books.exchanges(50),
        "last 50 failures": lambda: books.exchanges(50, status="failed"),
        "last 50 of a session": lambda: books.exchanges(50, session=session),
        "last 50 of a rare model": lambda: books.exchanges(50, model=MODELS[3], status="529"),
        "last 50 with a status that never was": lambda: books.exchanges(50, status="418"),
        "one exchange": lambda: books.exchange(middle["id"]),
        "last 50 sessions": lambda: books.sessions(50),
        "one session": lambda: books.session(session),
        **{f"usage by {by}": lambda by=by: books.usage(by, timezone="Asia/Seoul") for by in ("day", "week", "month", "model")},
        **{
            f"usage by {by}": lambda by=by: books.usage(by)
            for by in ("session", "project", "agent", "class", "client", "upstream")
        },
        "usage by hour, a week": lambda: books.usage("hour", since=week, timezone="Asia/Kathmandu"),
        "usage by session, a week": lambda: books.usage("session", since=week),
        "usage by day of one session": lambda: books.usage("day", filters={"session": session}),
        "usage by day of one model": lambda: books.usage("day", filters={"model": MODELS[0]}),
    }
    clock = time.thread_time if options.database_url is None else time.perf_counter  # SQLite works in this thread
    for name, question in questions.items():
        took = timed(question, clock)
        print(f"{name:40}{took:8.1f} ms{f'   OVER {SLOW}' if took > SLOW else ''}")


def sizes(folder: Path, count: int) -> None:
    """Bytes of each table and index, a row."""
    import sqlite3

    connection = sqlite3.connect(folder / "ledger.db")
    print(f"file               {(folder / 'ledger.db').stat().st_size / count:6.1f} bytes a row, of which")
    try:
        found = connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 8").fetchall()
    except sqlite3.OperationalError:
        found = []  # SQLite is built without dbstat
    for name, size in found:
        print(f"  {name:28}{size / count:8.1f}")
    for table in ("rollup", "session", "name"):
        rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        print(f"  {rows} rows in {table}")
    connection.close()


def measure(folder: Path, rows: int, url: str | None) -> None:
    """Make the ledger unless it is there, and ask it."""
    before, started = rss(), time.perf_counter()
    from claude_proxy.ledger import opening

    print(f"loading            {(time.perf_counter() - started) * 1000:6.0f} ms, {rss() - before:.1f} MB (SQLAlchemy)")
    options = Options(folder, url)
    end = time.time() // 1
    if url is not None or not (folder / "ledger.db").exists():
        fill(options, rows, end)
    if url is None:
        sizes(folder, rows)
    started = time.perf_counter()
    opening.Opener(options, ids.Ids(), lambda *_, **__: None)().close(0)
    print(f"opened again in    {(time.perf_counter() - started) * 1000:6.0f} ms")
    ask(options, end)
    print(f"memory             {rss():6.1f} MB")


def main(
    rows: Annotated[int, typer.Option(help="Exchanges in the ledger.")] = 1_000_000,
    postgres: Annotated[str | None, typer.Option(help="Address of an empty PostgreSQL database, in place of a file.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep ledger.db here, and use the one that is there.")] = None,
    served: Annotated[bool, typer.Option("--served", help="Measure a running proxy with this ledger too.")] = False,
    budget: Annotated[int, typer.Option(help="LEDGER_MAX_BYTES that the running proxy has to get down to.")] = 64 * 2**20,
) -> None:
    """Make a ledger with many rows (30 us each) and measure it.

    Examples:

      python -m benchmarks.ledger --folder /tmp/million --served

      python -m benchmarks.ledger --rows 100000 --postgres postgresql://user@localhost/empty
    """
    with tempfile.TemporaryDirectory() as own:
        place = folder or Path(own)
        place.mkdir(parents=True, exist_ok=True)
        measure(place, rows, postgres)
        if served and postgres is None:
            ledger_served.measure(place, budget)


if __name__ == "__main__":
    typer.run(main)
