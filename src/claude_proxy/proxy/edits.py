"""The closed list of what we change in an answer (docs/design.md, "What is changed"), all in one place.

Each edit is one function. None of them decides about attempts: the retry table and the queue do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from claude_proxy.cleaning import clean
from claude_proxy.errors import UpstreamRedirect
from claude_proxy.protocol.judge import judge, retry_hint
from claude_proxy.protocol.providers import Provider
from claude_proxy.protocol.usage import read_answer
from claude_proxy.proxy import headers as h
from claude_proxy.proxy import results_url
from claude_proxy.proxy.attempt import Result
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.count_tokens import looks_missing, missing
from claude_proxy.proxy.opening import whole
from claude_proxy.proxy.response import Response

_T = TypeVar("_T")
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


def edited(call: Call, result: Result) -> tuple[list[h.Header], bytes]:
    """The header fields and the first bytes of an answer, as the client gets them. For answers about batches see `edited_batch`.

    Raises:
        UpstreamRedirect: the answer is a redirect.
    """
    response = result.response
    assert response is not None
    if response.status in _REDIRECTS:
        _refuse_redirect(call, response)
    headers = h.response_headers(response.headers, response.fields)
    _add(call, result, headers, result.first)
    return headers, result.first


async def edited_batch(call: Call, result: Result) -> tuple[list[h.Header], bytes]:
    """The same for an answer about batches, which may hold a URL. Raises what `edited` does."""
    response = result.response
    assert response is not None
    _refuse_redirect(call, response)
    headers, first = h.response_headers(response.headers, response.fields), result.first
    if call.upstream.credential is not None and call.settings.rewrite_results_url:
        headers, first = await _with_our_results_url(call, response, headers, first)
    _add(call, result, headers, first)
    return headers, first


def _add(call: Call, result: Result, headers: list[h.Header], first: bytes) -> None:
    """Add fields of our own."""
    response, answer, settings = result.response, result.answer, call.settings
    assert response is not None
    assert answer is not None
    if answer.is_stream and settings.accel_buffering and b"x-accel-buffering" not in response.fields:
        headers.append((b"x-accel-buffering", b"no"))
    if response.status >= 400 and settings.retry_hints:
        headers += contained(call, "hints", [], lambda: _hints(response, first, call.upstream.provider))


def contained(call: Call, what: str, otherwise: _T, read: Callable[[], _T]) -> _T:
    """What `read` returns about an answer; `otherwise` if it fails, which must not cost the client the answer."""
    try:
        return read()
    except Exception as error:  # any of them: it is our fault, not the client's
        call.listeners.contain(what, error)
        return otherwise


def _refuse_redirect(call: Call, response: Response) -> None:
    """No Anthropic API redirects; an SDK would follow it past the proxy, with the conversation and the key.

    Raises:
        UpstreamRedirect: the answer is a redirect.
    """
    refused = response.status in _REDIRECTS and b"location" in response.fields
    if not refused or call.settings.upstream_redirects != "refuse":
        return
    location = clean(response.fields[b"location"], 300) or ""
    try:
        parts = urlsplit(location)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
    except ValueError:  # such as "http://["
        shown = location
    raise UpstreamRedirect(
        f"BASE_URL ({call.upstream.base_url}) answered with a redirect ({response.status}) to {shown}. The API itself never "
        "redirects: set BASE_URL at the proxy to the address of the API. (UPSTREAM_REDIRECTS=pass would pass it on.)"
    )


def _hints(response: Response, body: bytes, provider: Provider) -> list[h.Header]:
    """`x-should-retry: false` for an error that is known to last, if the upstream gave no hint of its own."""
    fields = response.fields
    if b"x-should-retry" in fields or b"retry-after" in fields or b"content-encoding" in fields:
        return []
    error = read_answer(body).error
    hint = retry_hint(judge(response.status, error, provider=provider, credential_held=False, headers=fields))
    return [] if hint is None else [(b"x-should-retry", b"true" if hint else b"false")]


async def _with_our_results_url(
    call: Call, response: Response, headers: list[h.Header], first: bytes
) -> tuple[list[h.Header], bytes]:
    """Point a batch's results_url back at us, if the whole answer is here and readable."""
    if not results_url.may_hold(call.exchange.method, call.request.target.path, response.fields):
        return headers, first
    body, is_whole = await whole(call, response, first, results_url.LIMIT)
    if not is_whole:
        return headers, body
    body = contained(call, "results_url", body, lambda: results_url.rewrite(body, results_url.own_base(call.scope)))
    headers = [pair for pair in headers if pair[0] != b"content-length"]
    headers.append((b"content-length", b"%d" % len(body)))
    return headers, body


async def counted(call: Call, attempts: Callable[[Call], Awaitable[Result]]) -> Result:
    """Ask an upstream to count tokens, unless it is known to have no such endpoint, and remember what its answer tells.

    Raises:
        NotFound: it has none; also in place of a 400 that wraps a 404.
    """
    memory = call.upstream.count_tokens
    if not await memory.enter(call.loop):
        return await attempts(call)
    learned = False
    try:
        result = await attempts(call)
        response = result.response
        if response is not None:
            coding = response.fields.get(b"content-encoding")
            status, first = response.status, result.first
            is_missing = contained(call, "count_tokens", None, lambda: looks_missing(status, first, coding))
            memory.learn(call.loop.time(), is_missing=is_missing)
            learned = True
            if is_missing and response.status == 400:
                raise missing()
    finally:
        if not learned:
            memory.gave_up()
    return result
