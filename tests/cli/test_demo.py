"""`demo`: it streams, says what happened, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from rich.console import Console

from claude_proxy.cli.demo import cancel_time, logged, over, proxy
from claude_proxy.cli.demo.client import Refused, converse, once
from claude_proxy.cli.demo.proxy import NotStarted, clean, running
from claude_proxy.cli.demo.screen import numbers, shown, stage, tail
from claude_proxy.cli.demo.story import Talk, answer, script, talks
from claude_proxy.simulator import Scenario, Simulator, error, faults
from tests.cli.conftest import Program, process_environ

pytestmark = pytest.mark.system  # each starts processes of its own


@pytest.fixture(autouse=True)
def source_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the proxy that the demo starts."""
    monkeypatch.setenv("PYTHONPATH", process_environ()["PYTHONPATH"])


def test_it_shows_its_conversations_whatever_the_user_has_set(program: Program, home: Path, own_file: Path) -> None:
    (home / "claude-proxy.toml").write_text("nonsense = 1\n", encoding="utf-8")
    own_file.write_text("nonsense = 1\n", encoding="utf-8")
    (home / "proxy.py").write_text("import claude_proxy\nraise SystemExit('it was run')\n", encoding="utf-8")
    done = program("demo", environ={"PORT": "not-a-port", "PROXY_API_KEY": "k", "BIND": "x"})
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    assert "[stream] complete; log: 200 completed, " in out
    assert "[overload] complete; log: 200 completed, " in out
    assert "[cancel] left by its client; log: 499 cancelled, " in out
    assert "4 conversations, 4 exchanges in " in out
    tokens = re.search(r"the upstream reported (\d+), the proxy's log says (\d+)\.", out)
    assert tokens is not None
    assert tokens[1] == tokens[2]
    delay = re.search(r"The cancel reached the upstream after (\d+) ms", out)
    assert delay is not None
    assert int(delay[1]) < 100
    assert "\x1b" not in out


def test_kept_up_it_serves_until_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "claude_proxy", "demo", "--keep"], env=process_environ(), stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        said = "".join(until(process.stdout, "Ctrl-C ends it."))
        url = re.search(r"code --url (\S+) --models none", said)
        assert url is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def until(lines: io.TextIOBase | Iterator[str], words: str) -> Iterator[str]:
    """The lines up to the one with `words`."""
    for line in lines:
        yield str(line)
        if words in str(line):
            return


async def test_interrupted_it_is_quiet_and_takes_its_proxy_along() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "claude_proxy", "demo"), env=process_environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = (await process.stdout.readline()).decode()
    port = int(first.split("http://127.0.0.1:")[1].split(" ")[0])
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert await process.stderr.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


# the client


def talk(name: str = "t", *scenarios: Scenario, leave_after: int | None = None) -> Talk:
    return Talk(name, "claude-opus-5-5", "Hello?", scenarios, leave_after=leave_after)


async def test_the_client_streams_text() -> None:
    one = talk("t", answer("Hello there, all of you.").but(pace=0))
    async with Simulator(script([one])) as simulator:
        await converse(simulator.url, one)
    assert (one.state, one.text, one.calls) == ("complete", "Hello there, all of you.", 1)


async def test_the_client_tries_again_after_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.cli.demo.client.FIRST_PAUSE", 0.001)
    one = talk("t", error(529), error(500), answer("Late, but there.").but(pace=0))
    async with Simulator(script([one])) as simulator:
        await converse(simulator.url, one)
    assert (one.state, one.text, one.calls) == ("complete", "Late, but there.", 3)


async def test_the_client_gives_up_where_trying_is_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.cli.demo.client.FIRST_PAUSE", 0.001)
    refused, overloaded = talk("refused", error(401)), talk("overloaded", error(529))
    async with Simulator(script([refused, overloaded])) as simulator:
        await converse(simulator.url, refused)
        await converse(simulator.url, overloaded)
    assert (refused.state, refused.calls) == ("401 authentication_error", 1)
    assert (overloaded.state, overloaded.calls) == ("529 overloaded_error", 4)


async def test_the_client_can_leave_in_the_middle() -> None:
    one = talk("t", answer("word " * 200).but(pace=0.001), leave_after=5)
    async with Simulator(script([one])) as simulator:
        await converse(simulator.url, one)
        await simulator.wait_for(lambda sim: sim.requests[0].outcome == "client-left")
        assert cancel_time([one], simulator).startswith(" The cancel reached the upstream after ")
        assert cancel_time([talk("other")], simulator) == ""
    assert one.state == "left by its client"


async def test_the_upstreams_word_that_a_client_left_is_waited_for() -> None:
    one = talk("t", answer("word " * 200).but(pace=0.001), leave_after=5)
    async with Simulator(script([one])) as simulator:
        await converse(simulator.url, one)
        assert cancel_time([one], simulator) == ""  # the simulator shares our loop: it has not had its turn
        assert simulator.reported.output_tokens == 0
        await over(simulator)
        assert cancel_time([one], simulator).startswith(" The cancel reached the upstream after ")
        assert simulator.reported.output_tokens > 0


async def test_an_upstream_that_never_ends_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.cli.demo.END_LIMIT", 0.01)
    one = talk("t", Scenario(fault=faults.stall("head")))
    async with Simulator(script([one])) as simulator:
        asking = asyncio.create_task(converse(simulator.url, one))
        await simulator.hold.wait()
        await over(simulator)
        assert simulator.requests[0].outcome is None
        asking.cancel()


async def test_a_broken_connection_is_an_error() -> None:
    one = talk("t", Scenario("raw", wire=b"HTTP/1.1 200 OK\r\n", then="close"))
    async with Simulator(script([one])) as simulator:
        with pytest.raises(asyncio.IncompleteReadError):
            await once(simulator.url, one)


async def test_an_error_without_a_body_is_one_too() -> None:
    one = talk("t", Scenario("raw", wire=b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", then="close"))
    async with Simulator(script([one])) as simulator:
        with pytest.raises(Refused) as found:
            await once(simulator.url, one)
    assert (found.value.status, found.value.kind) == (503, "error")


async def test_a_request_of_nobody_gets_the_default() -> None:
    async with Simulator(script([])) as simulator:
        one = talk()
        await converse(simulator.url, one)
    assert one.state == "complete"


# the proxy


async def test_a_proxy_that_does_not_start_says_why() -> None:
    async with Simulator() as simulator:
        with pytest.raises(NotStarted, match=r"\d"):
            async with running(simulator.base_url, simulator.port, lambda _: None):
                raise AssertionError("it started on a port that is taken")


async def test_a_proxy_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"a line that is no JSON\n" + b'{"event":"else"}\n')
    lines: list[object] = []
    log = proxy.Log(reader, lines.append)
    reading = asyncio.create_task(log.follow())
    with pytest.raises(NotStarted, match="a line that is no JSON"):
        await log.address(0.05)
    reader.feed_eof()
    await reading
    assert lines == [{"event": "else"}]


async def test_on_a_port_that_is_taken_it_says_so(program: Program) -> None:
    async with Simulator() as other:
        done = await anyio.to_thread.run_sync(lambda: program("demo", "--port", str(other.port)))
    assert done.returncode == 1
    assert done.stderr.startswith("The demo's proxy did not start:\n")
    assert str(other.port) in done.stderr


def test_the_environment_is_clean() -> None:
    found = clean({"PATH": "/bin", "PORT": "1", "PROXY_API_KEY_FILE": "x", "BIND": "x", "HTTP_PROXY": "x"})
    assert found == {"PATH": "/bin"}


async def test_the_last_log_lines_are_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    one, arrived = talk(), asyncio.Event()
    one.calls = 2
    waiting = asyncio.create_task(logged([one], arrived))
    for _ in range(2):
        one.lines.append({})
        arrived.set()
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, 2)
    monkeypatch.setattr("claude_proxy.cli.demo.LOG_LIMIT", 0.01)
    one.calls = 3
    await logged([one], arrived)


# the screen


def test_numbers_are_those_of_the_log_line() -> None:
    line = {"status": 200, "outcome": "completed", "ms": 1234, "first_byte_ms": 7, "tokens_input": 9, "tokens_cache_read": 8}
    assert numbers(line) == "200 completed, first byte 7 ms, 1.2 s, 9 in, 0 out, 8 cached"
    assert numbers({"status": 502, "outcome": "failed", "ms": 5, "error": "lost"}) == "502 failed, lost, 0.0 s"


@pytest.mark.parametrize(("width", "columns"), [(100, 2), (60, 1)])
def test_panels_stand_in_as_many_columns_as_fit(width: int, columns: int) -> None:
    cast = talks()
    cast[0].text, cast[0].lines = "x" * 500, [{"status": 200, "outcome": "completed", "ms": 1}]
    screen = Console(file=io.StringIO(), width=width, height=50)
    screen.print(stage(cast, width))
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.splitlines()[0].count("╭") == columns
    assert all(one.prompt in drawn for one in cast)
    assert "200 completed" in drawn


def test_on_a_terminal_the_panels_are_live() -> None:
    screen = Console(file=io.StringIO(), width=100, height=50, force_terminal=True)
    with shown(screen, talks()):
        pass
    assert "What does the proxy change?" in screen.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("text", "expected"), [("abc", "abc"), ("abcdefghij", "...ghij"), ("", "")])
def test_of_a_long_text_the_end_is_shown(text: str, expected: str) -> None:
    assert tail(text, 7) == expected
