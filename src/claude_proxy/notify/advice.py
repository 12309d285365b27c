"""What an error class means for a person and what to do: one table.

z.ai's codes: docs.z.ai/api-reference/api-code and FACTS section 2; the kinds are Anthropic's error types and our own codes
(`errors.py`). Providers change: a class that is not here gets the plain default.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

Scope = Literal["upstream", "model"]


class Advice(NamedTuple):
    """One class of error.

    Attributes:
        name: a few words for the title.
        do: a sentence or two: what to do.
        priority: ntfy's, 3 (mends itself) to 5 (nothing works until someone acts).
        tag: emoji short code.
        scope: whether the whole upstream is hit, or one model of it: an answer of another model is then no recovery.
    """

    name: str
    do: str
    priority: int = 3
    tag: str = "warning"
    scope: Scope = "upstream"


_KEY = (
    "Check UPSTREAM_API_KEY, or the client's ANTHROPIC_AUTH_TOKEN; coding-plan and pay-as-you-go keys have different endpoints."
)
_WAIT = "Clients try again by themselves; nothing to do unless it lasts."
_ACCOUNT = "Sign in at the provider's console and look at the account."

CODES = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), Advice("API key refused", _KEY, 4, "key")),
    **dict.fromkeys(("1110", "1111", "1112", "1120", "1121"), Advice("account blocked", _ACCOUNT, 4, "no_entry")),
    "1113": Advice(
        "account in arrears", "The balance is used up: top it up, or switch to a key with a plan.", 5, "money_with_wings"
    ),
    "1234": Advice("network trouble at the provider", _WAIT),
    "1302": Advice(
        "concurrency limit", "Too many requests at once for this plan: run fewer agents in parallel. " + _WAIT, 3, "traffic_light"
    ),
    "1303": Advice("frequency limit", "Too many requests per minute for this plan. " + _WAIT, 3, "traffic_light"),
    "1304": Advice("daily call limit", "No more calls today: wait for tomorrow, or use another key.", 4, "hourglass"),
    "1305": Advice(
        "overloaded",
        _WAIT + " If it hits one client only, at every request, the provider may be refusing that client's system prompt.",
        3,
        "hot_face",
    ),
    "1308": Advice(
        "usage window used up", "Wait for the reset, or use another plan; trying again before it is no use.", 4, "hourglass"
    ),
    "1309": Advice("plan expired", "Renew the coding plan.", 5, "no_entry"),
    "1310": Advice("weekly or monthly quota used up", "Wait for the reset, or use a larger plan.", 4, "hourglass"),
    "1311": Advice("model not in the plan", "Choose a model that the plan includes, or a larger plan.", 4, "no_entry", "model"),
    "1312": Advice("model busy", "Use another model for a while. " + _WAIT, 3, "hot_face", "model"),
    "1313": Advice(
        "fair-use throttle", "The account is slowed down for heavy use: pause, and read the plan's usage policy.", 4, "snail"
    ),
}
KINDS = {
    "authentication_error": Advice("API key refused", _KEY, 4, "key"),
    "permission_error": Advice("not permitted", "The API key may not do this: check its rights and plan.", 4, "no_entry"),
    "billing_error": Advice("billing", "Look at the account's balance and payment.", 5, "money_with_wings"),
    "rate_limit_error": Advice("rate limit", "Fewer requests at once help. " + _WAIT, 3, "traffic_light"),
    "overloaded_error": Advice("overloaded", _WAIT, 3, "hot_face"),
    "api_error": Advice("server error", _WAIT),
    "timeout_error": Advice("time-out at the provider", _WAIT, 3, "turtle"),
    "connect_failed": Advice(
        "not reachable", "Check BASE_URL, the network and HTTPS_PROXY: `claude-proxy doctor` tells which.", 4, "electric_plug"
    ),
    "name_not_found": Advice("name not found", "Check BASE_URL and this machine's DNS.", 4, "electric_plug"),
    "tls_failed": Advice("TLS failed", "Check the certificate, UPSTREAM_CA_FILE and this machine's clock.", 4, "lock"),
    "proxy_refused": Advice(
        "outbound proxy refused", "Check HTTPS_PROXY and that it lets us reach the upstream.", 4, "electric_plug"
    ),
    "connect_timeout": Advice("not reachable in time", "Check the network and HTTPS_PROXY. " + _WAIT, 4, "electric_plug"),
    "stale_connection": Advice("connection lost", _WAIT, 3, "electric_plug"),
    "connection_lost": Advice("connection lost", _WAIT, 3, "electric_plug"),
    "bad_response": Advice("unusable answer", "Check that BASE_URL is an Anthropic-compatible API."),
    "upstream_timeout": Advice("no answer in time", _WAIT, 3, "turtle"),
    "response_head_timeout": Advice("no answer in time", _WAIT, 3, "turtle"),
    "write_timeout": Advice("requests get stuck", _WAIT, 3, "turtle"),
    "upstream_is_self": Advice("BASE_URL points at this proxy", "Set BASE_URL to the provider's address.", 4, "repeat"),
    "stream_cut": Advice("answers break off", _WAIT, 3, "scissors"),
    "stream_unfinished": Advice("answers break off", _WAIT, 3, "scissors"),
    "stream_idle": Advice("answers fall silent", _WAIT, 3, "turtle"),
    "unavailable": Advice("proxy full", "Raise MAX_CONNECTIONS, or run fewer clients."),
    "internal": Advice("error in the proxy", "Please report it, with the log line.", 4, "bug"),
    "ejected": Advice("taken out of rotation", "Requests go to other upstreams; it comes back by itself.", 3, "no_entry"),
}
_RESET = re.compile(r"reset at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


def advice(word: str) -> Advice:
    """The advice for an error class: a provider's code or a kind."""
    known = CODES.get(word) or KINDS.get(word)
    if known is not None:
        return known
    name = "error" if word.isdigit() else word.removesuffix("_error").replace("http_", "HTTP ").replace("_", " ")
    return Advice(name, _WAIT)


def reset(message: str) -> str:
    """When a quota is back, in a sentence, if the message says so; else nothing.

    z.ai writes the time without a zone; it was measured to be UTC+8 (FACTS section 2), so both are told.
    """
    found = _RESET.search(message)
    if found is None:
        return ""
    try:
        utc = datetime.fromisoformat(found[1]).replace(tzinfo=UTC) - timedelta(hours=8)
    except (ValueError, OverflowError):
        return ""
    return f"Resets at {found[1]} by the provider's clock: probably UTC+8, that is {utc:%Y-%m-%d %H:%M} UTC."
