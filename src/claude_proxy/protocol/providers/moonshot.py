"""Moonshot (pay as you go) and Kimi Code (plans). More on the facts: docs/facts.md, "Providers".

The error type identifies errors on their own API; on the Anthropic path it is often Anthropic's, and only the message tells.
"""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    AWAIT_RESET,
    CHECK_ACCOUNT,
    CHECK_KEY,
    CORRECT,
    FEWER,
    LATER,
    OTHER_MODEL,
    WAIT,
    Class,
    Code,
    Provider,
    Text,
)
from claude_proxy.protocol.providers.codes import BALANCE_USED_UP, KEY_REFUSED, OVERLOADED, RATE_LIMITED

# Types: platform.moonshot.ai/docs/api/errors
CODES = {
    "invalid_authentication_error": KEY_REFUSED,
    "permission_denied_error": Code(Class.AUTH, Text("not permitted", "권한 없음"), CHECK_KEY),
    "exceeded_current_quota_error": BALANCE_USED_UP,
    "engine_overloaded_error": OVERLOADED,
    "rate_limit_reached_error": RATE_LIMITED,
    "resource_not_found_error": Code(Class.CLIENT, Text("unknown model", "알 수 없는 모델"), OTHER_MODEL),
    "content_filter": Code(Class.CLIENT, Text("refused by the content filter", "콘텐츠 필터가 거부"), CORRECT),
    # Both come as `rate_limit_reached_error`. Seen: LLM-Red-Team/kimi-cc issue 16, MoonshotAI/kimi-cli issue 2318.
    "max_concurrency": Code(Class.CONCURRENCY, Text("concurrency limit", "동시 요청 한도"), FEWER + WAIT),
    "tokens_per_day": Code(Class.STOP_UNTIL, Text("daily token limit", "일일 토큰 한도"), LATER),
}
PATTERNS = (
    (re.compile(r"request reached (?:max organization|organization max) concurrency"), "max_concurrency"),
    (re.compile(r"request reached organization TPD rate limit"), "tokens_per_day"),
)
WAITS = (re.compile(r"please try again after (\d{1,6}) seconds?"),)  # in the same sentences
# Sentences: www.kimi.com/code/docs, "Error Reference"; of the concurrency limit: Wei-Shaw/sub2api issue 6203.
KIMI_CODES = {
    **CODES,
    "usage_limit": Code(Class.STOP_UNTIL, Text("usage limit reached", "사용량 한도 도달"), AWAIT_RESET),
    "concurrent_limit": Code(Class.CONCURRENCY, Text("concurrency limit", "동시 요청 한도"), FEWER + WAIT),
    "overloaded": CODES["engine_overloaded_error"],
    "too_many_requests": CODES["rate_limit_reached_error"],
    "access_terminated_error": Code(Class.ACCOUNT, Text("access terminated", "접근 종료"), CHECK_ACCOUNT),
    "membership": Code(Class.ACCOUNT, Text("membership not valid", "멤버십 확인 불가"), CHECK_ACCOUNT),
    "client_not_allowed": Code(  # another client may use the same key
        Class.CLIENT,
        Text("client not allowed by the plan", "플랜이 허용하지 않는 클라이언트"),
        Text(
            "The plan serves coding agents only: use one of them, or a Moonshot key.",
            "이 플랜은 코딩 에이전트 전용입니다. 코딩 에이전트나 Moonshot 키를 쓰세요.",
        ),
    ),
}

PROVIDERS = (
    Provider(
        name="moonshot",
        label="Moonshot",
        domains=("moonshot.ai", "moonshot.cn"),
        codes=CODES,
        patterns=PATTERNS,
        waits=WAITS,
        models={"FABLE": "kimi-k3", "OPUS": "kimi-k3", "SONNET": "kimi-k3", "HAIKU": "kimi-k2.6"},
        families=("kimi-", "moonshot-"),
        sample_model="kimi-k3",
        sources=("platform.moonshot.ai/docs/api/errors", "www.kimi.com/help/kimi-api/api-error-codes"),
    ),
    Provider(
        name="kimi",
        label="Kimi",
        domains=("kimi.com",),
        codes=KIMI_CODES,
        patterns=(
            *PATTERNS,
            (re.compile(r"reached your (?:[\w-]{1,40} (?:\([^)]{0,40}\) )?)?usage limit"), "usage_limit"),
            (re.compile(r"reached your concurrent request limit"), "concurrent_limit"),
            (re.compile(r"engine is currently overloaded"), "overloaded"),
            (re.compile(r"receiving too many requests"), "too_many_requests"),
            (re.compile(r"unable to verify your membership"), "membership"),
            (re.compile(r"only available for Coding Agents"), "client_not_allowed"),
        ),
        waits=WAITS,
        # It reports its quota at /coding/v1/usages (steipete/CodexBar issue 1412), in a form that we do not read.
        models=dict.fromkeys(("FABLE", "OPUS", "SONNET", "HAIKU"), "kimi-for-coding"),
        families=("kimi-", "k3"),
        sample_model="kimi-for-coding",
        sources=("www.kimi.com/code/docs/en/kimi-code/error-reference.html",),
    ),
)
