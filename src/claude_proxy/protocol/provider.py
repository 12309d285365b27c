"""What providers' own error codes mean: the one table of provider knowledge.

z.ai words errors as `[code][text][request-id]`, with or without `error.code` (docs.z.ai/api-reference/api-code, FACTS
section 2). Treat each entry as "may change": an unknown code is simply passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from claude_proxy.errors import Side
from claude_proxy.exchange import Failure
from claude_proxy.protocol.usage import ErrorBody


class Code(NamedTuple):
    """One provider code.

    Attributes:
        side: who has to act.
        retry: whether trying again soon can help.
        meaning: a few plain words.
    """

    side: Side
    retry: bool
    meaning: str


ZAI = {
    "1000": Code("upstream", False, "authentication failed"),
    "1001": Code("upstream", False, "no credential received"),
    "1002": Code("upstream", False, "credential not valid"),
    "1003": Code("upstream", False, "credential expired"),
    "1004": Code("upstream", False, "credential refused"),
    "1110": Code("upstream", False, "account inactive"),
    "1111": Code("upstream", False, "account does not exist"),
    "1112": Code("upstream", False, "account locked"),
    "1113": Code("upstream", False, "account in arrears"),
    "1120": Code("upstream", False, "account not reachable"),
    "1121": Code("upstream", False, "account suspended"),
    "1210": Code("client", False, "wrong parameter"),
    "1211": Code("client", False, "unknown model"),
    "1212": Code("client", False, "model does not support this call"),
    "1213": Code("client", False, "parameter missing"),
    "1214": Code("client", False, "parameter not valid"),
    "1215": Code("client", False, "parameters exclude each other"),
    "1234": Code("upstream", True, "network trouble at the provider"),
    "1261": Code("client", False, "prompt too long"),
    "1301": Code("client", False, "refused by the content filter"),
    "1302": Code("upstream", True, "concurrency limit"),
    "1303": Code("upstream", True, "request frequency limit"),
    "1304": Code("upstream", False, "daily call limit"),
    "1305": Code("upstream", True, "provider overloaded"),
    "1308": Code("upstream", False, "usage window used up"),
    "1309": Code("upstream", False, "plan expired"),
    "1310": Code("upstream", False, "weekly or monthly quota used up"),
    "1311": Code("upstream", False, "model not in the plan"),
    "1312": Code("upstream", True, "model busy"),
    "1313": Code("upstream", False, "throttled by the fair-use policy"),
}
_CODED = re.compile(r"\[(\d{3,5})\]\s*\[(.*?)\](?:\s*\[[^\]]*\])?\s*$", re.DOTALL)
_SECRET = re.compile(r"(?i)\b(?:sk-[\w-]{6,}|tk_\w{6,}|bearer\s+\S+|[0-9a-f]{32}\.\w{8,})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # an upstream is not to move the cursor of whoever reads the log
MAX_MESSAGE = 300


def code_of(error: ErrorBody) -> str | None:
    """The provider's number in an error, from `code`, `type` or the bracketed message; None if it has none."""
    for candidate in (error.code, error.type):
        if candidate is not None and candidate.isdigit():
            return candidate
    match = _CODED.match(error.message)
    return match[1] if match else None


def text_of(error: ErrorBody, secrets: Iterable[str] = ()) -> str:
    """The error's own words, without brackets, control characters, secrets (`secrets`, and what looks like one) and excess."""
    match = _CODED.match(error.message)
    text = match[2] if match else error.message
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return _SECRET.sub("[redacted]", " ".join(_CONTROL.sub(" ", text).split()))[:MAX_MESSAGE]


def judge(status: int, error: ErrorBody | None, *, credential_held: bool, secrets: Iterable[str] = ()) -> Failure | None:
    """Whose side an upstream's error is, in a `Failure`; None if the answer is no error.

    Args:
        status: the answer's HTTP status. A 200 whose stream carries an error is one too.
        credential_held: with the proxy's own credential, a 401 or 403 is not the client's to mend.
        secrets: what must not be in the failure's message, should the upstream quote it.
    """
    if error is None:
        if status < 400:
            return None
        error = ErrorBody(f"http_{status}", "")
    number = code_of(error)
    known = ZAI.get(number) if number is not None else None
    side = known.side if known is not None else _side(status, error.type)
    if status in (401, 403) or error.type in ("authentication_error", "permission_error") or _is_auth(number):
        side = "proxy" if credential_held else "client"
    kind = error.type if not error.type.isdigit() else _kind(status)
    words = text_of(error, secrets) or (known.meaning if known else f"the upstream answered {status}")
    return Failure(side, kind, words, number)


def retry_hint(failure: Failure | None) -> bool | None:
    """Whether a client should try again, where the provider's code tells; None where we do not know."""
    known = ZAI.get(failure.provider_code or "") if failure is not None else None
    return None if known is None or known.retry else False


def _is_auth(number: str | None) -> bool:
    return number is not None and number.startswith("100")


def _side(status: int, kind: str) -> Side:
    if status >= 500 or status == 429 or kind in ("overloaded_error", "rate_limit_error", "api_error", "timeout_error"):
        return "upstream"
    if status == 402 or kind == "billing_error":
        return "upstream"
    return "client" if status >= 400 or kind == "invalid_request_error" else "upstream"


def _kind(status: int) -> str:
    return {429: "rate_limit_error", 529: "overloaded_error", 401: "authentication_error"}.get(status, "api_error")
