"""`claude-proxy test-ntfy`: push one notice, so that the user can check that notices arrive."""

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
    """The result.

    Attributes:
        sent: whether the server accepted it.
        message: what happened, and what to do if it failed.
        where: the address to watch; None without a topic.
        id: the message's id, if the server returned one.
        replaces: whether messages about one incident replace each other there; None if that cannot be told.
    """

    sent: bool
    message: str
    where: str | None = None
    id: str | None = None
    replaces: bool | None = None


def test_ntfy(config: ConfigFile = None, as_json: AsJson = False) -> None:  # noqa: PT028  (a command, not a test)
    """Send one test notice with the current settings, and say where to look for it. Exits with 1 if it was not sent."""
    settings = user_settings(config).settings
    report = asyncio.run(push(settings)) if Notifier.enabled(settings) else no_topic(settings)
    if as_json:
        write_json(asdict(report))
    else:
        say(report.message, err=not report.sent)
    if not report.sent:
        raise typer.Exit(1)


async def push(settings: Settings) -> Report:
    """Send the test notice once, without retries, so that the result is quick and clear."""
    notice = Notice(TITLE, MESSAGE, 3, ("tada",), f"cp-test-{secrets.token_hex(4)}").scrubbed(secrets_of(settings))
    answer = await sender(settings)(notice)
    where = f"{settings.ntfy_server}/{settings.ntfy_topic}"
    if answer.verdict is Verdict.SENT:
        message = f"Sent. Look at {where}, or subscribe to it in the ntfy app.{outlook(settings, answer.replaces)}"
        return Report(True, message, where, answer.id or None, answer.replaces)
    return Report(False, f"Not sent: {answer.sentence}", where)


def outlook(settings: Settings, replaces: bool | None) -> str:
    """What the messages about one incident will look like, where that may surprise."""
    if replaces is False:
        return (
            f"\nThe ntfy {'command or server' if settings.ntfy_via == 'cli' else 'server'} is older than 2.16 and keeps every "
            "message: an outage is two, when it begins and when it is over."
        )
    if replaces and settings.ntfy_updates:
        return "\nThe app for iPhones shows each update of a notice as one more message: set NTFY_UPDATES=off if you use it."
    return ""


def no_topic(settings: Settings) -> Report:
    """Say how to set a topic: a random one, since anyone who knows a topic's name can read it."""
    topic = f"claude-proxy-{secrets.token_hex(8)}"
    return Report(
        False,
        f"No topic is set, so no notices are sent. Set NTFY_TOPIC={topic} (new and random: on {settings.ntfy_server}\n"
        f"a topic is open to everyone who knows its name), subscribe to {settings.ntfy_server}/{topic}, and try again.",
    )
