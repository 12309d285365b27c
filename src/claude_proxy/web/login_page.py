"""The two pages that need no login: the form, and what a browser gets that has not logged in. Both work without a script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse

from claude_proxy.access.logins import Kept
from claude_proxy.web import assets
from claude_proxy.web.address import address_of, root_of
from claude_proxy.web.admin import CHALLENGE
from claude_proxy.web.login_texts import LoginTexts, login_texts_in
from claude_proxy.web.negotiation import language_of

if TYPE_CHECKING:
    from starlette.requests import Request

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    # Not no-referrer: browsers would then send `Origin: null` with the form (WHATWG Fetch, "append a request Origin header").
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "vary": "Accept, Accept-Language, Cookie",
}
DOCKER = ("docker logs claude-proxy", "docker exec claude-proxy claude-proxy login")
COMMAND = "claude-proxy login"


def login_page(
    request: Request, kept: Kept, *, to: str = "/", status: int = 200, message: str = "", logged_in: bool = False
) -> HTMLResponse:
    """Return the login form.

    Args:
        kept: where logins are, which decides what helps.
        to: the page to open after it, one of our own paths.
        message: why the try before failed.
        logged_in: whether the browser may see the page already.
    """
    words = _words(request)
    fragments = {
        "scripts": f'<script src="{escape(_prefix(request) + assets.versioned("login.js"))}" defer></script>\n',
        "message": f'<p class="message" role="alert">{escape(message)}</p>' if message else "",
        "already": _already(words, _prefix(request)) if logged_in else "",
    }
    values = {
        "title": words.title,
        "lead": words.lead,
        "action": f"{_prefix(request)}login",
        "to": to,
        "field": words.field_only if kept is Kept.NOWHERE else words.field,
        "submit": words.submit,
        "query": "?" + urlencode({"lang": _other(words), "to": to}),
    }
    return _page("login.html", request, kept, words, values, fragments, status)


def locked_page(request: Request, kept: Kept, status: int = 401) -> HTMLResponse:
    """Return the answer to a browser that has not logged in."""
    words = _words(request)
    values = {
        "title": words.locked_title,
        "lead": words.locked_lead,
        "login": f"{_prefix(request)}login?{urlencode({'to': own_target(request)})}",
        "to_login": words.to_login,
        "query": f"?lang={_other(words)}",
    }
    return _page("locked.html", request, kept, words, values, {}, status)


def own_path(request: Request) -> str:
    """The path of a request below our prefix."""
    root = root_of(request.scope)
    path: str = request.scope["path"]
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def own_target(request: Request) -> str:
    """The path and query of a request below our prefix, percent-encoded."""
    query = request.scope["query_string"].decode("latin-1")
    return quote(own_path(request)) + (f"?{query}" if query else "")


def _prefix(request: Request) -> str:
    """What stands before our own paths in a link: the root, or as many `../` as lead from this page to it if no root is known."""
    return address_of(request).links or "../" * (own_path(request).count("/") - 1)


def _words(request: Request) -> LoginTexts:
    return login_texts_in(language_of(request.headers.get("accept-language", ""), request.query_params.get("lang", "")))


def _other(words: LoginTexts) -> str:
    return "en" if words.language == "ko" else "ko"


def _page(
    name: str,
    request: Request,
    kept: Kept,
    words: LoginTexts,
    values: dict[str, str],
    fragments: dict[str, str],
    status: int,
) -> HTMLResponse:
    values |= {
        "language": words.language,
        "other": _other(words),
        "other_language": words.other_language,
        "style": _prefix(request) + assets.versioned("login.css"),
    }
    fragments["ways"] = _ways(kept, words)
    found = {key: escape(value) for key, value in values.items()} | fragments
    main = assets.template(name).substitute(found)
    html = assets.template("login_frame.html").substitute({"scripts": "", "main": main} | found)
    headers = HEADERS | {"content-language": words.language}
    if status == 401:
        headers["www-authenticate"] = CHALLENGE
    return HTMLResponse(html, status, headers)


def _already(words: LoginTexts, prefix: str) -> str:
    return f'<p class="note">{escape(words.logged_in)} <a href="{escape(prefix or "./")}">{escape(words.open_page)}</a></p>'


def _ways(kept: Kept, words: LoginTexts) -> str:
    """What the visitor can do, as HTML."""
    if kept is Kept.NOWHERE:
        return f"<h2>{escape(words.how)}</h2>\n<p>{escape(words.only_way)}</p>"
    steps = [(words.log, DOCKER[0])]
    if kept is Kept.FILES:
        steps += [(words.another, DOCKER[1]), (words.no_container, COMMAND)]
    shown = "\n".join(f"<p>{escape(text)}</p>\n<pre><code>{escape(command)}</code></pre>" for text, command in steps)
    return f"<h2>{escape(words.how)}</h2>\n{shown}\n<p>{escape(words.instead)}</p>"
