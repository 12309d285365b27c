"""Recognises whether an answer comes from an Anthropic API or from a login page, a portal or a parked domain.

Every API that Claude Code can use answers in JSON: a list of models, a message, or an error with a message
(https://docs.anthropic.com/en/api/errors; z.ai's `{"code": ..., "msg": ...}`). It never redirects.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from claude_proxy.cleaning import visible
from claude_proxy.cli.doctor.check import Check, fail, ok, warn
from claude_proxy.cli.doctor.wire import HttpResponse
from claude_proxy.protocol.usage import read_answer
from claude_proxy.settings import DEFAULT_BASE_URL

SHOWN = 120  # characters of a foreign text that a line quotes
ABSENT = (404, 405, 501)  # an upstream may lack an endpoint
REFUSED = (401, 403)
TITLE = re.compile(rb"<title[^>]{0,200}>([^<]{0,500})", re.IGNORECASE)
CHALLENGE = re.compile(r"just a moment|attention required|captcha|verify you are human|checking your browser|ddos", re.IGNORECASE)
PAGE_FIX = (
    "Open BASE_URL in a browser: a login page, a portal or a filter may answer in its place. "
    "Else correct BASE_URL; it ends before /v1."
)
TROUBLE_FIX = "If the provider has an outage, wait."
CHALLENGE_FIX = "Only a browser can solve it. Use another network, or ask the provider to let this machine through."
PATH_FIX = f"Correct the path in BASE_URL: the API must be at /v1/messages below it, as with {DEFAULT_BASE_URL}."


def recognised(answer: HttpResponse, base_url: str, spent: str) -> Check | None:
    """Judge the upstream by its answer to a request without a credential.

    Args:
        spent: how long the answer took, as text.

    Returns:
        None if the answer proves nothing: the endpoint does not exist, or refuses without a message.
    """
    if 300 <= answer.status < 400:
        return redirect(answer, base_url)
    if answer.status in ABSENT:
        return None
    if speaks_as_api(answer):
        return (
            in_trouble(answer) if answer.status >= 500 else ok("upstream", f"it answers ({answer.status} without a key, {spent})")
        )
    if answer.status in REFUSED and not is_page(answer):
        return None
    return foreign(answer, base_url)


def in_trouble(answer: HttpResponse) -> Check:
    """Return the warning for an API that answers, but is failing at the moment."""
    said = "overloaded" if answer.status == 529 else f"status {answer.status}"
    return warn("upstream", f"it answers, but is failing ({said})", "Wait, or see the provider's status page.")


def absent(answer: HttpResponse, base_url: str) -> Check:
    """Return the result if neither the list of models nor /v1/messages gave a conclusive answer."""
    if answer.status in ABSENT:
        return fail("upstream", f"there is no Anthropic API at BASE_URL={base_url}: /v1/messages gives {answer.status}", PATH_FIX)
    scheme = answer.headers.get("www-authenticate", "").partition(" ")[0]
    asks = f" and asks for a {shown(scheme)} login" if scheme else ""
    return warn("upstream", f"it answers {answer.status}{asks}, but nothing shows that it is the API", PAGE_FIX)


def redirect(answer: HttpResponse, base_url: str) -> Check:
    """Return the result for a redirect: the address has moved, or it leads to a login page."""
    to = shown(answer.headers.get("location") or "nowhere")
    base, endpoint, _ = to.partition("/v1/m")
    better = (
        f"Set BASE_URL={base} if you know that address." if endpoint and "://" in base else "Set BASE_URL to the API's address."
    )
    detail = f"BASE_URL={base_url} redirects ({answer.status}) to {to}; no Anthropic API does"
    return fail("upstream", detail, f"{better} If it leads to a login page or a portal, log in there first.")


def is_page(answer: HttpResponse) -> bool:
    """Whether the answer is a web page, whatever its content type."""
    start = answer.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<meta")) or (
        "html" in answer.headers.get("content-type", "").lower() and not start.startswith((b"{", b"["))
    )


def foreign(answer: HttpResponse, base_url: str) -> Check:
    """Return the result if something other than an API answers."""
    challenged = is_challenge(answer)
    fix = CHALLENGE_FIX if challenged else f"{TROUBLE_FIX} {PAGE_FIX}" if answer.status >= 500 else PAGE_FIX
    what = f"a challenge page{titled(answer.body)}" if challenged else described(answer)
    return fail("upstream", f"BASE_URL={base_url} answers {answer.status} with {what}, not as an API does", fix)


def is_challenge(answer: HttpResponse) -> bool:
    """Whether the page tests for a human (https://developers.cloudflare.com/cloudflare-challenges/ has the header)."""
    return is_page(answer) and ("cf-mitigated" in answer.headers or CHALLENGE.search(title_of(answer.body)) is not None)


def title_of(body: bytes) -> str:
    """Return the title of a web page, safe to print; empty if it has none."""
    found = TITLE.search(body)
    return shown(html.unescape(found[1].decode("utf-8", "replace"))) if found else ""


def titled(body: bytes) -> str:
    """Return a space and the title in brackets; empty if there is none."""
    title = title_of(body)
    return f' ("{title}")' if title else ""


def speaks_as_api(answer: HttpResponse) -> bool:
    """Whether the body looks like one from an Anthropic-compatible API."""
    content = parsed(answer.body)
    if not isinstance(content, dict):
        return False
    if answer.status >= 400:
        reading = read_answer(answer.body)
        return bool(reading.error and reading.error.message) or any(
            isinstance(content.get(name), str | list) for name in ("message", "msg", "detail")
        )
    return content.get("type") == "message" or is_list_of_models(content) or read_answer(answer.body).error is not None


def is_list_of_models(content: dict[str, Any]) -> bool:
    """Whether this is Anthropic's list of models, or OpenAI's, which has the same `data`."""
    data = content.get("data")
    return isinstance(data, list) and all(isinstance(item, dict) and "id" in item for item in data)


def described(answer: HttpResponse) -> str:
    """Describe the body in a few words."""
    if is_page(answer):
        return f"a web page{titled(answer.body)}"
    body = answer.body.strip()
    if not body:
        return "an empty body"
    kind = "JSON of something else" if isinstance(parsed(body), dict | list) else "a text of something else"
    return f"{kind} ({shown(body[:SHOWN].decode('utf-8', 'replace'))})"


def parsed(body: bytes) -> Any:
    """Parse the body as JSON; None if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def shown(text: str) -> str:
    """Make a foreign text safe to print: on one line, without control characters, truncated."""
    words = visible(" ".join(text.split()))
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"
