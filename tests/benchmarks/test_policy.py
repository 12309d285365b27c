"""The simulation: the same seeds give the same figures, its world is what it says, and the rules keep their promises."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from benchmarks.policy import report
from benchmarks.policy.__main__ import app, mean
from benchmarks.policy.loads import ATTEMPTS, CHECK_ATTEMPTS, LOADS, Call, Client, Load
from benchmarks.policy.policies import POLICIES
from benchmarks.policy.simulate import Run, quantile, ratio, simulate
from benchmarks.policy.world import FIXED, LAGGING, MOVING, Account, Clock, Scenario
from claude_proxy.routing.classes import Urgency

MIXED = LOADS[1]


def without_cpu(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name != "cpu"}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_figures(policy: str) -> None:
    run = Run(policy, MIXED, MOVING, 0.3, 5)
    assert without_cpu(simulate(run)) == without_cpu(simulate(run))


def test_all_policies_meet_the_same_limits() -> None:
    moves = []
    for lag in (0.0, 2.0):
        clock = Clock()
        account = Account(Scenario("", lag=lag), clock, Random("7"))
        seen: list[tuple[float, int, bool]] = []
        account.changed.append(
            lambda seen=seen, clock=clock, account=account: seen.append((clock.now, account.limit, account.dark))
        )  # type: ignore[misc]
        clock.run(20_000)
        moves.append(seen)
    assert moves[0] == moves[1]
    assert len(moves[0]) > 5


def test_an_account_accepts_up_to_its_limit_and_frees_slots_late() -> None:
    clock = Clock()
    account = Account(LAGGING, clock, Random(1))
    assert [account.accept() for _ in range(3)] == [True, True, False]
    account.release()
    assert (account.occupied, account.free) == (2, 0)
    clock.run(clock.now + LAGGING.lag)
    assert account.accept()


def test_in_a_blackout_nothing_is_accepted() -> None:
    clock = Clock()
    account = Account(Scenario("", (5,), math.inf, 0.0, 10.0), clock, Random(1))
    dark = 0
    for second in range(1, 200):
        clock.run(float(second))
        if account.dark:
            dark += 1
            assert not account.accept()
    assert dark > 20


class Refusing:
    """A front that refuses everything, and notes when it was asked."""

    def __init__(self, retry_after: float | None) -> None:
        self.retry_after = retry_after
        self.client: Client
        self.asked_at: list[float] = []
        self.ended: list[bool] = []

    def ask(self, call: Call) -> None:
        self.asked_at.append(self.client.clock.now)
        self.client.refused(call, self.retry_after)

    def asked(self, call: Call) -> None: ...

    def over(self, call: Call, *, answered: bool) -> None:
        self.ended.append(answered)


@pytest.mark.parametrize(
    ("urgency", "retry_after", "attempts", "least", "most"),
    [
        (Urgency.MAIN, None, ATTEMPTS, 159, 200),  # measured: 178 to 188 s
        (Urgency.MAIN, 5.0, ATTEMPTS, 165, 215),  # measured: 182 to 197 s
        (Urgency.MAIN, 30.0, ATTEMPTS, 300, 400),  # measured: 343 s
        (Urgency.BLOCKING, None, CHECK_ATTEMPTS, 120, 170),
    ],
)
def test_a_client_gives_up_after_as_long_as_was_measured(
    urgency: Urgency, retry_after: float | None, attempts: int, least: float, most: float
) -> None:
    clock, front = Clock(), Refusing(retry_after)
    front.client = Client(clock, Random(1), front, front)
    front.client.call("session 0", urgency, 1.0, lambda _: None)
    clock.run(10_000)
    assert len(front.asked_at) == attempts
    assert least <= front.asked_at[-1] - front.asked_at[0] <= most
    assert front.ended == [False]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_no_tool_check_is_denied_and_no_request_fails(load: Load) -> None:
    figures = mean([simulate(Run("the rules", load, MOVING, 1.0, seed)) for seed in (1, 2)])
    assert figures["denied"] == 0
    assert figures["failed"] == 0
    assert figures["utilisation"] >= 75
    assert figures["refusals"] <= 200


def test_a_fixed_limit_is_used_and_hardly_ever_exceeded() -> None:
    figures = simulate(Run("the rules", MIXED, FIXED, 1.0, 3))
    assert figures["utilisation"] >= 95
    assert figures["refusals"] <= 50
    assert figures["share"] <= 1.1


def test_the_rules_beat_having_no_queue() -> None:
    ours, none = (simulate(Run(policy, MIXED, MOVING, 2.0, 1)) for policy in ("the rules", "no queue"))
    assert ours["refusals"] < none["refusals"] / 5
    assert ours["visible"] < none["visible"] / 2
    assert ours["main wait"] < none["main wait"]


def test_many_accounts_share_the_sessions() -> None:
    figures = simulate(Run("the rules", LOADS[0], MOVING, 0.1, 1, accounts=3))
    assert figures["utilisation"] > 50
    assert figures["calls"] > 50


def test_the_command_prints_seeds_and_writes_each_run(tmp_path: Path) -> None:
    target, page = tmp_path / "runs.json", tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nolder figures\n{report.END}\nafter\n")
    words = ["--hours", "0.2", "--seeds", "2", "--first-seed", "5", "--policy", "the rules", "--load", "5 sessions mixed"]
    done = CliRunner().invoke(app, [*words, "--json", str(target), "--output", str(page)])
    assert done.exit_code == 0, done.output
    assert "seeds 5, 6" in done.output
    assert {run["seed"] for run in json.loads(target.read_text())} == {5, 6}
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "older figures" not in text
    assert "| 5 sessions mixed | utilisation %" in text


@pytest.mark.parametrize("words", [["--policy", "magic"], ["--load", "none"], ["--hours", "0"]])
def test_the_command_says_what_it_does_not_know(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="has no lines"):
        report.write(page, "section")
    assert page.read_text() == "text"


def test_a_target_without_a_value_is_not_judged() -> None:
    target = report.at_most("name", "missing", 1.0)
    assert target.verdict({}) == ("-", True)
    assert report.at_least("name", "there", 5.0).verdict({"there": 4.0}) == ("4", False)


def test_small_statistics() -> None:
    assert quantile([], 0.95) == 0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert ratio({"a": 1.0}) == 1.0
    assert ratio({"a": 1.0, "b": 2.0}) == 2.0
