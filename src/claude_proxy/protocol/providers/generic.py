"""Any Anthropic-compatible API: the error types of the Messages API (docs.anthropic.com/en/api/errors).

An unknown host may be a relay in front of another provider. So a form that only one provider uses (z.ai's `[1302][...]`) is
recognised there too, with that provider's table. An ambiguous number is not: 1002 is a wrong key at z.ai, but a rate limit
at MiniMax.
"""

from __future__ import annotations

from claude_proxy.protocol.providers.base import CORRECT, OTHER_MODEL, WAIT, Class, Code, Provider, Text
from claude_proxy.protocol.providers.codes import KEY_REFUSED, OVERLOADED, TIMED_OUT

GENERIC = Provider(name="generic", label="upstream", relays=True)
PROVIDERS = (GENERIC,)

TYPES = {
    "invalid_request_error": Code(Class.CLIENT, Text("invalid request", "잘못된 요청"), CORRECT),
    "not_found_error": Code(Class.CLIENT, Text("not found", "찾을 수 없음"), OTHER_MODEL),
    "request_too_large": Code(Class.CLIENT, Text("request too large", "너무 큰 요청"), CORRECT),
    "conflict_error": Code(Class.CLIENT, Text("conflict", "충돌"), CORRECT),
    "authentication_error": KEY_REFUSED,
    "permission_error": Code(
        Class.AUTH,
        Text("not permitted", "권한 없음"),
        Text(
            "The API key is not allowed to do this: check its permissions and plan.",
            "이 API 키에는 권한이 없습니다. 키의 권한과 플랜을 확인하세요.",
        ),
    ),
    "billing_error": Code(
        Class.ACCOUNT,
        Text("billing", "결제"),
        Text("Check the account's balance and payment method.", "계정의 잔액과 결제 수단을 확인하세요."),
        urgent=True,
    ),
    "rate_limit_error": Code(
        Class.RATE, Text("rate limit", "요청 한도"), Text("Send fewer at once.", "동시 요청을 줄이면 나아집니다.") + WAIT
    ),
    "overloaded_error": OVERLOADED,
    "api_error": Code(Class.SERVER, Text("server error", "서버 오류"), WAIT),
    "timeout_error": TIMED_OUT,
}
STATUSES = {  # the error type for each status of the Messages API
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
