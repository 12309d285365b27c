"""One request for a page: what it may read, in which language it is answered, and where its links lead."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from claude_proxy.web.address import Address, address_of
from claude_proxy.web.api.asking import ask
from claude_proxy.web.negotiation import Language, language_of
from claude_proxy.web.texts import text

if TYPE_CHECKING:
    from starlette.requests import Request

    from claude_proxy.exchange import Failure
    from claude_proxy.notify.advice import Advice
    from claude_proxy.protocol.providers import Provider
    from claude_proxy.web.api.asking import Asked, Sources
    from claude_proxy.web.facts import PageFacts
    from claude_proxy.web.pages.conversation_kept import Kept

COOKIE = "claude_proxy_language"


@dataclass(frozen=True, slots=True)
class Site:
    """What the views read; the wiring gives it.

    Attributes:
        sources: what the API reads too: books, running exchanges, upstreams, incidents, settings.
        facts: what may be said about this proxy; called for each page.
        ready: whether new requests are accepted, and why not.
        advise: what a failure at a provider means and what to do.
        examine: what `claude-proxy doctor` finds, as its `--json` lists it.
        kept: the stored conversations; called in a thread.
    """

    sources: Sources
    facts: Callable[[], PageFacts]
    ready: Callable[[], tuple[bool, str]]
    advise: Callable[[Failure, Provider], Advice]
    examine: Callable[[], Awaitable[list[dict[str, Any]]]] | None = None
    kept: Callable[[], Kept] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The answer of a view.

    Attributes:
        template: its file in `templates/`, which extends `page.html`.
        title: plain text.
        context: what the template shows; plain values, no markup.
    """

    template: str
    title: str
    context: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class View(NamedTuple):
    """A page of the site.

    Attributes:
        key: its name, the same in the navigation and in the texts; "" for one that stands under another.
        path: as Starlette's routes have it.
        show: makes it.
    """

    key: str
    path: str
    show: Callable[[Visit], Awaitable[Page]]


class Visit:
    """One request for a page.

    Attributes:
        root: what to put before a path without its leading slash; relative where no prefix is known, so that links also work
            behind a front proxy that strips one without telling us.
    """

    def __init__(self, request: Request, site: Site) -> None:
        self.request = request
        self.site = site
        chosen = request.query_params.get("lang", "")
        self.chosen = chosen if chosen in ("en", "ko") else ""
        wish = self.chosen or request.cookies.get(COOKIE, "")
        self.language: Language = language_of(request.headers.get("accept-language", ""), wish)
        self.address: Address = address_of(request)
        self.root = f"{self.address.root}/" if self.address.root else "../" * _depth(request) or "./"

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query, at most 200 characters of it."""
        return self.request.query_params.get(name, default)[:200]

    def part(self, name: str) -> str:
        """A part of the path that the view's route names."""
        return str(self.request.path_params[name])

    async def ask(self, question: Asked) -> Any:
        """Put a question to the books, in a thread.

        Raises:
            BadRequest, NoBooks: as `web.api.asking.ask`; they are shown as a page.
        """
        return await ask(self.site.sources.reader, question)

    def sent_to(self, place: str) -> Page:
        """A redirect to a place below the root (303, so that the browser gets it, also after a form)."""
        context = {"sentence": place, "again": None}
        return Page("error.html", self.text("shell.moved"), context, 303, {"location": self.root + place})

    def text(self, key: str, **values: object) -> str:
        """A text in the viewer's language."""
        return text(self.language, key, **values)

    def now(self) -> float:
        """Unix seconds."""
        return self.site.sources.wall()

    def context(self) -> dict[str, Any]:
        """What every template knows."""
        return {
            "root": self.root,
            "other": "en" if self.language == "ko" else "ko",
            "now_ms": int(time.time() * 1000),
            "q": self.query("q"),
            "facts": self.site.facts(),
        }


def _depth(request: Request) -> int:
    """How many folders lie between the root and the page, as the browser counts them: an encoded slash is none."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"], safe="/%").encode()
    return max(0, raw.partition(b"?")[0].count(b"/") - 1)
