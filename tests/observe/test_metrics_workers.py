"""Which processes belong together."""

from __future__ import annotations

import multiprocessing.process
import os
import sys
import types

import pytest

from claude_proxy.observe.workers import MARK, group, mark


@pytest.fixture(autouse=True)
def _a_plain_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "")  # so that it is as it was in the end, also after `mark`
    monkeypatch.delenv(MARK)
    monkeypatch.delitem(sys.modules, "gunicorn.arbiter", raising=False)


def test_a_plain_process_works_alone() -> None:
    assert group() is None


def test_the_workers_of_a_marked_process_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    mark()
    assert os.environ[MARK] == str(os.getpid())
    assert group() is None  # the marked process itself is no worker
    monkeypatch.setenv(MARK, str(os.getppid()))
    assert group() == group() is not None


def test_a_mark_that_was_inherited_from_farther_up_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as in a shell that a worker started."""
    monkeypatch.setenv(MARK, "1" if os.getppid() != 1 else "2")
    assert group() is None


def test_a_worker_of_gunicorn_knows_itself_by_its_parents_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", types.ModuleType("gunicorn.arbiter"))
    assert group() is not None


def test_a_child_of_multiprocessing_is_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.process, "parent_process", object)
    assert group() is not None


@pytest.mark.parametrize("differs", ["host", "parent"])
def test_another_server_has_another_name(differs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.process, "parent_process", object)
    mine = group()
    if differs == "host":  # a container with equal pids, and the same DATA_DIR
        monkeypatch.setattr("socket.gethostname", lambda: "another")
    else:
        monkeypatch.setattr("os.getppid", lambda: 4_000_000)
    assert group() != mine
