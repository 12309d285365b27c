"""At the start of a process: finds the place where logins are kept, and logs one link to the login page per server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from claude_proxy.access.login_link import login_link, needs_link
from claude_proxy.access.logins import Kept
from claude_proxy.observe.election import Election, NoElection
from claude_proxy.observe.workers import group as group_of_workers

if TYPE_CHECKING:
    from claude_proxy.access.logins import Logins
    from claude_proxy.settings import Settings

log = structlog.get_logger("access")

_NOTE = (
    "opens the page; works once, within 15 minutes. `claude-proxy login` prints another. Use the host and port that you publish."
)
_MEMORY = (
    "{problem}: logins end with this process, and `claude-proxy login` does not work. Set DATA_DIR to a folder that can be "
    "written."
)
_NOWHERE = (
    "{problem}, and several workers know logins only from there: browsers can log in with ADMIN_TOKEN alone, for 12 hours. Set "
    "DATA_DIR to a folder that can be written, or run one worker."
)


class LoginStart:
    """The start of one process.

    Args:
        logins: of this proxy.
        group: names the workers of this server; None for a process that works alone.
    """

    def __init__(self, settings: Settings, logins: Logins, group: Callable[[], str | None] = group_of_workers) -> None:
        self._settings = settings
        self._logins = logins
        self._group = group
        self._election: Election | None = None

    async def start(self) -> None:
        """Open the logins, and log the link where browsers may need it."""
        group = self._group()
        await asyncio.to_thread(self._logins.start, alone=group is None)
        if self._logins.problem:
            note = _MEMORY if self._logins.kept is Kept.MEMORY else _NOWHERE
            log.warning("logins_not_kept", note=note.format(problem=self._logins.problem))
        if needs_link(self._settings):
            await asyncio.to_thread(self._log_link, group)

    def close(self) -> None:
        """Let go of the lock."""
        if self._election is not None:
            self._election.resign()

    def _log_link(self, group: str | None) -> None:
        if group is not None and not self._is_first(group):
            return
        try:
            code = self._logins.make_code()
        except OSError as error:
            log.warning("login_link_failed", note=f"no code can be stored in DATA_DIR ({error.strerror})")
            return
        if code is not None:
            log.info("login", link=login_link(self._settings, code), note=_NOTE)

    def _is_first(self, group: str) -> bool:
        """Whether no other worker of this server has logged a link: the first holds a lock for as long as it runs."""
        self._election = Election(self._settings.data_dir, f"{group}-login")
        try:
            return self._election.stand()
        except NoElection:
            return True
