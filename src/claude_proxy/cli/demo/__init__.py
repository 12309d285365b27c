"""`claude-proxy demo`: a few conversations through a real proxy with a simulated upstream; no key, no network."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from claude_proxy.cli.demo import town
from claude_proxy.cli.demo.client import converse
from claude_proxy.cli.demo.life import Life
from claude_proxy.cli.demo.provider import Provider
from claude_proxy.cli.demo.proxy import NotStarted, plain, running
from claude_proxy.cli.demo.screen import shown
from claude_proxy.cli.demo.story import SESSION, Talk, script, talks
from claude_proxy.cli.output import console, say
from claude_proxy.simulator import Simulator

if TYPE_CHECKING:
    from rich.console import Console

HISTORY = 200  # requests that the simulator remembers
LOG_LIMIT = 3.0  # seconds for the last log line to arrive
END_LIMIT = 3.0  # seconds for the upstream to notice that a client has disconnected


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep running, to try it with your own client.")] = False,
    port: Annotated[int, typer.Option(metavar="PORT", help="Port of the demo's proxy. Default: a free port.")] = 0,
) -> None:
    """Show the proxy at work: streaming, usage, an overload that the proxy waits out, a cancel.

    Everything runs on this machine, without a key. It takes about ten seconds and leaves no files behind. With --keep, simulated
    developers go on working, so that the page has something to show.
    """
    screen = console()
    try:
        asyncio.run(perform(screen, port, keep=keep))
    except NotStarted as error:
        say(f"The demo's proxy did not start:\n{error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0 if keep else 130) from None
    except asyncio.CancelledError:
        raise typer.Exit(0 if keep else 143) from None


async def perform(screen: Console, port: int, *, keep: bool) -> None:
    """Start the upstream and the proxy, run the conversations, print a summary.

    Raises:
        NotStarted: the proxy did not start.
    """
    end_in_order()
    cast = talks()
    by_name = {talk.name: talk for talk in cast}
    arrived = asyncio.Event()

    def on_line(line: Mapping[str, Any]) -> None:
        talk = by_name.get(line.get("session", ""))
        if talk is not None and line.get("event") == "exchange":
            talk.lines.append(line)
            arrived.set()

    started = time.monotonic()
    async with staged(cast, port, on_line, keep=keep) as (simulator, provider, url):
        screen.print(f"Proxy {url} in front of a simulated API {simulator.url}\n", soft_wrap=True)
        with shown(screen, cast):
            await asyncio.gather(*(converse(url, talk) for talk in cast))
            await logged(cast, arrived)
        await over(simulator)
        screen.print(summary(cast, simulator, time.monotonic() - started), soft_wrap=True)
        if keep:
            screen.print(invitation(url), soft_wrap=True)
            await Life(url, provider).go_on()


def end_in_order() -> None:
    """Let SIGTERM end the running task like Ctrl-C, so that the demo's proxy does not outlive it."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


@contextlib.asynccontextmanager
async def staged(
    cast: list[Talk], port: int, on_line: Callable[[Mapping[str, Any]], None], *, keep: bool
) -> AsyncIterator[tuple[Simulator, Provider, str]]:
    """Start the simulator, and the proxy in front of it: with the settings and the past of `town` if it is to be kept."""
    provider = Provider(script(cast))
    async with Simulator(provider, history=HISTORY) as simulator:
        furnish = (lambda folder: town.furnish(folder, simulator.port)) if keep else plain
        async with running(None if keep else simulator.base_url, port, on_line, furnish) as url:
            yield simulator, provider, url


async def logged(cast: list[Talk], arrived: asyncio.Event) -> None:
    """Wait for a limited time until the log has a line for each call."""
    try:
        async with asyncio.timeout(LOG_LIMIT):
            while any(len(talk.lines) < talk.calls for talk in cast):
                arrived.clear()
                await arrived.wait()
    except TimeoutError:
        return


async def over(simulator: Simulator) -> None:
    """Wait for a limited time until the upstream has recorded the end of each request.

    The proxy's log may be earlier: the proxy notices a disconnected client before the upstream does.
    """
    with contextlib.suppress(TimeoutError):
        await simulator.wait_for(lambda sim: all(request.outcome for request in sim.requests), END_LIMIT)


def summary(cast: list[Talk], simulator: Simulator, seconds: float) -> str:
    """Return a summary of what happened and what to do next."""
    lines = [line for talk in cast for line in talk.lines]
    counted = sum(line.get("tokens_output", 0) for line in lines)
    return (
        f"\n{len(cast)} conversations, {len(lines)} exchanges in {seconds:.1f} s."
        f" Output tokens: the upstream reported {simulator.reported.output_tokens}, the proxy's log says {counted}."
        f"{cancel_time(cast, simulator)}\n"
        "\nNext: claude-proxy serve    run it for your own key"
        "\n      claude-proxy code     Claude Code through it"
        "\n      claude-proxy doctor   when something does not work"
    )


def cancel_time(cast: list[Talk], simulator: Simulator) -> str:
    """Say how soon the upstream noticed that a client had disconnected."""
    left = {talk.name: talk.left_at for talk in cast if talk.left_at is not None}
    for request in simulator.requests:
        session = next((value.decode() for name, value in request.headers if name.lower() == SESSION.encode()), "")
        if session in left and request.left_at is not None:
            return f" The cancel reached the upstream after {(request.left_at - left[session]) * 1000:.0f} ms."
    return ""


def invitation(url: str) -> str:
    """Say how to try the demo's proxy with Claude Code."""
    return (
        f"\nThe demo stays up, and simulated developers work through it: {url} shows them."
        "\nTo join them with Claude Code, in another terminal:"
        f"\n      ANTHROPIC_AUTH_TOKEN=demo claude-proxy code --url {url} --models none"
        "\nCtrl-C ends it."
    )
