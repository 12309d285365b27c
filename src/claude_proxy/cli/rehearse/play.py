"""Plays a script: simulated upstreams, a stand-in for ntfy, the real `serve` with the user's settings, scripted clients."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from claude_proxy.cli.demo.proxy import START_LIMIT, Log, NotStarted, stop
from claude_proxy.cli.rehearse.adapt import CLIENT_KEY, Adapted, SimulatedUpstream
from claude_proxy.cli.rehearse.cast import Cast, good_answer
from claude_proxy.cli.rehearse.clock import Clock
from claude_proxy.cli.rehearse.journal import Journal, Line
from claude_proxy.cli.rehearse.report import Result
from claude_proxy.cli.rehearse.script import Script
from claude_proxy.cli.rehearse.stand_in import StandIn
from claude_proxy.ledger.options import FILE, LedgerOff, NotReadable, Options
from claude_proxy.safepath import PYTHON, without_working_directory
from claude_proxy.settings import CONFIG_FILE
from claude_proxy.simulator import Phase, Recorded, Simulator, Stage, Usage

GRACE = 60.0  # seconds of the script for calls that run at its end
ENDED_LIMIT = 3.0  # seconds for the upstreams to see that their clients have left


async def play(script: Script, adapted: Adapted, speed: float, model: str, show: Callable[[Line], None]) -> Result:
    """Play a script to its end.

    Args:
        speed: script seconds in a real second.
        model: that the clients ask for.
        show: is called with each line of the timeline.

    Raises:
        NotStarted: the proxy did not start with these settings.
    """
    clock = Clock(speed)
    journal = Journal(clock, show)
    with tempfile.TemporaryDirectory(prefix="claude-proxy-rehearsal-") as folder:
        async with StandIn(lambda: clock.minute, journal.pushed) as ntfy, simulated(script, adapted, clock, journal) as upstreams:
            file = written(Path(folder), adapted.toml([one.base_url for one in upstreams], ntfy.url, Path(folder, "data")))
            async with serving(file, adapted.environ(), adapted.file) as url:
                cast = Cast(script.clients, url, keys_of(script, adapted), model, clock, journal, script.seed)
                clock.start()
                telling = asyncio.create_task(tell(script, clock, journal))
                await cast.play(script.length, GRACE)
                await telling
                await all_ended(upstreams)
            journal.repeats()
            reported = sum((one.reported for one in upstreams), Usage())
            return Result(script, speed, adapted, journal, tuple(ntfy.pushes), reported, books(Path(folder, "data")))


def written(folder: Path, text: str) -> Path:
    """Write the settings file."""
    file = folder / CONFIG_FILE
    file.write_text(text, encoding="utf-8")
    return file


@contextlib.asynccontextmanager
async def simulated(script: Script, adapted: Adapted, clock: Clock, journal: Journal) -> AsyncIterator[list[Simulator]]:
    """Run a simulator for each upstream."""
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for number, upstream in enumerate(adapted.upstreams, 1):
            stage = staged(script, upstream, number, clock)
            ended = partial(journal.upstream_ended, upstream.name)
            simulator = Simulator(stage, keys=upstream.keys, history=100, keep_body=8 << 20, on_end=ended)
            running.append(await stack.enter_async_context(simulator))
        yield running


def staged(script: Script, upstream: SimulatedUpstream, number: int, clock: Clock) -> Stage:
    """The script's part for one upstream."""
    phases = [phase for phase in script.phases if phase.upstream in (None, number)]

    def good(recorded: Recorded) -> Any:
        return good_answer(recorded, clock.speed)

    return Stage(
        [_hurried(phase, clock.speed) for phase in phases],
        provider=upstream.provider,
        keys=upstream.keys,
        speed=clock.speed,
        good=good,
        seed=script.seed + number,
        clock=clock.real,
    )


def _hurried(phase: Phase, speed: float) -> Phase:
    """A phase whose answers pass as fast as the script."""
    if phase.answer is None:
        return phase
    return replace(phase, answer=phase.answer.but(delay=phase.answer.delay / speed, pace=phase.answer.pace / speed))


def keys_of(script: Script, adapted: Adapted) -> tuple[str, ...]:
    """What the clients send: the proxy's own key if it asks for one, else made-up keys of theirs."""
    if adapted.client_key is not None:
        return (adapted.client_key,)
    return tuple(f"{CLIENT_KEY}-{number}" for number in range(1, script.clients.keys + 1))


@contextlib.asynccontextmanager
async def serving(file: Path, environ: Mapping[str, str], original: Path | None) -> AsyncIterator[str]:
    """Run `claude-proxy serve` with a settings file and yield its URL; it ends as on SIGTERM.

    Args:
        original: the user's own file, which an error has to name instead.

    Raises:
        NotStarted: it exited at once, or did not listen in time.
    """
    process = await asyncio.create_subprocess_exec(
        *PYTHON,
        "-m",
        "claude_proxy",
        "serve",
        "--config",
        str(file),
        cwd=file.parent,
        env=without_working_directory(environ),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to handle
    )
    assert process.stderr is not None
    log = Log(process.stderr, lambda _: None)
    reading = asyncio.create_task(log.follow())
    try:
        yield await log.address(START_LIMIT)
    except NotStarted as error:
        raise NotStarted(str(error).replace(str(file), str(original or "settings"))) from None
    finally:
        await stop(process, ending=log.ended)
        await reading


async def tell(script: Script, clock: Clock, journal: Journal) -> None:
    """Say what the script does, when it does it."""
    for phase in sorted(script.phases, key=lambda phase: phase.at):
        if phase.say:
            await clock.until(phase.at)
            journal.say("script", phase.say)


async def all_ended(upstreams: list[Simulator]) -> None:
    """Wait for a limited time until each request has ended at its upstream."""
    for simulator in upstreams:
        with contextlib.suppress(TimeoutError):
            await simulator.wait_for(lambda sim: all(request.outcome for request in sim.requests), ENDED_LIMIT)


def books(folder: Path) -> dict[str, Any] | None:
    """The sums that the proxy has kept; None if it keeps no books."""
    from claude_proxy.ledger.queries import Books

    if not (folder / FILE).is_file():
        return None
    try:
        report: dict[str, Any] = Books.open(Options(folder), timeout=10.0).usage("month")
    except (NotReadable, LedgerOff):
        return None
    return dict(report["totals"])
