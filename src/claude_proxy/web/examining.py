"""Runs `claude-proxy doctor` for the page: in a process of its own, so that nothing it does can hold up the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from claude_proxy.errors import Unavailable

PATIENCE = 30.0  # seconds; the doctor gives itself 15


def examination(arguments: Sequence[str] = ()) -> Callable[[], Awaitable[list[dict[str, Any]]]]:
    """What lists the doctor's checks.

    Args:
        arguments: for the command, so that it reads the settings that this process has read.
    """
    command = (sys.executable, "-P", "-m", "claude_proxy", "doctor", "--json", *arguments)

    async def examine() -> list[dict[str, Any]]:
        """Run it.

        Raises:
            Unavailable: it did not answer in time, or not as expected.
        """
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet, env=dict(os.environ)
        )
        try:
            async with asyncio.timeout(PATIENCE):
                output, _ = await process.communicate()
            return msgspec.json.decode(output, type=dict[str, Any])["checks"]  # type: ignore[no-any-return]
        except (TimeoutError, msgspec.DecodeError, KeyError):
            raise Unavailable(
                "The doctor did not answer. Run `claude-proxy doctor` in a terminal.", code="doctor_failed"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return examine
