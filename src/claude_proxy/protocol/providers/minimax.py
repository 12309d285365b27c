"""MiniMax. Facts and sources: docs/facts.md, "Providers".

Its numbers overlap with z.ai's but mean something else (1002 is a rate limit here and a wrong key there), so they are read only
at MiniMax's own hosts.
"""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    AWAIT_RESET,
    CHECK_KEY,
    SLOWER,
    TOP_UP,
    WAIT,
    Class,
    Code,
    Form,
    Provider,
    ResetForm,
    Text,
)

_KEY = Code(Class.AUTH, Text("API key refused", "API 키 거부"), CHECK_KEY)
_USED_UP = Code(Class.STOP_UNTIL, Text("usage window used up", "사용량 한도 소진"), AWAIT_RESET)

CODES = {
    "1000": Code(Class.SERVER, Text("unknown error", "알 수 없는 오류"), WAIT),
    "1001": Code(Class.SERVER, Text("timeout at the provider", "제공자 시간 초과"), WAIT),
    "1002": Code(Class.RATE, Text("rate limit", "요청 한도"), SLOWER + WAIT),
    "1004": _KEY,
    "1008": Code(Class.ACCOUNT, Text("balance used up", "잔액 소진"), TOP_UP, urgent=True),
    "1024": Code(Class.SERVER, Text("internal error", "내부 오류"), WAIT),
    "1028": _USED_UP,
    "1030": _USED_UP,
    "2056": _USED_UP,
    "2061": Code(
        Class.ACCOUNT,
        Text("model not in the plan", "플랜에 없는 모델"),
        Text("Choose a model that the plan includes, or a larger plan.", "플랜에 포함된 모델이나 더 큰 플랜을 고르세요."),
        scope="model",
    ),
}

PROVIDERS = (
    Provider(
        name="minimax",
        label="MiniMax",
        domains=("minimax.io", "minimaxi.com"),
        codes=CODES,
        form=Form(re.compile(r"(?P<text>.*)\((?P<code>\d{4})\)\s*$", re.DOTALL)),  # `usage limit exceeded, ... (2056)`
        resets=(ResetForm(re.compile(r"resets at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")),),
        models={"FABLE": "MiniMax-M3", "OPUS": "MiniMax-M3", "SONNET": "MiniMax-M3", "HAIKU": "MiniMax-M2.7"},
        families=("minimax-",),
        sample_model="MiniMax-M3",
        sources=(
            "platform.minimax.io/docs/api-reference/errorcode",
            "github.com/MiniMax-AI/cli",
            "github.com/MiniMax-AI/MiniMax-M2.7/issues/36",
        ),
    ),
)
