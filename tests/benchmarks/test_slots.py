"""Where an upstream's slots go: all of them are accounted for, and the queue uses nearly all that it can know of."""

from __future__ import annotations

from statistics import fmean, median

import pytest

from benchmarks.slots import HIDDEN, KEPT, OTHER, Phases, World, added, known, moving
from claude_proxy.routing.classes import Urgency

SECONDS = 150.0
SEEDS = range(6)
CASES = {"limit 2": [(0.0, 2)], "limit 1": [(0.0, 1)], "2, 1, 2": moving(SECONDS), "3, 1, 3": moving(SECONDS, 3)}


def runs(phases: Phases, lag: float = 0.0) -> list[World]:
    return [World(phases, seed, lag).run(SECONDS) for seed in SEEDS]


@pytest.mark.parametrize("lag", [0.0, 0.5])
@pytest.mark.parametrize("phases", CASES.values(), ids=CASES)
def test_each_slot_second_has_an_explanation(phases: Phases, lag: float) -> None:
    ends = [at for at, _ in phases[1:]] + [SECONDS]
    slots = sum(limit * (end - at) for (at, limit), end in zip(phases, ends, strict=True))
    for world in runs(phases, lag):
        assert sum(world.spent.values()) == pytest.approx(slots)
        assert world.spent[OTHER] < 0.001 * slots


@pytest.mark.parametrize("phases", [CASES["limit 2"], CASES["limit 1"], CASES["2, 1, 2"]])
def test_while_thirty_wait_95_percent_of_the_slots_that_can_be_known_are_used(phases: Phases) -> None:
    worlds = runs(phases)
    assert known(added(worlds)) >= 0.95
    assert min(known(world.spent) for world in worlds) >= 0.945
    assert not any(world.seen for world in worlds), "a refusal reached a client"
    assert all(world.refused <= 0.17 * world.requests for world in worlds)


@pytest.mark.parametrize("phases", [CASES["limit 2"], CASES["limit 1"], CASES["2, 1, 2"]])
def test_the_main_agent_and_its_checks_wait_the_least_and_no_subagent_is_passed_over(phases: Phases) -> None:
    for world in runs(phases):
        main, check, subagent = (world.waits[one] for one in (Urgency.MAIN, Urgency.BLOCKING, Urgency.SUBAGENT))
        assert fmean(check) <= fmean(main) + 1.0
        assert max(*main, *check) <= 6.0, "the subagent that runs is waited for"
        assert median(main) <= 0.1 * median(subagent)
        subagents = [world.served[agent] for agent in range(1, 31)]
        assert max(subagents) - min(subagents) <= 1


def test_a_slot_is_kept_for_the_main_agent_and_a_raised_limit_is_hidden_at_first() -> None:
    spent = added(runs(moving(SECONDS)))
    assert 0.02 < spent[KEPT] / sum(spent.values()) < 0.05
    assert 0.0 < spent[HIDDEN] / sum(spent.values()) < 0.06


def test_the_same_seed_gives_the_same_account() -> None:
    assert World(moving(SECONDS), 3).run(SECONDS).spent == World(moving(SECONDS), 3).run(SECONDS).spent
