"""One finding of the doctor, and the run of all checks side by side within one time limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]
Checks = Iterator["Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        detail: what was found, without secrets.
        fix: what to do; empty where all is well.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Check:
    """All is well."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, fix: str = "") -> Check:
    """It works, or may, but a person should know."""
    return Check(name, "warn", detail, fix)


def fail(name: str, detail: str, fix: str) -> Check:
    """It does not work."""
    return Check(name, "fail", detail, fix)


def run_all(groups: Mapping[str, Callable[[], Checks]], limit: float) -> list[Check]:
    """Run the groups side by side, each in a thread of its own.

    Args:
        limit: seconds for everything; a group that is not done by then gets a failed check and is left behind (its
            thread is a daemon: a name lookup cannot be interrupted).

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
    """The check of a group that did not end in time."""
    return fail(name, f"no result within {limit:g} s", "Check this machine's network and name servers, then try again.")


def _collect(name: str, group: Callable[[], Checks], into: list[Check], done: queue.SimpleQueue[str]) -> None:
    try:
        into.extend(group())
    except Exception as error:  # a defect of a check must not hide the others
        into.append(fail(name, f"the check itself failed ({type(error).__name__}: {error})", "Please report this."))
    finally:
        done.put(name)
