"""Publishing with the installed `ntfy` command (NTFY_VIA=cli), for those whose `client.yml` or network is set up for it."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping

from claude_proxy.notify.answer import Answer, Verdict, foreign, is_page, judge
from claude_proxy.notify.notice import Notice, plain, scrub
from claude_proxy.settings import Settings

TIMEOUT = 30.0  # seconds for one run
_HANDED_ON = re.compile(
    r"(?i)PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TMPDIR|TEMP|TMP|XDG_CONFIG_HOME|SSL_CERT_(FILE|DIR)|(https?|no|all)_proxy"
    r"|SYSTEMROOT|APPDATA|LOCALAPPDATA|USERPROFILE|NTFY_(CONFIG|USER)"
)
MAX_SAID = 16 * 1024  # bytes kept of the beginning and of the end of its output


class Command:
    """Pushes notices by running `ntfy publish`.

    The token, and the topic (as good as a password on a public server), are passed in the environment, because every user
    of the machine can read arguments. The child gets only the variables it needs.

    Args:
        settings: ntfy_topic (must be set), ntfy_server, ntfy_token, ntfy_user, ntfy_password.
        environ: by default os.environ.
        timeout: seconds for one run.
    """

    def __init__(self, settings: Settings, *, environ: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> None:
        source = os.environ if environ is None else environ
        self._environ = {name: value for name, value in source.items() if _HANDED_ON.fullmatch(name)}
        self._environ["NTFY_TOPIC"] = f"{settings.ntfy_server}/{settings.ntfy_topic}"
        if settings.ntfy_token is not None:
            self._environ["NTFY_TOKEN"] = settings.ntfy_token.get_secret_value()
        elif settings.ntfy_user is not None and settings.ntfy_password is not None:
            self._environ["NTFY_USER"] = f"{settings.ntfy_user}:{settings.ntfy_password.get_secret_value()}"
        self._timeout = timeout

    async def send(self, notice: Notice) -> Answer:
        """Run the command once. Never raises if the command fails."""
        arguments = [f"--title={notice.title}", f"--priority={notice.priority}", f"--tags={','.join(notice.tags)}"]
        if notice.link:
            arguments += [f"--click={notice.link}", f"--actions=view, {notice.button}, {notice.link}"]
        try:
            process = await asyncio.create_subprocess_exec(
                "ntfy",
                "publish",
                *arguments,
                f"--message={notice.message}",
                env=self._environ | {"NTFY_SEQUENCE_ID": notice.sequence},  # supported since ntfy 2.16
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError:
            return Answer(Verdict.REFUSED, "The ntfy command is not installed: see docs.ntfy.sh/install, or set NTFY_VIA=http.")
        except OSError as error:
            return Answer(Verdict.REFUSED, f"The ntfy command cannot be run: {plain(error.strerror)}.")
        return await self._wait(process)

    async def _wait(self, process: asyncio.subprocess.Process) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                reply, said = await process.communicate()
        except TimeoutError:
            return Answer(Verdict.AGAIN, f"The ntfy command did not end within {self._timeout:g} s.", reached=False)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return sent(reply) if process.returncode == 0 else failed(said)


def sent(said: bytes) -> Answer:
    """Read what a run that went well printed: the server's reply, which shows whether messages replace each other.

    They do not where the server or the command is older than 2.16: such a command does not know `NTFY_SEQUENCE_ID`.
    """
    answers = (judge(200, {}, line) for line in reversed(said[-MAX_SAID:].split(b"\n")) if line.startswith(b"{"))
    return next((answer for answer in answers if answer.verdict is Verdict.SENT), Answer(Verdict.SENT))


def failed(said: bytes) -> Answer:
    """Say why a run failed: the command prints a server's reply verbatim, and its own message otherwise."""
    head, tail = said[:MAX_SAID].split(b"\n"), said[-MAX_SAID:].split(b"\n")
    for line in reversed(tail):
        reply = _reply(line)
        if reply is not None:
            return judge(reply[0], {}, reply[1])
    if any(map(is_page, head)):
        return Answer(Verdict.AGAIN, foreign(None, b"<html"))
    last = said[-MAX_SAID:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    return Answer(Verdict.AGAIN, f"The ntfy command failed: {scrub(plain(last, 200)) or 'it said nothing'}.", reached=False)


def _reply(line: bytes) -> tuple[int, bytes] | None:
    """Return the status and text of a server's error in a line of output, or None."""
    start = line.find(b'{"code":')
    if start < 0:
        return None
    try:
        status = json.loads(line[start:])["http"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (status, line[start:]) if type(status) is int else None
