"""A process that writes rows until it is killed: `python -m tests.ledger.child FOLDER NAME`, or a PostgreSQL address for FOLDER.

It prints what is written so far, and with NAME `stop` ends in order after 500 rows.
"""

import sys
import threading
from pathlib import Path

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Kind, Outcome, Usage
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import Options
from claude_proxy.ledger.record import Charge, record
from claude_proxy.ledger.writer import Writer


def tell(*words: object) -> None:
    """A line to the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def say(level: str, event: str, /, **fields: object) -> None:
    tell("log", level, event, fields)


def main(place: str, name: str) -> None:
    make = ids.Ids()
    is_url = place.startswith("postgresql://")
    options = Options(Path("/nowhere") if is_url else Path(place), place if is_url else None)
    writer = Writer(Opener(options, make, say), say=say, price=lambda _: Charge(1000, 2, "p"), delay=0.02)
    writer.start()
    pause = threading.Event()
    told = sent = 0
    while name != "stop" or sent < 500:
        for _ in range(20):
            sent += 1
            writer.put(record(exchange(make(), f"{name}-{sent // 50}", sent)))
        pause.wait(0.002)
        if writer.written > told:
            told = writer.written
            tell("written", told)
    writer.begin_stop(10)
    writer.join(20)
    tell("stopped", writer.written, writer.lost)


def exchange(number: int, session: str, sent: int) -> Exchange:
    """The `sent`-th of its process; its input says so."""
    return Exchange(
        *(ids.encode(number), "POST", "/v1/messages", "127.0.0.1", 0.0, ids.milliseconds(number) / 1000),
        kind=Kind.MESSAGES,
        session=session,
        model="glm-5.3",
        status=200,
        usage=Usage(input=sent, output=1),
        ended=1.0,
        outcome=Outcome.COMPLETED,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
