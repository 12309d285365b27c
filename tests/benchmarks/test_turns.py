"""What the measurement of the queue makes of the requests at the upstream."""

from __future__ import annotations

from benchmarks.turns import Used, slots
from claude_proxy.simulator import Recorded
from claude_proxy.simulator.stage import Phase


def ran(began: float, ended: float | None, kind: str = "subagent", status: int | None = 200) -> Recorded:
    headers = [(b"x-claude-code-request-class", kind.encode())]
    return Recorded("POST", b"/v1/messages", headers, 1, began, ended_at=ended, status=status)


def test_each_slot_second_is_used_kept_or_free() -> None:
    requests = [ran(0, 10), ran(1, 4, "main"), ran(4, 5, "auxiliary"), ran(6, None, "main", None), ran(2, 3, status=429)]
    found = slots(requests, [Phase(0.0, max_concurrency=2)], 0.0, 12.0)
    assert found == Used(usable=24.0, used=10.0 + 3.0 + 1.0 + 6.0, kept=1.0 + 1.0)


def test_a_slot_is_kept_only_while_subagents_have_all_the_others() -> None:
    requests = [ran(0, 2), ran(2, 4), ran(2, 4)]
    assert slots(requests, [Phase(0.0, max_concurrency=3)], 0.0, 4.0).kept == 2.0


def test_the_limit_that_moves_to_one_and_back_counts_as_it_was() -> None:
    stage = [Phase(0.0, max_concurrency=2), Phase(1.0, max_concurrency=1), Phase(2.0, max_concurrency=2)]
    found = slots([ran(100, 280), ran(100, 170, "main")], stage, 100.0, 280.0)
    assert found == Used(usable=120.0 + 60.0 + 120.0, used=120.0 + 60.0 + 60.0, kept=0.0, hidden=60.0)


def test_slots_of_a_raised_limit_are_hidden_until_a_request_runs_above_the_old_one() -> None:
    stage = [Phase(0.0, max_concurrency=1), Phase(1.0, max_concurrency=3)]
    found = slots([ran(0, 180), ran(70, 72, status=429), ran(90, 180, "main")], stage, 0.0, 180.0)
    assert found == Used(usable=60.0 + 360.0, used=180.0 + 90.0, kept=0.0, hidden=2 * 30.0, found=(30.0,))


def test_slots_that_nobody_has_found_are_not_hidden_any_more_when_the_limit_falls() -> None:
    stage = [Phase(0.0, max_concurrency=1), Phase(1.0, max_concurrency=3), Phase(2.0, max_concurrency=1)]
    assert slots([ran(0, 180)], stage, 0.0, 180.0) == Used(usable=60.0 + 180.0 + 60.0, used=180.0, kept=0.0, hidden=120.0)
