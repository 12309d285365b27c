"""How a script is spread over the upstreams of the user's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.cli.rehearse import model_for
from claude_proxy.cli.rehearse.adapt import Adapted, SimulatedUpstream
from claude_proxy.cli.rehearse.clock import Clock
from claude_proxy.cli.rehearse.play import books, keys_of, staged
from claude_proxy.cli.rehearse.script import Clients, Script
from claude_proxy.simulator import Phase, Recorded, Scenario

FIRST = SimulatedUpstream("a", "zai", ("key-1", "key-2"))
SECOND = SimulatedUpstream("b", "kimi", ("key-3",), ("kimi-*", "kimi-for-coding"))


def adapted(*upstreams: SimulatedUpstream, client_key: str | None = None) -> Adapted:
    return Adapted(upstreams, client_key, False, None, {}, (), {})


def request(key: str) -> Recorded:
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"x-rehearsal-seconds", b"10")]
    return Recorded("POST", b"/api/anthropic/v1/messages", headers, 1, 0.0)


def answered(script: Script, upstream: SimulatedUpstream, number: int, key: str, speed: float = 1.0) -> Scenario:
    found = staged(script, upstream, number, Clock(speed))(request(key))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("phase", "statuses"),
    [
        (Phase(0, refuse="overload"), [529, 529, 429]),
        (Phase(0, refuse="overload", upstream=1), [529, 529, 200]),
        (Phase(0, refuse="concurrency", upstream=2), [200, 200, 403]),
        (Phase(0, refuse="window", upstream=1, account=2), [200, 429, 200]),
    ],
)
def test_a_phase_concerns_the_upstreams_and_accounts_that_it_names(phase: Phase, statuses: list[int]) -> None:
    """Each refuses in its provider's own way."""
    script = Script("t", 1.0, (phase,))
    asked = [(FIRST, 1, "key-1"), (FIRST, 1, "key-2"), (SECOND, 2, "key-3")]
    assert [answered(script, *one).status for one in asked] == statuses


@pytest.mark.parametrize("speed", [1.0, 20.0])
def test_answers_pass_as_fast_as_the_script(speed: float) -> None:
    slow = Phase(0, answer=Scenario("text", delay=20, pace=2))
    found = answered(Script("t", 1.0, (slow,)), FIRST, 1, "key-1", speed)
    assert (found.delay, found.pace) == (20 / speed, 2 / speed)
    good = answered(Script("t", 1.0, ()), FIRST, 1, "key-1", speed)
    assert good.delay == pytest.approx(2 / speed)  # a fifth of the ten seconds that the client's habit says
    assert good.delay + 13 * good.pace == pytest.approx(10 / speed)


@pytest.mark.parametrize(
    ("client_key", "keys"),
    [(None, ("rehearsal-client-key-1", "rehearsal-client-key-2")), ("the-proxys", ("the-proxys",))],
)
def test_what_clients_send_as_their_key(client_key: str | None, keys: tuple[str, ...]) -> None:
    assert keys_of(Script("t", 1.0, (), Clients(keys=2)), adapted(FIRST, client_key=client_key)) == keys


@pytest.mark.parametrize(("upstream", "model"), [(FIRST, "glm-5.3"), (SECOND, "kimi-for-coding")])
def test_the_clients_ask_for_a_model_that_the_first_upstream_has(upstream: SimulatedUpstream, model: str) -> None:
    assert model_for(adapted(upstream)) == model


@pytest.mark.parametrize("content", [None, b"no database"])
def test_books_that_cannot_be_read_are_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ledger.db").write_bytes(content)
    assert books(tmp_path) is None
