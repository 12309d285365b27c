"""One simulation, and its figures."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from random import Random

from benchmarks.policy.loads import Client, Load, start
from benchmarks.policy.measures import Learning, Measures
from benchmarks.policy.policies import POLICIES, Upstream
from benchmarks.policy.world import Account, Clock, Scenario

Figures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """What to simulate.

    Attributes:
        accounts: how many; the load is multiplied by it.
    """

    policy: str
    load: Load
    scenario: Scenario
    hours: float
    seed: int
    accounts: int = 1


def simulate(run: Run) -> Figures:
    """Run one simulation; the same `run` gives the same figures, but for `cpu`."""
    began = time.process_time()
    clock = Clock()
    accounts = [Account(run.scenario, clock, Random(f"{run.seed} account {number}")) for number in range(run.accounts)]
    upstream = Upstream(clock, Random(f"{run.seed} upstream"))
    policy = POLICIES[run.policy](accounts, upstream, Random(f"{run.seed} policy"))
    measures = Measures(clock, accounts)
    policy.client = client = Client(clock, Random(f"{run.seed} client"), policy, measures)
    start(run.load, client, Random(f"{run.seed} load"), run.accounts)
    learning = [Learning(lane, account, clock) for lane, account in policy.learned()]
    clock.run(1.0 + run.hours * 3600)
    measures.add_up()
    return _figures(measures, upstream, learning) | {"cpu": time.process_time() - began}


def _figures(measures: Measures, upstream: Upstream, learning: list[Learning]) -> Figures:
    calls, checks = max(1, measures.calls), max(1, measures.checks)
    figures = {
        "utilisation": 100 * measures.used / measures.usable if measures.usable else 100.0,
        "refusals": 1000 * upstream.refused / calls,
        "visible": 100 * measures.visible / calls,
        "failed": 100 * measures.failed / calls,
        "slow checks": 100 * measures.slow_checks / checks,
        "denied": 100 * measures.denied / checks,
        "main wait": quantile(measures.waits, 0.95),
        "share": ratio(measures.shares),
        "share 30 min": statistics.median([ratio(each) for each in list(measures.recent.values())[:-1]] or [1.0]),
        "calls": float(measures.calls),
    }
    for name in ("cold", "up", "down"):
        found = [seconds for one in learning for seconds in getattr(one, name)]
        if found:
            figures[f"{name} p50"] = statistics.median(found)
            figures[f"{name} p90"] = quantile(found, 0.9)
    return figures


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def ratio(shares: dict[str, float]) -> float:
    """The largest share by the smallest."""
    return max(shares.values()) / max(min(shares.values()), 1e-9) if len(shares) > 1 else 1.0
