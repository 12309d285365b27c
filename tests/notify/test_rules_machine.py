"""The rules under any order of events: each incident opens once and closes once, six sounds an hour, no spinning timer."""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from claude_proxy.notify.desk import PER_HOUR
from claude_proxy.notify.events import Condition, Happened, Published
from claude_proxy.notify.fault import condition
from claude_proxy.notify.incident import STOP_QUIET
from tests.notify.exchanges import WALL, fault
from tests.notify.playing import HOUR, Play

UPSTREAMS = st.sampled_from(["default", "second"])
KINDS = st.sampled_from(
    [
        ("1302", "rate_limit_error"),
        ("1305", "overloaded_error"),
        ("1308", "rate_limit_error"),
        ("1312", "overloaded_error"),
        (None, "stream_cut"),
        (None, "connect_failed"),
        (None, "internal"),
    ]
)
SECONDS = st.one_of(st.floats(0, 60), st.floats(0, 4000))


class Days(RuleBasedStateMachine):
    """A proxy's life, with restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(daily="03:00")

    @rule(kind=KINDS, upstream=UPSTREAMS, count=st.integers(1, 5), wait=SECONDS, reset=st.none() | st.floats(-HOUR, 5 * HOUR))
    def failures(self, kind: tuple[str | None, str], upstream: str, count: int, wait: float, reset: float | None) -> None:
        at = self.play.now + wait
        for number in range(count):
            resets_at = None if reset is None or kind[0] != "1308" else WALL + at + reset
            self.play.fail(at + number, fault(*kind, upstream=upstream, reset_at=resets_at))

    @rule(upstream=UPSTREAMS, count=st.integers(1, 3), wait=SECONDS, model=st.sampled_from(["glm-5.3", "glm-4.7"]))
    def answers(self, upstream: str, count: int, wait: float, model: str) -> None:
        for number in range(count):
            self.play.answer(self.play.now + wait + number, model, upstream=upstream, head=1.0)

    @rule(used=st.floats(0, 1.1), wait=SECONDS)
    def quota(self, used: float, wait: float) -> None:
        at = self.play.now + wait
        self.play.quota(at, used, resets=(at // (5 * HOUR) + 1) * 5 * HOUR)

    @rule(reached=st.booleans())
    def ntfy(self, reached: bool) -> None:
        sequence = self.play.pushed[-1][1].sequence if reached and self.play.pushed else ""
        self.play.do(Published(reached, sequence))

    @rule(on=st.booleans(), word=st.sampled_from(["disk_low", "ledger_losing"]))
    def machine(self, on: bool, word: str) -> None:
        self.play.do(Condition(condition(word, "words"), on))

    @rule()
    def killed(self) -> None:
        self.play.restart()
        self.play.do(Happened(condition("crashed", "words")))

    @invariant()
    def each_opens_and_closes_once(self) -> None:
        assert len(set(self.play.opened)) == len(self.play.opened)
        assert len(set(self.play.closed)) == len(self.play.closed)
        assert set(self.play.closed) <= set(self.play.opened)

    @invariant()
    def at_most_six_sounds_an_hour(self) -> None:
        loud = [at for at, notice in self.play.pushed if notice.priority > 2]
        assert all(later - earlier > HOUR - 0.001 for earlier, later in zip(loud, loud[PER_HOUR:], strict=False))  # rounding

    @invariant()
    def an_update_replaces_something(self) -> None:
        seen: set[str] = set()
        for _, notice in self.play.pushed:
            assert notice.sequence in seen or not notice.update or "digest" in "".join(seen)
            seen.add(notice.sequence)

    def teardown(self) -> None:
        """Left alone for days, everything ends."""
        for word in ("disk_low", "ledger_losing"):
            self.play.do(Condition(condition(word, ""), on=False))
        self.play.do(Published(reached=True))
        self.play.to(self.play.now + 2 * STOP_QUIET)
        assert sorted(self.play.opened) == sorted(self.play.closed)


Days.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDays = Days.TestCase
