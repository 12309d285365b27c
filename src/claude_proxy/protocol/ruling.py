"""What an upstream's refusal means for sending: one pure call, `rule`, which drives queue, retries and accounts.

`judge` says whose side a failure is and words it for people; `rule` says what kind of refusal it is and until when. Both
identify the error in the same way, so that they never disagree about a code.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass

from claude_proxy.protocol.judge import MAX_READ, NO_HEADERS, identify
from claude_proxy.protocol.providers import GENERIC, Class, Provider
from claude_proxy.protocol.providers.base import Scope
from claude_proxy.protocol.providers.generic import STATUSES, TYPES
from claude_proxy.protocol.usage import ErrorBody

MAX_AHEAD = 32 * 86_400.0  # seconds; the longest window of any plan is a month, so a reset beyond it is a misreading
_PERSISTENT = (Class.AUTH, Class.ACCOUNT)  # it lasts until a person acts
_GENERAL = (Class.CLIENT, Class.SERVER)  # types that say little: the status is then the better witness


@dataclass(frozen=True, slots=True)
class Ruling:
    """What kind of refusal an upstream's error is.

    Attributes:
        group: the class that retries, queue and accounts go by. SERVER is no refusal: the request may have been worked on.
        resets_at: Unix seconds at which the quota is back, where the upstream says so; in the future, within `MAX_AHEAD`.
        retry_after: seconds that the upstream asks to wait, from its headers or its words.
        code: the provider's number, or its table's word for a sentence; None if nothing but the status and type is known.
        account_dead: no request with this credential will succeed until a person acts: the key is refused, or the account
            has to be paid, renewed or reinstated.
        scope: whether the account is affected as a whole, or only for the request's model.
        provider: name of the provider whose table explains the code, if one does.
    """

    group: Class
    resets_at: float | None = None
    retry_after: float | None = None
    code: str | None = None
    account_dead: bool = False
    scope: Scope = "upstream"
    provider: str | None = None


def rule(
    status: int,
    error: ErrorBody | None,
    *,
    provider: Provider = GENERIC,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
    now: float,
) -> Ruling | None:
    """What kind of refusal an answer is; None if it is no error.

    Args:
        status: the answer's HTTP status; 200 for an error event in a stream.
        error: the error in the body, or in the stream's first event; None if there is none that can be read.
        provider: whose codes to read.
        headers: the answer's header fields, names in lower case.
        now: Unix seconds; to read `Retry-After` as a date (RFC 9110 section 10.2.3), and to drop a reset that is over.
    """
    if error is None and status < 400:
        return None
    body = error or ErrorBody(f"http_{status}", "")
    word, speaker, known = identify(status, body, provider, headers)
    group = known.class_ if known is not None else _group(status, body.type, is_api=error is not None)
    return Ruling(
        group,
        _resets_at(speaker, body.message, headers, now),
        _retry_after(speaker, body.message, headers, now),
        word,
        group in _PERSISTENT and (known is None or known.scope == "upstream"),
        "upstream" if known is None else known.scope,
        speaker.name if known is not None else None,
    )


def _group(status: int, kind: str, *, is_api: bool) -> Class:
    """The class of an error that no provider's table explains, from its type and its status.

    A type that names a refusal is believed at any status (a 500 that says `rate_limit_error`); a general one, such as
    `api_error`, gives way to the status. Without an API error in the body, a 403 comes from something in front of the API,
    such as a firewall, and may concern this one request.
    """
    told, by_status = TYPES.get(kind), TYPES.get(STATUSES.get(status, ""))
    if not is_api and status == 403:
        return Class.CLIENT
    if told is not None and told.class_ not in _GENERAL:
        return told.class_
    if by_status is not None:
        return by_status.class_
    if status >= 500 or told is None:
        return Class.CLIENT if 400 <= status < 500 else Class.SERVER
    return told.class_


def _resets_at(speaker: Provider, message: str, headers: Mapping[bytes, bytes], now: float) -> float | None:
    """When the quota is back, in Unix seconds; None for a time that is over or absurd, which helps nobody."""
    stated = speaker.reset(message[:MAX_READ])
    times = [stated.at.timestamp()] if stated is not None else []
    times += [at for form in speaker.reset_headers if (at := form.read(headers)) is not None]
    return next((at for at in times if now < at <= now + MAX_AHEAD), None)


def _retry_after(speaker: Provider, message: str, headers: Mapping[bytes, bytes], now: float) -> float | None:
    """Seconds to wait; `retry-after-ms`, which Anthropic's SDKs read first, is the more exact."""
    exact = headers.get(b"retry-after-ms", b"").strip()
    if _is_short_number(exact):
        return int(exact) / 1000
    field = headers.get(b"retry-after", b"").strip()
    if _is_short_number(field):
        return float(field)
    if field:
        return _until(field, now)
    found = next((found for pattern in speaker.waits if (found := pattern.search(message[:MAX_READ]))), None)
    return float(found[1]) if found is not None else None


def _is_short_number(value: bytes) -> bool:
    return value.isdigit() and len(value) <= 12


def _until(date: bytes, now: float) -> float | None:
    """Seconds from now to an HTTP date; 0 if it is over, None if it is no date."""
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date[:64].decode("latin-1")).timestamp() - now)
    except (ValueError, OverflowError):
        return None
