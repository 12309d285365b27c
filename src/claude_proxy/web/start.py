"""`GET /`: what this proxy is and how to point a client at it, as a page or as JSON."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from claude_proxy.web import assets, snippets
from claude_proxy.web.address import Address, address_of
from claude_proxy.web.admin import LoginNeeded
from claude_proxy.web.facts import OWN_KEY, PROXY_KEY
from claude_proxy.web.negotiation import language_of, prefers_html
from claude_proxy.web.probes import TAG
from claude_proxy.web.texts import Texts, texts_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claude_proxy.access.viewers import Viewers
    from claude_proxy.web.facts import PageFacts

_LINKS = ("docs", "redoc", "openapi.json", "health", "ready")


def start(facts: Callable[[], PageFacts], ready: Callable[[], tuple[bool, str]], viewers: Viewers) -> APIRouter:
    """Return the route of the start page. Those who may not look get a JSON that says what this is, browsers a 401."""
    router = APIRouter(tags=[TAG])

    async def start_page(request: Request) -> Response:
        """What this proxy is, whether it accepts requests, and what a client has to set: JSON, or a page for a browser."""
        state = "ready" if ready()[0] else "draining"
        address = address_of(request)
        may_look = await viewers.viewer(request.scope) is not None
        headers = {"vary": "Accept, Accept-Language, Cookie", "cache-control": "no-store", **_SHIELD}
        if not prefers_html(request.headers.get("accept", "")):
            told = as_json(facts(), state, address) if may_look else for_strangers(facts(), state, address)
            body = json.dumps(told, indent=2, ensure_ascii=False)
            return Response(f"{body}\n", media_type="application/json", headers=headers)
        if not may_look:
            raise LoginNeeded("This page needs a login.")
        language = language_of(request.headers.get("accept-language", ""), request.query_params.get("lang", ""))
        page = as_html(facts(), state, address, texts_in(language))
        headers |= {"content-language": language, "content-security-policy": _policy()}
        return HTMLResponse(page, headers=headers)

    router.add_api_route("/", start_page, response_class=Response, responses=_DESCRIBED, summary="What is this?")
    router.add_api_route("/", start_page, methods=["HEAD"], include_in_schema=False)
    return router


_SHIELD = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}, "text/html": {"schema": {"type": "string"}}}}
}


def _policy() -> str:
    """Return the Content-Security-Policy: allow only what is inline in the page, and our own `/ready`."""
    return (
        f"default-src 'none'; script-src {assets.inline_hash('start.js')}; "
        f"style-src {assets.inline_hash('start.css')}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def as_json(facts: PageFacts, state: str, address: Address) -> dict[str, object]:
    """Return the start page for programs.

    Args:
        state: "ready" or "draining".
    """
    base_url = address.to(facts.prefix)
    return {
        "name": "claude-proxy",
        "what": "A self-hosted proxy for the Anthropic API.",
        "version": facts.version,
        "status": state,
        "base_url": base_url,
        "environment": snippets.environment(base_url, facts),
        "upstreams": [{"name": upstream.name, "base_url": upstream.base_url} for upstream in facts.upstreams],
        "holds_credential": facts.holds_credential,
        "needs_key": facts.needs_key,
        "notices": facts.notices,
        "links": {name.removesuffix(".json"): address.to(f"/{name}") for name in _LINKS},
    }


def for_strangers(facts: PageFacts, state: str, address: Address) -> dict[str, object]:
    """Return what a program may know that may not look: what this is, and what is open to all."""
    return {
        "name": "claude-proxy",
        "what": "A self-hosted proxy for the Anthropic API.",
        "status": state,
        "base_url": address.to(facts.prefix),
        "links": {name.removesuffix(".json"): address.to(f"/{name}") for name in (*_LINKS, "login")},
    }


def as_html(facts: PageFacts, state: str, address: Address, words: Texts) -> str:
    """Return the start page for people. Everything from the request or the settings is escaped here."""
    base_url = address.to(facts.prefix)
    values = {
        "language": words.language,
        "other": "en" if words.language == "ko" else "ko",
        "other_language": words.other_language,
        "state": state,
        "state_text": words.running if state == "ready" else words.draining,
        "target": ", ".join(dict.fromkeys(upstream.host for upstream in facts.upstreams)),
        "base_url": base_url,
        "prefix": facts.prefix,
        "claude_code_title": words.claude_code,
        "code_title": words.code,
    }
    plain = ("running", "draining", "lost", "copied", "copy", "lead", "address", "more")
    values |= {name: getattr(words, name) for name in plain}
    fragments = {
        "css": assets.text("start.css"),
        "js": assets.text("start.js"),
        "claude_code": _group(snippets.claude_code(base_url, facts), base_url, words),
        "client_note": escape(words.client_note(facts), quote=False),
        "code": _group(snippets.code(base_url, facts), base_url, words),
        "key_note": _filled(words.key_note(facts), base_url),
        "rows": _rows(facts, words),
        "links": _links(address, words),
    }
    return assets.template("start.html").substitute({k: escape(v) for k, v in values.items()} | fragments)


def _filled(text: str, base_url: str) -> str:
    """Return `text` as HTML, with the credential's placeholder and the address marked for the script to edit."""
    html = escape(text, quote=False)
    for hole in (escape(OWN_KEY, quote=False), escape(PROXY_KEY, quote=False)):
        html = html.replace(hole, f"<mark>{hole}</mark>")
    return html.replace(base_url, f"<span data-address>{base_url}</span>")


def _group(parts: Iterable[snippets.Snippet], base_url: str, words: Texts) -> str:
    blocks = []
    for part in parts:
        hint = f'<p class="hint"><code>{escape(words.settings_file)}</code></p>' if part.id == "settings" else ""
        blocks.append(
            f'<div class="block" id="{part.id}"><div class="bar"><h3>{escape(part.label)}</h3>'
            f'<button type="button" data-copy="{part.id}-text" hidden>{escape(words.copy)}</button></div>'
            f'<pre tabindex="0"><code id="{part.id}-text">{_filled(part.text, base_url)}</code></pre>{hint}</div>'
        )
    return '<div class="group">' + "\n".join(blocks) + "</div>"


def _rows(facts: PageFacts, words: Texts) -> str:
    many = len(facts.upstreams) > 1
    rows = [(words.version, escape(facts.version))]
    for upstream in facts.upstreams:
        name = f" <small>({escape(upstream.name)})</small>" if many else ""
        rows.append((words.upstream, f"<code>{escape(upstream.base_url)}</code>{name}"))
    rows.append((words.credential, words.credential_proxy if facts.holds_credential else words.credential_client))
    rows.append((words.notices, words.on if facts.notices else words.off))
    return "\n".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in rows)


def _links(address: Address, words: Texts) -> str:
    names = (words.docs, words.reference, words.openapi, words.health, words.ready)
    return "\n".join(
        f'<a href="{escape(address.links + to)}" data-to="{to}">{escape(name)}</a>'
        for to, name in zip(_LINKS, names, strict=True)
    )
