"""MiniMax. More on the facts: docs/facts.md, "Providers".

Its numbers overlap with z.ai's and mean other things (1002 is a rate limit here and a wrong key there), so they are only ever
read at MiniMax's own hosts.
"""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    AWAIT_RESET,
    CHECK_KEY,
    CORRECT,
    FEWER,
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

_KEY = Code(
    Class.AUTH,
    Text("API key refused", "API 키 거부"),
    CHECK_KEY
    + Text(
        "A key for minimax.io is refused at minimaxi.com, and the reverse.",
        "minimax.io의 키는 minimaxi.com에서 쓸 수 없고, 그 반대도 마찬가지입니다.",
    ),
)
_FILTERED = Code(Class.CLIENT, Text("refused by the content filter", "콘텐츠 필터가 거부"), CORRECT)
_USED_UP = Code(Class.STOP_UNTIL, Text("usage window used up", "사용량 한도 소진"), AWAIT_RESET)

# platform.minimax.io/docs/api-reference/errorcode, but for those with a source of their own.
CODES = {
    "1000": Code(Class.SERVER, Text("unknown error", "알 수 없는 오류"), WAIT),
    "1001": Code(Class.SERVER, Text("time-out at the provider", "제공자 시간 초과"), WAIT),
    "1002": Code(Class.RATE, Text("rate limit", "요청 한도"), SLOWER + WAIT),
    "1004": _KEY,
    "1008": Code(Class.ACCOUNT, Text("balance used up", "잔액 소진"), TOP_UP, urgent=True),
    "1024": Code(Class.SERVER, Text("internal error", "내부 오류"), WAIT),
    "1026": _FILTERED,
    "1027": _FILTERED,
    "1028": _USED_UP,  # github.com/MiniMax-AI/cli
    "1030": _USED_UP,  # github.com/MiniMax-AI/cli
    "1033": Code(Class.SERVER, Text("fault behind the API", "내부 서비스 오류"), WAIT),
    "1039": Code(Class.RATE, Text("token rate limit", "토큰 한도"), SLOWER + WAIT),
    "1041": Code(Class.CONCURRENCY, Text("concurrency limit", "동시 요청 한도"), FEWER + WAIT),
    "2013": Code(Class.CLIENT, Text("parameter not valid", "유효하지 않은 매개변수"), CORRECT),
    "2045": Code(
        Class.RATE,
        Text("rate limit for sudden growth", "급격한 증가에 따른 요청 한도"),
        Text("Start fewer requests at the same time.", "한꺼번에 시작하는 요청을 줄이세요.") + WAIT,
    ),
    "2049": _KEY,
    "2056": _USED_UP,  # seen: MiniMax-AI/MiniMax-M2.7 issue 36
    "2061": Code(
        Class.ACCOUNT,
        Text("model not in the plan", "플랜에 없는 모델"),
        Text("Choose a model that the plan includes, or a larger plan.", "플랜에 포함된 모델이나 더 큰 플랜을 고르세요."),
        scope="model",
    ),  # github.com/MiniMax-AI/cli
}

PROVIDERS = (
    Provider(
        name="minimax",
        label="MiniMax",
        domains=("minimax.io", "minimaxi.com"),
        codes=CODES,
        form=Form(
            re.compile(r"(?P<text>.*)\((?P<code>\d{4})\)\s*$", re.DOTALL)
        ),  # `usage limit exceeded, ... (2056)`, MiniMax-M2.7 issue 36
        resets=(ResetForm(re.compile(r"resets at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")),),
        # It reports its quota at /v1/token_plan/remains (MiniMax-AI/cli pull request 104), in a form that we do not read.
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
