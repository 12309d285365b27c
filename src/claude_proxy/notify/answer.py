"""The result of one attempt to push a notice, and how to read an ntfy server's reply (docs.ntfy.sh/publish)."""

from __future__ import annotations

import email.utils
import enum
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from claude_proxy.notify.notice import plain, scrub

QUOTA_CODE = 42908  # the daily quota is used up; it resets at UTC midnight
RATE_WAIT = 5.0  # seconds; ntfy.sh allows one request per five seconds
MAX_WAIT = 3600.0


class Verdict(enum.StrEnum):
    """What to do after an attempt."""

    SENT = "sent"
    AGAIN = "again"  # the network, the server or something in front of it failed: retry later
    REFUSED = "refused"  # a retry would fail the same way
    QUOTA = "quota"  # nothing more today


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one attempt.

    Attributes:
        sentence: for a person: what went wrong and what to do; "" if sent.
        after: the least seconds to wait before the next attempt, if the server named them.
        id: the message's id at the server, if sent.
        replaces: whether the server replaces the message of the same sequence: ntfy 2.16 and later repeat the sequence in their
            reply. None if that cannot be told.
        reached: whether a server answered at all.
    """

    verdict: Verdict
    sentence: str = ""
    after: float | None = None
    id: str = ""
    replaces: bool | None = None
    reached: bool = True


_ADVICE = {
    400: "ntfy did not understand the notice: is NTFY_SERVER an ntfy server of version 1.18 or later?",
    401: "ntfy refused the login: set NTFY_TOKEN to a valid access token of NTFY_SERVER, or NTFY_USER and NTFY_PASSWORD.",
    403: "ntfy does not let us write to this topic: take another NTFY_TOPIC, or a token or user that may write there.",
    404: "ntfy has no such page: give NTFY_SERVER without the topic.",
    405: "ntfy has no such page: give NTFY_SERVER without the topic.",
    413: "ntfy found the notice too large: raise the server's message-size-limit.",
}
_IN_FRONT = (
    "A login page, firewall, bot check or network portal may stand in front of it, or the address is wrong: open NTFY_SERVER "
    "in a browser."
)
_TROUBLE = "The server, or something in front of it, has trouble."


def judge(status: int, headers: Mapping[str, str], body: bytes, now: float | None = None) -> Answer:
    """Read a reply to a publish.

    A status alone does not show who sent it, so only ntfy's own JSON counts as ntfy's reply. Anything else (a bot check, a
    company portal, another service) may be gone in an hour, so the notice is kept and retried.

    Args:
        headers: with lower-case names.
        now: Unix seconds, for a `retry-after` that is a date.
    """
    reply = _json(body)
    if 200 <= status < 300 and reply.get("event") == "message" and isinstance(reply.get("id"), str):
        return Answer(Verdict.SENT, id=plain(str(reply["id"])), replaces="sequence_id" in reply)
    if 300 <= status < 400:
        return redirected(status, headers)
    if not _is_ntfys(status, reply):
        return Answer(Verdict.AGAIN, foreign(status, body), _retry_after(headers, now))
    said = f" (it said: {scrub(plain(str(reply['error']), 120))})" if reply.get("error") else ""
    if reply["code"] == QUOTA_CODE:
        return Answer(Verdict.QUOTA, "ntfy's daily message quota is used up: no notices until midnight UTC.")
    if status == 429:
        wait = _retry_after(headers, now)
        return Answer(Verdict.AGAIN, f"ntfy asks us to slow down{said}.", RATE_WAIT if wait is None else wait)
    if status >= 500:
        return Answer(Verdict.AGAIN, f"ntfy answered {status}{said}: the server has trouble.", _retry_after(headers, now))
    return Answer(Verdict.REFUSED, _ADVICE.get(status, f"ntfy answered {status}: check NTFY_SERVER.") + said)


def foreign(status: int | None, body: bytes) -> str:
    """Describe a reply that is not ntfy's; `status` if it is known."""
    start = body[:1024].lstrip().lower()
    what = "an empty reply" if not start else "a web page" if is_page(start) else "something that is not ntfy's"
    number = "" if status is None else f" {status}"
    return f"NTFY_SERVER answered{number} with {what}. {_TROUBLE if status is not None and status >= 500 else _IN_FRONT}"


def is_page(text: bytes) -> bool:
    """Whether `text` starts like HTML."""
    return text[:1024].lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def _is_ntfys(status: int, reply: Mapping[str, object]) -> bool:
    """Whether this is an error in ntfy's format: `{"code": 40301, "http": 403, "error": "forbidden", ...}`."""
    code = reply.get("code")
    return type(code) is int and code // 100 == status and reply.get("http", status) == status


def redirected(status: int, headers: Mapping[str, str]) -> Answer:
    """Judge a redirect. ntfy never redirects a publish: a permanent one means a new address, any other may come from a portal."""
    where = f"NTFY_SERVER redirects{_whither(headers)}"
    if status in (301, 308):
        return Answer(Verdict.REFUSED, f"{where}: set it to the final address.")
    return Answer(
        Verdict.AGAIN, f"{where}: if ntfy is there, set it to that address; else a login or network portal stands between."
    )


def _json(body: bytes) -> dict[str, object]:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _whither(headers: Mapping[str, str]) -> str:
    try:
        parts = urlsplit(headers.get("location") or "")
    except ValueError:
        return ""
    return f" to {parts.scheme}://{plain(parts.hostname)}" if parts.scheme and parts.hostname else ""


def _retry_after(headers: Mapping[str, str], now: float | None) -> float | None:
    """Parse `retry-after` (RFC 9110 section 10.2.3): seconds or a date; at most an hour."""
    value = (headers.get("retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_WAIT)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return min(max(0.0, date.timestamp() - (time.time() if now is None else now)), MAX_WAIT)
