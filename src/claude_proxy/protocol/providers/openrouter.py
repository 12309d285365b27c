"""OpenRouter: a relay in front of many providers. Facts and sources: docs/facts.md, "Providers"."""

from __future__ import annotations

from claude_proxy.protocol.providers.base import CORRECT, TOP_UP, WAIT, Class, Code, Provider, Text
from claude_proxy.protocol.providers.codes import KEY_REFUSED, RATE_LIMITED, TIMED_OUT

OTHER = Text("Use another model for a while.", "잠시 다른 모델을 쓰세요.")
CODES = {  # `error.code` is an HTTP status, even if an error ends a stream that began with a 200
    "401": KEY_REFUSED,
    "402": Code(Class.ACCOUNT, Text("out of credits", "크레딧 부족"), TOP_UP, urgent=True),
    "403": Code(Class.CLIENT, Text("refused by moderation or a guardrail", "검열 또는 가드레일이 거부"), CORRECT),
    "408": TIMED_OUT,
    "429": RATE_LIMITED,
    "502": Code(Class.SERVER, Text("model down", "모델 장애"), OTHER + WAIT, scope="model"),
    "503": Code(Class.OVERLOAD, Text("no provider for this model", "이 모델의 제공자 없음"), OTHER + WAIT, scope="model"),
}

PROVIDERS = (
    Provider(
        name="openrouter",
        label="OpenRouter",
        domains=("openrouter.ai",),
        codes=CODES,
        relays=True,
        sources=("openrouter.ai/docs/api/errors",),
    ),
)
