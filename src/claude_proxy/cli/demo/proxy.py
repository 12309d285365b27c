"""The demo's proxy: a real `claude-proxy serve` on a free port, whose log we read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from claude_proxy.safepath import PYTHON, without_working_directory
from claude_proxy.settings import CONFIG_FILE, Settings

START_LIMIT = 20.0  # seconds
STOP_LIMIT = 10.0
OTHERS = ("CLAUDE_PROXY_CONFIG", "HTTP_PROXY", "http_proxy")

Line = Mapping[str, Any]


class NotStarted(Exception):
    """The proxy exited before it listened; the text is the end of its log."""


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without anything that would change the demo's proxy."""
    ours = {name.upper() for name in Settings.model_fields}
    hidden = ours | {f"{name}_FILE" for name in ours} | {*OTHERS}
    return {name: value for name, value in environ.items() if name not in hidden}


def plain(folder: Path) -> dict[str, str]:
    """Create an empty settings file, so that the user's own is not used; nothing is added to the environment."""
    folder.joinpath(CONFIG_FILE).touch()
    return {}


@contextlib.asynccontextmanager
async def running(
    upstream: str | None, port: int, on_line: Callable[[Line], None], furnish: Callable[[Path], dict[str, str]] = plain
) -> AsyncIterator[str]:
    """Run a proxy in front of `upstream` and yield its URL; stop the proxy at the end.

    Args:
        upstream: its base URL; None if the settings file names upstreams.
        port: the port to listen on; 0 for a free one.
        on_line: called with each line of its log, as a mapping.
        furnish: writes the settings file into the proxy's folder, and returns what to add to its environment.

    Raises:
        NotStarted: it exited at once, or did not listen in time.
    """
    options = ["--host", "127.0.0.1", "--port", str(port), "--log-format", "json"]
    options += [] if upstream is None else ["--base-url", upstream]
    with tempfile.TemporaryDirectory(prefix="claude-proxy-demo-") as folder:
        environ = clean(os.environ) | await asyncio.to_thread(furnish, Path(folder))
        process = await asyncio.create_subprocess_exec(
            *PYTHON, "-m", "claude_proxy", "serve", *options, "--data-dir", folder, "--config", str(Path(folder, CONFIG_FILE)),
            cwd=folder,
            env=without_working_directory(environ),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to handle
        )  # fmt: skip
        assert process.stderr is not None
        log = Log(process.stderr, on_line)
        reading = asyncio.create_task(log.follow())
        try:
            yield await log.address(START_LIMIT)
        finally:
            await stop(process, ending=log.ended)
            await reading


async def stop(process: asyncio.subprocess.Process, *, ending: bool) -> None:
    """Terminate the proxy, then kill it. If it is `ending` by itself, send no signal: asyncio could lose its exit code."""
    if not ending:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT)
    except TimeoutError:
        process.kill()
        await process.wait()


class Log:
    """The proxy's log, line by line."""

    def __init__(self, stream: asyncio.StreamReader, on_line: Callable[[Line], None]) -> None:
        self._stream = stream
        self._on_line = on_line
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last: list[str] = []
        self.ended = False

    async def address(self, limit: float) -> str:
        """Return the URL from the line `listening`. Raises NotStarted."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._address), limit)
        except TimeoutError:
            raise NotStarted("\n".join(self._last)) from None

    async def follow(self) -> None:
        """Read until the proxy exits."""
        async for raw in self._stream:
            self._take(raw.decode(errors="replace").strip())
        self.ended = True
        if not self._address.done():
            self._address.set_exception(NotStarted("\n".join(self._last)))
            self._address.exception()  # mark it as retrieved, because nobody may be waiting

    def _take(self, text: str) -> None:
        self._last = [*self._last[-4:], text]
        try:
            line = json.loads(text)
        except ValueError:
            return
        if line.get("event") == "listening" and not self._address.done():
            self._address.set_result(str(line["on"][0]))
        self._on_line(line)
