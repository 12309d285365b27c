"""One result of the doctor, and running all checks in parallel within a time limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]
Checks = Iterator["Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        detail: what was found, without secrets.
        fix: what to do; empty if nothing is wrong.
    """

    name: str
    state: Level
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Check:
    """Return a check that passed."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, fix: str = "") -> Check:
    """Return a check that passed or may pass, but needs attention."""
    return Check(name, "warn", detail, fix)


def fail(name: str, detail: str, fix: str) -> Check:
    """Return a check that failed."""
    return Check(name, "fail", detail, fix)


def run_all(groups: Mapping[str, Callable[[], Checks]], limit: float) -> list[Check]:
    """Run the groups in parallel, each in its own thread.

    Args:
        limit: seconds for everything; a group that is not done by then gets a failed check and is abandoned (its
            thread is a daemon, because a name lookup cannot be interrupted).

    Returns:
        The checks in the order of the groups.
    """
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    found: dict[str, list[Check]] = {name: [] for name in groups}
    for name, group in groups.items():
        threading.Thread(target=_collect, args=(name, group, found[name], done), daemon=True).start()
    waiting = set(groups)
    deadline = time.monotonic() + limit
    while waiting and (left := deadline - time.monotonic()) > 0:
        try:
            waiting.discard(done.get(timeout=left))
        except queue.Empty:
            break
    return [check for name in groups for check in [*found[name], *([late(name, limit)] if name in waiting else [])]]


def late(name: str, limit: float) -> Check:
    """Return the failed check of a group that did not finish in time."""
    return fail(name, f"no result within {limit:g} s", "Check this machine's network and name servers, then try again.")


def _collect(name: str, group: Callable[[], Checks], into: list[Check], done: queue.SimpleQueue[str]) -> None:
    try:
        into.extend(group())
    except Exception as error:  # a bug in one check must not hide the others
        into.append(fail(name, f"the check itself failed ({type(error).__name__}: {error})", "Please report this."))
    finally:
        done.put(name)
