"""Opens the ledger for commands: the proxy's file or database, read-only. The proxy need not be running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from claude_proxy.cleaning import visible
from claude_proxy.cli.output import say
from claude_proxy.cli.project import user_settings
from claude_proxy.ledger.options import FILE, LedgerOff, NotReadable, Options
from claude_proxy.ledger.periods import zone
from claude_proxy.settings import Loaded

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books

TIMEOUT = 20.0  # seconds; longer than for the API, because only the user waits


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where the ledger is, and which time zone to use."""

    options: Options
    loaded: Loaded
    timezone: str

    @property
    def where(self) -> tzinfo:
        """The time zone."""
        return zone(self.timezone)


def place(config: Path | None, data_dir: Path | None, timezone: str | None = None) -> LedgerPlace:
    """Return the ledger that the settings name, or the one in `data_dir`.

    Raises:
        SettingsError: an invalid value.
        ValueError: an unknown time zone.
    """
    loaded = user_settings(config, data_dir=data_dir, timezone=timezone)
    settings = loaded.settings
    url = settings.database_url if data_dir is None else None
    options = Options(settings.data_dir, None if url is None else url.get_secret_value())
    return LedgerPlace(options, loaded, settings.timezone)


@contextmanager
def opened(at: LedgerPlace) -> Iterator[Books]:
    """Open the ledger. Prints errors and exits: with 1 if it cannot be read, with 2 after an invalid option."""
    from claude_proxy.ledger.queries import Books

    with reporting_errors(at):
        need_file(at.options)
        yield Books.open(at.options, timeout=TIMEOUT)


@contextmanager
def reporting_errors(at: LedgerPlace) -> Iterator[None]:
    """Print an error of the ledger or of an option, and exit with its code."""
    try:
        yield
    except ValueError as error:
        say(str(error), err=True)
        raise typer.Exit(2) from None
    except (NotReadable, LedgerOff) as error:
        say(f"{error} ({'PostgreSQL' if at.options.database_url else at.options.data_dir / FILE})", err=True)
        raise typer.Exit(1) from None


def need_file(options: Options) -> None:
    """Check that the ledger's file exists, unless it is in PostgreSQL.

    Raises:
        NotReadable: it does not exist.
    """
    if options.database_url is None and not (options.data_dir / FILE).is_file():
        raise NotReadable(
            f"There is no {FILE} in {visible(options.data_dir)}: no proxy has recorded anything there. Name the proxy's DATA_DIR "
            "with --data-dir, or run this where the proxy runs, as in: docker compose exec claude-proxy claude-proxy stats"
        )
