"""Sums that are taken apart and added up again are the same sums."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.observe import catalogue as c
from claude_proxy.observe.tally import Key, Snapshot, Tally, merge_gauges, observe

COUNTERS = [metric for metric in c.METRICS if metric.type is not c.Type.GAUGE]
ADDED = st.lists(
    st.tuples(
        st.sampled_from(COUNTERS), st.sampled_from(["a", "b", "é"]), st.integers(0, 2**40), st.integers(0, 3), st.booleans()
    ),
    max_size=60,
)


@given(ADDED)
def test_no_split_among_workers_and_reports_changes_a_sum(added: list[tuple[c.Metric, str, int, int, bool]]) -> None:
    """Each addition goes to one of four workers, some of which report in between; numbers travel as MessagePack."""
    whole, leader, workers = Tally(), Tally(), [Tally() for _ in range(4)]
    for metric, label, amount, worker, reports in added:
        for tally in (whole, workers[worker]):
            tally.cell(metric, *[label] * len(metric.labels))[-1] += amount
        if reports:
            leader.add(travelled(workers[worker]))
    for tally in workers:
        leader.add(travelled(tally))
        assert tally.drain() == []
    nonzero = {key: cell for key, cell in whole.copy() if any(cell)}
    assert dict(leader.copy()) == nonzero


def travelled(tally: Tally) -> list[tuple[Key, list[int | float]]]:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(Snapshot(tally.drain(), [])), type=Snapshot).sums


def test_a_kept_cell_counts_on_after_a_report() -> None:
    tally = Tally()
    cell = tally.cell(c.LEDGER_LOST)
    cell[0] += 2
    assert tally.drain() == [(("claude_proxy_ledger_lost_total",), [2])]
    cell[0] += 3
    assert tally.drain() == [(("claude_proxy_ledger_lost_total",), [3])]


@pytest.mark.parametrize("number", [2**53, 2**63 - 1, 2**63, 2**64, 10**30])
def test_no_number_is_too_large_to_be_reported(number: int) -> None:
    leader, worker = Tally(), Tally()
    worker.cell(c.COST, "default", "m")[0] += number
    leader.add(travelled(worker))
    assert leader.cell(c.COST, "default", "m")[0] == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize(
    "foreign",
    [
        (("no_such_metric",), [1]),
        ((c.EXCHANGES.name, "too", "few"), [1]),
        ((c.LEDGER_LOST.name,), [1, 2]),
        ((c.OVERHEAD.name,), [1]),
        ((c.LEDGER_LOST.name,), []),
    ],
)
def test_what_another_version_reports_is_left_out(foreign: tuple[Key, list[int | float]]) -> None:
    tally = Tally()
    tally.add([foreign, ((c.LEDGER_LOST.name,), [1])])
    assert tally.copy() == [((c.LEDGER_LOST.name,), [1])]


@pytest.mark.parametrize(("value", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (1, -3), (1.001, -2), (1e9, -2)])
def test_a_buckets_bound_belongs_to_it(value: float, bucket: int) -> None:
    cell = Tally().cell(c.OVERHEAD)
    observe(c.OVERHEAD, cell, [value])
    assert cell.pop(-1) == value
    assert cell.index(1) == (bucket if bucket >= 0 else len(cell) + bucket + 1)
    assert sum(cell) == 1


def test_gauges_of_workers_come_to_their_sum_least_or_greatest() -> None:
    first: list[tuple[Key, float]] = [((c.IN_FLIGHT.name,), 2), ((c.UPSTREAM_UP.name, "a"), 1), ((c.QUOTA_USED.name, "5h"), 0.5)]
    second: list[tuple[Key, float]] = [((c.IN_FLIGHT.name,), 3), ((c.UPSTREAM_UP.name, "a"), 0), ((c.QUOTA_USED.name, "5h"), 0.7)]
    assert dict(merge_gauges((first, second, [(("no_such_gauge",), 1)]))) == {
        (c.IN_FLIGHT.name,): 5,
        (c.UPSTREAM_UP.name, "a"): 0,
        (c.QUOTA_USED.name, "5h"): 0.7,
    }
