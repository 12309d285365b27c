"""Claude Code's status line: parses the input of the status command, and renders the line.

`claude-proxy statusline` uses this too if the proxy does not answer. It runs every two seconds, so this module avoids slow
imports (`dataclasses` would double its import time). Input format: https://code.claude.com/docs/en/statusline.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from claude_proxy.cleaning import clean

MAX_INPUT = 256 * 1024  # bytes; Claude Code sends about 2 KB
COLUMNS = 120  # if the terminal's width is not known
MARGIN = 4  # columns at the right edge that Claude Code does not use for the line
MIN_COLUMNS = 20
_SLOW = 5.0  # seconds of waiting that are worth reporting
_MAX_TEXT = 60
_SEPARATOR = " · "
_STYLES = {"strong": "1", "dim": "2", "good": "32", "fair": "33", "bad": "31"}


class Client(NamedTuple):
    """What the client reports about itself; None if it does not.

    Attributes:
        project_dir: a path.
        context: percent of the model's context window that is used.
        cost_usd: the client's own estimate, only for models that it can price.
    """

    session: str | None = None
    model: str | None = None
    project_dir: str | None = None
    context: float | None = None
    cost_usd: float | None = None


class Tokens(NamedTuple):
    """Sums of a session. `estimated`: a call is still running, so its counts are not final."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """All tokens."""
        return self.input + self.output + self.cache_read + self.cache_write

    @property
    def cache_share(self) -> float | None:
        """The share of the prompts that was read from the cache; None without any."""
        prompts = self.input + self.cache_read + self.cache_write
        return self.cache_read / prompts if prompts else None


class Cost(NamedTuple):
    """What a session cost at list price.

    Attributes:
        nano: 10**-9 USD of the priced exchanges; None if there are none.
        unpriced: exchanges with usage whose price is not known.
    """

    nano: int | None
    unpriced: int = 0
    estimated: bool = False


class Window(NamedTuple):
    """One window of a plan's quota: the share that is left, and seconds until it resets, if known."""

    name: str
    left: float
    resets_in: float | None = None


class Status(NamedTuple):
    """The content of a line; parts that are None or empty are left out.

    Attributes:
        context: percent.
        waiting: seconds that the upstream has been silent in a running call of the session.
        trouble: a few words about an error.
        place: in the proxy's queue, where all running calls of the session wait there; 1 for the next one.
    """

    model: str | None = None
    cost: Cost | None = None
    tokens: Tokens | None = None
    context: float | None = None
    quota: tuple[Window, ...] = ()
    waiting: float | None = None
    trouble: str | None = None
    place: int | None = None


class _Part(NamedTuple):
    text: str
    style: str
    rank: int  # the lowest is left out first in a narrow terminal


def read_client(data: bytes) -> Client:
    """Parse the input. Unexpected values are ignored; never raises."""
    try:
        content = json.loads(data[:MAX_INPUT])
    except (ValueError, RecursionError):
        content = None
    model, id_ = _text(_at(content, "model", "display_name")), _text(_at(content, "model", "id"))
    known = id_ is not None and id_.startswith("claude-")  # it applies Claude prices to all other models too
    return Client(
        session=_text(_at(content, "session_id"), 100),
        model=model or id_,
        project_dir=_text(_at(content, "workspace", "project_dir"), 4096),
        context=_context(_at(content, "context_window")),
        cost_usd=_number(_at(content, "cost", "total_cost_usd")) if known else None,
    )


def local_status(client: Client, trouble: str) -> Status:
    """The status without the proxy: what the client itself knows."""
    cost = None if client.cost_usd is None else Cost(int(client.cost_usd * 1e9), estimated=True)
    return Status(model=client.model, cost=cost, context=client.context, trouble=trouble)


def render(status: Status, columns: int = COLUMNS, *, color: bool = True) -> str:
    """The line, without a line break, in at most `columns` less a margin."""
    width = max(columns, MIN_COLUMNS) - MARGIN
    parts = list(_parts(status))
    while len(parts) > 1 and _width(_SEPARATOR.join(part.text for part in parts)) > width:
        parts.remove(min(parts, key=lambda part: part.rank))
    if len(parts) == 1:
        parts = [parts[0]._replace(text=_shortened(parts[0].text, width))]
    if not color:
        return _SEPARATOR.join(part.text for part in parts)
    return _styled(_SEPARATOR, "dim").join(_styled(part.text, part.style) for part in parts)


def _parts(status: Status) -> Iterable[_Part]:
    yield _Part(status.model or "claude-proxy", "strong", 3)
    if status.cost is not None:
        yield _Part(_cost(status.cost), "", 7)
    tokens = status.tokens
    if tokens is not None and tokens.total:
        yield _Part(f"{'~' if tokens.estimated else ''}{_count(tokens.total)} tokens", "", 1)
        if tokens.cache_share is not None:
            yield _Part(f"cache {_percent(tokens.cache_share)}", _by_limits(1 - tokens.cache_share, 0.3, 0.6), 4)
    if status.context is not None:
        yield _Part(f"context {_percent(status.context / 100)}", _by_limits(status.context / 100, 0.6, 0.85), 6)
    for number, window in enumerate(status.quota):
        reset = "" if window.resets_in is None else f", resets in {_span(window.resets_in)}"
        text = f"{window.name} {_percent(max(0.0, window.left))} left{reset}"
        yield _Part(text, _by_limits(1 - window.left, 0.75, 0.9), 5 if number == 0 else 2)
    if status.waiting is not None and status.waiting >= _SLOW:
        queued = "" if status.place is None else f" (no. {status.place} in the queue)"
        yield _Part(f"waiting {_span(status.waiting)}{queued}", "fair", 8)
    if status.trouble is not None:
        yield _Part(status.trouble, "bad", 9)


def _cost(cost: Cost) -> str:
    if cost.nano is None:
        return "unpriced"
    sign = "~" if cost.estimated else ""
    dollars = cost.nano / 1e9
    amount = f"{sign}<$0.01" if 0 < dollars < 0.01 else f"{sign}${dollars:,.2f}"
    return f"{amount} + {cost.unpriced} unpriced" if cost.unpriced else amount


def _count(number: int) -> str:
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1000, "k")):
        if number >= limit:
            return f"{number / limit:.{1 if number < 100 * limit else 0}f}{unit}"
    return str(number)


def _percent(share: float) -> str:
    """Rounded down, so that only a full share is shown as 100%."""
    return f"{math.floor(share * 100 + 1e-9)}%"


def _span(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{max(0, int(seconds))}s"
    if minutes < 60:
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d"


def _by_limits(used: float, fair: float, bad: float) -> str:
    return "good" if used < fair else "fair" if used < bad else "bad"


def _styled(text: str, style: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text


def _width(text: str) -> int:
    """Columns of a terminal: East Asian wide characters take two (UAX #11), combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _shortened(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _at(content: Any, *names: str) -> Any:
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _text(value: Any, limit: int = _MAX_TEXT) -> str | None:
    return clean(value, limit) or None if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if 0 <= found < 1e9 else None


def _context(window: Any) -> float | None:
    percent = _number(_at(window, "used_percentage"))
    if percent is not None:
        return percent
    used, size = _number(_at(window, "total_input_tokens")), _number(_at(window, "context_window_size"))
    return 100 * used / size if used is not None and size else None
