"""MiniMax. More on the facts: docs/facts.md, "Providers".

Its numbers overlap with z.ai's but mean something else (1002 is a rate limit here and a wrong key there), so they are read only
at MiniMax's own hosts.
"""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    CHECK_KEY,
    CORRECT,
    FEWER,
    SLOWER,
    WAIT,
    Class,
    Code,
    Form,
    Provider,
    ResetForm,
    Text,
)
from claude_proxy.protocol.providers.codes import (
    BALANCE_USED_UP,
    KEY_REFUSED,
    NOT_IN_PLAN,
    RATE_LIMITED,
    TIMED_OUT,
    WINDOW_USED_UP,
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

# platform.minimax.io/docs/api-reference/errorcode, but for those with a source of their own.
CODES = {
    "1000": Code(Class.SERVER, Text("unknown error", "알 수 없는 오류"), WAIT),
    "1001": TIMED_OUT,
    "1002": RATE_LIMITED,
    "1004": KEY_REFUSED,
    "1008": BALANCE_USED_UP,
    "1024": Code(Class.SERVER, Text("internal error", "내부 오류"), WAIT),
    "1026": _FILTERED,
    "1027": _FILTERED,
    "1028": WINDOW_USED_UP,  # github.com/MiniMax-AI/cli
    "1030": WINDOW_USED_UP,  # github.com/MiniMax-AI/cli
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
    "2056": WINDOW_USED_UP,  # seen: MiniMax-AI/MiniMax-M2.7 issue 36
    "2061": NOT_IN_PLAN,  # github.com/MiniMax-AI/cli
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
