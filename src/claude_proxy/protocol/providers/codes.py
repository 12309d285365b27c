"""Errors that several providers have, each under a code of its own."""

from __future__ import annotations

from claude_proxy.protocol.providers.base import AWAIT_RESET, CHECK_KEY, SLOWER, TOP_UP, WAIT, Class, Code, Text

KEY_REFUSED = Code(Class.AUTH, Text("API key refused", "API 키 거부"), CHECK_KEY)
BALANCE_USED_UP = Code(Class.ACCOUNT, Text("balance used up", "잔액 소진"), TOP_UP, urgent=True)
WINDOW_USED_UP = Code(Class.STOP_UNTIL, Text("usage window used up", "사용량 한도 소진"), AWAIT_RESET)
RATE_LIMITED = Code(Class.RATE, Text("rate limit", "요청 한도"), SLOWER + WAIT)
OVERLOADED = Code(Class.OVERLOAD, Text("overloaded", "과부하"), WAIT)
TIMED_OUT = Code(Class.SERVER, Text("timeout at the provider", "제공자 시간 초과"), WAIT)
NOT_IN_PLAN = Code(
    Class.ACCOUNT,
    Text("model not in the plan", "플랜에 없는 모델"),
    Text("Choose a model that the plan includes, or a larger plan.", "플랜에 포함된 모델이나 더 큰 플랜을 고르세요."),
    scope="model",
)
