"""What goes on behind `demo --keep`: a past, developers at work, and a provider with accounts in trouble."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_proxy.cli.demo import past, town
from claude_proxy.cli.demo.life import JOBS, Life
from claude_proxy.cli.demo.prompts import LATE_TOOLS, Conversation, printed
from claude_proxy.cli.demo.provider import HOUR, QUOTA_PATH, SESSION, SPARE, TEAM, TROUBLE, WORK, Provider
from claude_proxy.ledger.prices.quota import parse
from claude_proxy.settings import load
from claude_proxy.simulator import Recorded, Scenario, Simulator
from tests.cli.conftest import process_environ

NOW = 1_790_000_000.0


class Clock:
    """Unix seconds, as the test sets them."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def request(talk: Conversation, key: str = WORK) -> Recorded:
    headers = [(SESSION.encode(), b"s"), (b"authorization", f"Bearer {key}".encode())]
    body = json.dumps(talk.body()).encode()
    return Recorded("POST", b"/api/anthropic/v1/messages", headers, 1, 0.0, body=body, model=talk.model)


def conversation(model: str = "glm-5.3") -> Conversation:
    return Conversation("web-shop", model, "Fix it.", ("protocol/sse.py",))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> Provider:
    provider = Provider(lambda _: None, wall=clock)
    provider.announce("s", "", Scenario("text", text="It is fixed."))
    return provider


@pytest.mark.parametrize("model", ["glm-5.3", "claude-opus-5-5"])
def test_what_a_prompt_has_in_common_with_the_one_before_is_read_from_the_cache(provider: Provider, model: str) -> None:
    talk = conversation(model)
    usages = []
    for _ in range(2):
        answer = provider(request(talk))
        assert answer is not None
        usages.append(answer.usage)
        talk.answered("I read it.", [("Read", "protocol/sse.py")], ["text of the file"])
    talk.connect_server()
    answer = provider(request(talk))
    assert answer is not None
    reads = [usage.cache_read_input_tokens for usage in (*usages, answer.usage) if usage]
    assert reads[0] == reads[2] == 0
    assert reads[1] > 1000
    assert [tool["name"] for tool in talk.body()["tools"][:2]] == list(LATE_TOOLS)


def test_the_spare_account_has_used_up_its_window_and_the_gateway_is_overloaded_for_a_while(
    provider: Provider, clock: Clock
) -> None:
    def status(key: str) -> int:
        answer = provider(request(conversation(), key))
        assert answer is not None
        return answer.status

    assert [status(key) for key in (WORK, SPARE, TEAM)] == [200, 429, 200]
    clock.now += TROUBLE[1] + 1
    assert [status(key) for key in (WORK, SPARE, TEAM)] == [200, 429, 529]
    clock.now = NOW + TROUBLE[0] + 1
    assert status(TEAM) == 200


@pytest.mark.parametrize(("key", "used_up"), [(WORK, False), (SPARE, True)])
def test_the_quota_is_in_the_form_of_the_real_endpoint(provider: Provider, key: str, used_up: bool) -> None:
    asked = Recorded("GET", QUOTA_PATH.encode(), [(b"authorization", key.encode())], 1, 0.0)
    answer = provider(asked)
    assert answer is not None
    five, week = parse(answer.body).plan
    assert (five.name, week.name, five.ratio == 1.0) == ("5h", "week", used_up)
    assert five.resets_at == pytest.approx(NOW + 2.2 * HOUR, abs=1)


def test_the_past_has_two_weeks_and_the_last_hour(tmp_path: Path) -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    count = past.write(tmp_path, now)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        times = [id >> 22 for (id,) in connection.execute("SELECT id FROM exchange")]
        (unpriced,) = connection.execute("SELECT count(*) FROM exchange WHERE cost_nano IS NULL AND input").fetchone()
    days = {datetime.fromtimestamp(at / 1000, UTC).date() for at in times}
    assert len(times) == count > 1000
    assert len(days) > 10
    assert max(times) < now.timestamp() * 1000
    assert sum(at > (now - timedelta(hours=1)).timestamp() * 1000 for at in times) > 100
    assert unpriced == 0


async def test_a_session_has_subagents_a_cancel_and_a_server_that_connects_late(provider: Provider) -> None:
    async with Simulator(provider) as simulator:
        await Life(simulator.url, provider, hurry=50).session(JOBS[0], turns=9)
        await simulator.wait_for(lambda sim: all(one.outcome for one in sim.requests))
        requests = list(simulator.requests)
    assert {one.header("x-claude-code-agent-type") for one in requests} == {None, "Explore", "test-runner"}
    assert "client-left" in {one.outcome for one in requests}
    assert LATE_TOOLS[0] in json.loads(requests[-1].body)["tools"][0]["name"]
    assert len({one.header(SESSION) for one in requests}) == 1
    assert provider(requests[-1]) is None, "a session that is over is forgotten"


@pytest.mark.parametrize("name", ["Read", "Grep", "Bash", "Edit", "Agent"])
def test_each_tool_prints_something(name: str) -> None:
    assert printed(name, "protocol/sse.py", random.Random(0))


def test_its_settings_are_valid(tmp_path: Path) -> None:
    environ = town.furnish(tmp_path, 4000)
    loaded = load({**environ, "DATA_DIR": str(tmp_path)}, config=tmp_path / "claude-proxy.toml")
    assert [one.name for one in loaded.upstreams] == ["zai", "gateway", "anthropic", "workstation"]


def test_kept_up_it_shows_its_past_and_takes_its_proxy_along_when_it_is_terminated() -> None:
    command = [sys.executable, "-m", "claude_proxy", "demo", "--keep"]
    with subprocess.Popen(command, env=process_environ(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            while "Ctrl-C ends it." not in process.stdout.readline():
                pass
            with urllib.request.urlopen(f"{url}/api/v1/usage?by=project&since=14d") as answer:
                projects = {one["key"] for one in json.load(answer)["groups"]}
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert {job.project for job in JOBS} <= projects
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)
