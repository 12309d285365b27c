"""A page as a test reads it: well-formed, with nothing that the policy forbids, and its text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img"}
SVG = {"rect", "path", "circle"}  # which close themselves


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps ids, what refers to them, every address, headings and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._see(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG, tag
        self._see(tag, attrs)

    def _see(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "the policy lets no inline handler run"
            assert name != "style", "the policy lets no style attribute apply"
            if name == "id":
                self.ids.append(str(value))
            elif name in ("aria-labelledby", "data-copy", "for"):
                self.references.append(str(value))
            elif name in ("href", "src", "action", "hx-sse:connect"):
                self.addresses.append(str(value))
        if tag == "script":
            assert dict(attrs).get("src"), "the policy lets no inline script run"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        """All that is written on the page."""
        return " ".join(self.texts)


def outline(page: str) -> Outline:
    """Read a page; its ids are unique, and what refers to one finds it."""
    found = Outline(page)
    assert len(found.ids) == len(set(found.ids)), sorted(number for number in found.ids if found.ids.count(number) > 1)
    assert set(found.references) <= set(found.ids)
    assert found.headings[:1] == ["h1"]
    assert found.headings.count("h1") == 1
    return found
