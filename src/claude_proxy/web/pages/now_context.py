"""What the templates of *Now* are given, for the whole page and for its updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_proxy.web.pages import charts
from claude_proxy.web.pages.formats import milliseconds
from claude_proxy.web.texts import text

if TYPE_CHECKING:
    from claude_proxy.web.negotiation import Language
    from claude_proxy.web.pages.board import Board, Delta

REQUESTS = ("exchanges", "failed")
FIRST_BYTE = ("first_byte_p50_ms", "first_byte_p95_ms")
Hour = dict[str, Any]


def page_context(board: Board) -> dict[str, Any]:
    """Everything."""
    return {
        "running": list(board.running.values()),
        "finished": list(board.finished.values()),
        "gone": [],
        "dropped": [],
        "tiles": board.tiles,
        "more": board.total - len(board.running),
    }


def rows_context(board: Board, delta: Delta, *, fresh: bool) -> dict[str, Any]:
    """Everything, or what changed."""
    everything = page_context(board) | {"fresh": fresh}
    if fresh:
        return everything
    changed = {"running": delta.running, "gone": delta.gone, "finished": delta.finished, "dropped": delta.dropped}
    return everything | changed | ({} if delta.tiles else {"tiles": None})


def hour_charts(language: Language, hour: Hour) -> dict[str, Any]:
    """The data of the two charts of the last hour, by the id of the chart."""
    times = [milliseconds(minute["at"]) / 1000 for minute in hour["minutes"]]
    return {
        "requests": charts.lines(times, _series(language, hour, REQUESTS)),
        "first-byte": charts.lines(times, _series(language, hour, FIRST_BYTE), unit="ms"),
    }


def hour_tables(hour: Hour) -> dict[str, Any]:
    """The same as rows of tables, the newest minute first, without those in which nothing happened."""
    busy = [minute for minute in reversed(hour["minutes"]) if minute["exchanges"]]
    return {
        "requests": [[minute["at"], *(minute[key] for key in REQUESTS)] for minute in busy],
        "first_byte": [[minute["at"], *(minute[key] for key in FIRST_BYTE)] for minute in busy],
    }


def _series(language: Language, hour: Hour, keys: tuple[str, ...]) -> dict[str, list[float | None]]:
    return {text(language, f"now.{key}"): [minute[key] for minute in hour["minutes"]] for key in keys}
