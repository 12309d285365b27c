"""A process that captures until it is killed: `python -m tests.ledger.capture.child FOLDER`. It prints how many are written."""

import itertools
import sys
import threading
import time
from pathlib import Path

from claude_proxy.ledger.capture.options import CaptureOptions
from claude_proxy.ledger.capture.preparing import Preparer
from claude_proxy.ledger.capture.store import Opener
from claude_proxy.ledger.capture.worker import Worker
from tests.ledger.capture.captured import parcel, turn


def say(level: str, event: str, /, **fields: object) -> None:
    """Nobody listens."""


def main(folder: str) -> None:
    worker = Worker(Opener(CaptureOptions(Path(folder), reserve=0)), Preparer(), say=say)
    worker.start()
    messages = []
    pause = threading.Event()
    for number in itertools.count():
        messages.append(turn(f"{number} " + "word " * 400))
        worker.put(parcel({"messages": messages[-40:] if number % 3 else messages[:5]}, at=time.time()))
        while worker.waiting > 5:
            pause.wait(0.001)
        sys.stdout.write(f"{worker.written}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
