"""What the rows of *Now* show, and what of it changed since the last look. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from claude_proxy.ledger.answers import rfc3339
from claude_proxy.observe.machine import merged
from claude_proxy.observe.seen import SHOWN
from claude_proxy.web.pages import formats
from claude_proxy.web.pages.pulse import FINISHED, Figures

SILENT = 5_000  # milliseconds without a byte, after which a stream is called silent
Item = dict[str, Any]
STATES = ("answering", "sent", "waiting", "reading")


class Delta(NamedTuple):
    """What changed.

    Attributes:
        running, finished: rows that are new or look different.
        gone, dropped: ids of running and of finished exchanges that are shown no more.
        tiles: whether the numbers above them changed.
        hour: whether the charts' data changed.
    """

    running: list[Item]
    gone: list[str]
    finished: list[Item]
    dropped: list[str]
    tiles: bool
    hour: bool

    def __bool__(self) -> bool:
        return any(self)


class Board:
    """The rows and numbers that are shown. The browser counts the times in rows, so a row changes only with its state."""

    def __init__(self) -> None:
        self.running: dict[str, Item] = {}
        self.finished: dict[str, Item] = {}
        self.figures = Figures()
        self.tiles: dict[str, Any] = {}
        self._looks: dict[str, tuple[Any, ...]] = {}

    def update(self, answers: Iterable[Mapping[str, Any]], figures: Figures) -> Delta:
        """Take in what the workers told, and what the books say.

        Args:
            answers: of each worker, as `observe.seen.told` makes them, with its `upstreams`.
        """
        answers = list(answers)
        running = sorted((item for answer in answers for item in answer["running"]), key=lambda item: item["id"], reverse=True)
        ended = [item for answer in answers for item in answer["ended"]]
        hour, self.figures = figures.hour != self.figures.hour, figures
        before, self.tiles = self.tiles, tiles(answers, figures)
        finished = self._last(ended, figures.finished)
        projects = {item["session"]: item["project"] for item in finished.values()}
        shown = {item["id"]: _dressed(item, projects) for item in running[:SHOWN]}
        gone = [number for number in self.running if number not in shown]
        self.running, changed = shown, [item for item in shown.values() if self._changed(item, _running_look(item))]
        dropped = [number for number in self.finished if number not in finished]
        self.finished, news = finished, [item for item in finished.values() if self._changed(item, _finished_look(item))]
        self._looks = {number: look for number, look in self._looks.items() if number in shown or number in finished}
        return Delta(changed, gone, news, dropped, before != self.tiles, hour)

    @property
    def total(self) -> int:
        """How many exchanges run, shown or not."""
        return int(self.tiles.get("running", 0))

    def _last(self, ended: Iterable[Item], booked: Iterable[Item]) -> dict[str, Item]:
        """The exchanges that finished last: what the books have of them comes after what the workers told."""
        found = self.finished | {item["id"]: with_end(item) for item in ended} | {item["id"]: with_end(item) for item in booked}
        last = sorted(found.values(), key=lambda item: (item["ended_ms"], item["id"]), reverse=True)[:FINISHED]
        return {item["id"]: item for item in last}

    def _changed(self, item: Item, look: tuple[Any, ...]) -> bool:
        number = item["id"]
        known = self._looks.get(number)
        self._looks[number] = look
        return known != look


def tiles(answers: Iterable[Mapping[str, Any]], figures: Figures) -> dict[str, Any]:
    """The numbers above the rows."""
    answers = list(answers)
    states = {state: sum(answer["states"].get(state, 0) for answer in answers) for state in STATES}
    hour = figures.hour
    return {
        "running": sum(states.values()),
        "states": {state: number for state, number in states.items() if number},
        "hour": None if hour is None else {key: value for key, value in hour.items() if key != "minutes"},
        "today": figures.today,
        "quota": figures.quota,
        "upstreams": merged(answer["upstreams"] for answer in answers),
        "problem": figures.problem,
    }


def state_of(item: Item) -> str:
    """The word for how far a running exchange has come; a stream that has said nothing for a while is silent."""
    silent = item["state"] == "answering" and (item["silent_ms"] or 0) >= SILENT
    return "silent" if silent else str(item["state"])


def with_end(item: Item) -> Item:
    """A finished exchange with the time of its end."""
    ended = formats.milliseconds(item["started_at"]) + item["duration_ms"]
    return item | {"ended_ms": ended, "ended_at": rfc3339(ended)}


def _dressed(item: Item, projects: Mapping[str | None, str | None]) -> Item:
    """A running row with what it shows besides what was told; a session's project is known from its earlier exchanges."""
    shown = {
        "look": state_of(item),
        "tokens": formats.round_off(item["tokens"]),
        "size": formats.size(item["bytes_out"]) if item["bytes_out"] else "",
        "project": item["project"] or projects.get(item["session"]),
    }
    return item | shown


def _running_look(item: Item) -> tuple[Any, ...]:
    """What a row shows, apart from times that pass."""
    return (*still_look(item), item["tokens"], item["size"])


def still_look(item: Item) -> tuple[Any, ...]:
    """What a running row shows, apart from times that pass and from what has been received."""
    heard = item["heard_ms"] if item["look"] == "silent" else None
    return (
        "running", item["look"], heard, item["model"], item["session"], item["project"], item["agent"], item["class"],
        item["upstream"], item["attempts"], item["first_byte_ms"], item["place"], item["started_ms"], item["estimate"],
    )  # fmt: skip


def _finished_look(item: Item) -> tuple[Any, ...]:
    return ("finished", item["outcome"], item["status"], item["cost_usd"], item["project"])
