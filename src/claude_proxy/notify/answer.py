"""What became of one try to push a notice, and how an ntfy server's reply is read (docs.ntfy.sh/publish, FACTS section 3)."""

from __future__ import annotations

import email.utils
import enum
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from claude_proxy.notify.notice import plain, scrub

QUOTA_CODE = 42908  # the day's messages are used up; counted anew at UTC midnight
RATE_WAIT = 5.0  # seconds; ntfy.sh gives one request back each five
MAX_WAIT = 3600.0


class Verdict(enum.StrEnum):
    """What to do after a try."""

    SENT = "sent"
    AGAIN = "again"  # the way or the server failed: later it may work
    REFUSED = "refused"  # trying again changes nothing
    QUOTA = "quota"  # nothing more today


@dataclass(frozen=True, slots=True)
class Answer:
    """One try's end.

    Attributes:
        sentence: for a person: what went wrong and what to do; "" if sent.
        after: seconds to wait at least before the next try, if the server named them.
        id: the message's id at the server, if sent.
    """

    verdict: Verdict
    sentence: str = ""
    after: float | None = None
    id: str = ""


_ADVICE = {
    400: "ntfy did not understand the notice: is NTFY_SERVER an ntfy server of version 1.18 or later?",
    401: "ntfy refused the login: set NTFY_TOKEN to a valid access token of NTFY_SERVER.",
    403: "ntfy does not let us write to this topic: take another NTFY_TOPIC, or an NTFY_TOKEN that may write there.",
    404: "there is no ntfy at NTFY_SERVER: give its address without the topic.",
    405: "there is no ntfy at NTFY_SERVER: give its address without the topic.",
    413: "ntfy found the notice too large: raise the server's message-size-limit.",
}


def judge(status: int, headers: Mapping[str, str], body: bytes, now: float | None = None) -> Answer:
    """Read a reply to a publish.

    Args:
        headers: by lower-case name.
        now: Unix seconds, for a `retry-after` that is a date.
    """
    reply = _json(body)
    if 200 <= status < 300:
        if "id" in reply:
            return Answer(Verdict.SENT, id=plain(str(reply["id"])))
        return Answer(Verdict.REFUSED, "NTFY_SERVER answers, but not as an ntfy server does: check the address.")
    if 300 <= status < 400:
        return Answer(Verdict.REFUSED, f"NTFY_SERVER redirects{_whither(headers)}: set it to the final address.")
    said = f" (it said: {scrub(plain(str(reply['error']), 120))})" if reply.get("error") else ""
    if reply.get("code") == QUOTA_CODE:
        return Answer(Verdict.QUOTA, "ntfy's daily message quota is used up: no notices until midnight UTC.")
    if status == 429:
        wait = _retry_after(headers, now)
        return Answer(Verdict.AGAIN, f"ntfy asks us to slow down{said}.", RATE_WAIT if wait is None else wait)
    if status >= 500 or status == 408:
        return Answer(Verdict.AGAIN, f"ntfy answered {status}{said}: the server has trouble.", _retry_after(headers, now))
    return Answer(Verdict.REFUSED, _ADVICE.get(status, f"ntfy answered {status}: check NTFY_SERVER.") + said)


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
    """RFC 9110 section 10.2.3: seconds or a date; at most an hour."""
    value = (headers.get("retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_WAIT)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return min(max(0.0, date.timestamp() - (time.time() if now is None else now)), MAX_WAIT)
