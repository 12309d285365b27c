"""OpenRouter: a relay in front of many providers. More on the facts: docs/facts.md, "Providers"."""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    CORRECT,
    OTHER_MODEL,
    TOP_UP,
    WAIT,
    Class,
    Code,
    Provider,
    Text,
)
from claude_proxy.protocol.providers.codes import KEY_REFUSED, RATE_LIMITED, TIMED_OUT

OTHER = Text("Use another model for a while.", "잠시 다른 모델을 쓰세요.")
# openrouter.ai/docs/api/reference/errors-and-debugging: `error.code` repeats the HTTP status, also where the answer is a 200
# whose stream breaks off with an error.
CODES = {
    "400": Code(Class.CLIENT, Text("invalid request", "잘못된 요청"), CORRECT),
    "401": KEY_REFUSED,
    "402": Code(Class.ACCOUNT, Text("out of credits", "크레딧 부족"), TOP_UP, urgent=True),
    "403": Code(Class.CLIENT, Text("refused by moderation or a guardrail", "검열 또는 가드레일이 거부"), CORRECT),
    "404": Code(Class.CLIENT, Text("unknown model", "알 수 없는 모델"), OTHER_MODEL),
    "408": TIMED_OUT,
    "429": RATE_LIMITED,
    "502": Code(Class.SERVER, Text("model down", "모델 장애"), OTHER + WAIT, scope="model"),
    "503": Code(Class.OVERLOAD, Text("no provider for this model", "이 모델의 제공자 없음"), OTHER + WAIT, scope="model"),
    # Seen: Gitlawb/openclaude issues 936 and 1549. A 429 like any other but for its sentence.
    "free_models_per_day": Code(
        Class.STOP_UNTIL,
        Text("daily limit of the free models", "무료 모델의 일일 한도"),
        Text(
            "Wait for tomorrow, choose a paid model, or buy credits, which raise the limit.",
            "내일까지 기다리거나 유료 모델을 고르거나, 크레딧을 구매해 한도를 올리세요.",
        ),
        scope="model",
    ),
}

PROVIDERS = (
    Provider(
        name="openrouter",
        label="OpenRouter",
        domains=("openrouter.ai",),
        codes=CODES,
        patterns=((re.compile(r"Rate limit exceeded: free-models-per-day"), "free_models_per_day"),),
        relays=True,
        sources=("openrouter.ai/docs/api/reference/errors-and-debugging", "openrouter.ai/docs/api/reference/limits"),
    ),
)
