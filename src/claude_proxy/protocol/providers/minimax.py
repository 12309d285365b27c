"""MiniMax. Facts and sources: docs/facts.md, "Providers".

Its numbers overlap with z.ai's but mean something else (1002 is a rate limit here and a wrong key there), so they are read only
at MiniMax's own hosts.
"""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import WAIT, Class, Code, Form, Provider, ResetForm, Text
from claude_proxy.protocol.providers.codes import (
    BALANCE_USED_UP,
    KEY_REFUSED,
    NOT_IN_PLAN,
    RATE_LIMITED,
    TIMED_OUT,
    WINDOW_USED_UP,
)

CODES = {
    "1000": Code(Class.SERVER, Text("unknown error", "알 수 없는 오류"), WAIT),
    "1001": TIMED_OUT,
    "1002": RATE_LIMITED,
    "1004": KEY_REFUSED,
    "1008": BALANCE_USED_UP,
    "1024": Code(Class.SERVER, Text("internal error", "내부 오류"), WAIT),
    "1028": WINDOW_USED_UP,
    "1030": WINDOW_USED_UP,
    "2056": WINDOW_USED_UP,
    "2061": NOT_IN_PLAN,
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
