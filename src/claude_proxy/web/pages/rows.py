"""Draws the running rows of *Now*: a tick may hold hundreds with one changed cell each, and a template takes 60 us for each."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from claude_proxy.web.pages.board import still_look
from claude_proxy.web.pages.rendering import environment

if TYPE_CHECKING:
    from markupsafe import Markup

    from claude_proxy.web.negotiation import Language

ROOT = "./"  # an event stream has no address of its own that links could be relative to
CELLS = 512  # drawn cells that are kept: streams that run together show much the same
_HOLE = "<!--received-->"  # no text of a row can be this: templates escape it
Item = dict[str, Any]


class Rows:
    """The rows in one language. Of each it keeps what stands before and behind the cell that changes while a stream goes on."""

    def __init__(self, language: Language) -> None:
        from markupsafe import Markup  # with the first page, as Jinja2

        macros: Any = environment(language).get_template("now_rows.html").module
        self._markup = Markup
        self._macros = macros
        self._kept: dict[str, tuple[tuple[Any, ...], str, str]] = {}
        self._received = lru_cache(CELLS)(macros.received)

    def draw(self, items: Iterable[Item]) -> Markup:
        """The rows of these exchanges, as `Board` has them."""
        parts: list[str] = []
        for item in items:
            before, behind = self._around(item)
            parts += before, self._received(item["size"], item["tokens"], item["estimate"]), behind
        return self._markup("".join(parts))

    def forget(self, running: Iterable[str]) -> None:
        """Drop what is kept of exchanges other than these."""
        self._kept = {number: self._kept[number] for number in running if number in self._kept}

    def _around(self, item: Item) -> tuple[str, str]:
        look = still_look(item)
        kept = self._kept.get(item["id"])
        if kept is None or kept[0] != look:
            before, _, behind = str(self._macros.running_row(item, ROOT, self._markup(_HOLE))).partition(_HOLE)
            kept = self._kept[item["id"]] = look, before, behind
        return kept[1], kept[2]
