"""`claude-proxy test-ntfy`: push one notice, so that a user sees it arrive before something breaks."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import asdict, dataclass

import typer

from claude_proxy.cli.arguments import AsJson, ConfigFile
from claude_proxy.cli.output import say, write_json
from claude_proxy.cli.project import user_settings
from claude_proxy.notify import Notice, Notifier, secrets_of, sender
from claude_proxy.notify.answer import Verdict
from claude_proxy.settings import Settings

TITLE = "claude-proxy: test"
MESSAGE = "Notices arrive. One like this comes when an upstream fails, and when it works again."


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        sent: whether the server took it.
        message: what happened, and what to do if it failed.
        where: the address to watch; None without a topic.
        id: the message's id, where the server told.
    """

    sent: bool
    message: str
    where: str | None = None
    id: str | None = None


def test_ntfy(config: ConfigFile = None, as_json: AsJson = False) -> None:  # noqa: PT028  (a command, not a test)
    """Send one test notice with the current settings, and say where to look for it. Exits 1 if it was not sent."""
    settings = user_settings(config).settings
    report = asyncio.run(push(settings)) if Notifier.enabled(settings) else no_topic(settings)
    if as_json:
        write_json(asdict(report))
    else:
        say(report.message, err=not report.sent)
    if not report.sent:
        raise typer.Exit(1)


async def push(settings: Settings) -> Report:
    """Send the test notice once; nothing is tried again, so that the answer is quick and plain."""
    notice = Notice(TITLE, MESSAGE, 3, ("tada",), f"cp-test-{secrets.token_hex(4)}").scrubbed(secrets_of(settings))
    answer = await sender(settings)(notice)
    where = f"{settings.ntfy_server}/{settings.ntfy_topic}"
    if answer.verdict is Verdict.SENT:
        return Report(True, f"Sent. Look at {where}, or subscribe to it in the ntfy app.", where, answer.id or None)
    return Report(False, f"Not sent: {answer.sentence}", where)


def no_topic(settings: Settings) -> Report:
    """How to set a topic: a random one, since whoever knows the name of a topic can read it."""
    topic = f"claude-proxy-{secrets.token_hex(8)}"
    return Report(
        False,
        f"No topic is set, so no notices are sent. Set NTFY_TOPIC={topic} (new and random: on {settings.ntfy_server}\n"
        f"a topic is open to everyone who knows its name), subscribe to {settings.ntfy_server}/{topic}, and try again.",
    )
