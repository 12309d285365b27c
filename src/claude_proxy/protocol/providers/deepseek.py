"""DeepSeek. More on the facts: docs/facts.md, "Providers"."""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    CORRECT,
    FEWER,
    SLOWER,
    WAIT,
    Class,
    Code,
    Peak,
    Provider,
    Text,
)
from claude_proxy.protocol.providers.codes import BALANCE_USED_UP, OVERLOADED

CODES = {
    # Seen at 402, with a type that says nothing (`unknown_error`).
    "insufficient_balance": BALANCE_USED_UP,
    "overloaded": OVERLOADED,
    # One status for a high rate and for too many at once (500 to 2,500 per model, which few people reach).
    "rate_limit": Code(Class.RATE, Text("rate limit", "요청 한도"), SLOWER + FEWER + WAIT),
    "invalid_parameters": Code(Class.CLIENT, Text("parameter not valid", "유효하지 않은 매개변수"), CORRECT),
}

PROVIDERS = (
    Provider(
        name="deepseek",
        label="DeepSeek",
        domains=("deepseek.com",),
        codes=CODES,
        patterns=((re.compile(r"(?i)insufficient balance"), "insufficient_balance"),),
        # Its errors are told apart by their HTTP status: api-docs.deepseek.com/quick_start/error_codes
        statuses={402: "insufficient_balance", 422: "invalid_parameters", 429: "rate_limit", 503: "overloaded"},
        peak=Peak(((1, 4), (6, 10))),  # api-docs.deepseek.com/quick_start/pricing: double price, in UTC
        models={
            "FABLE": "deepseek-v4-pro[1m]",
            "OPUS": "deepseek-v4-pro[1m]",
            "SONNET": "deepseek-v4-pro[1m]",
            "HAIKU": "deepseek-flash",
        },
        families=("deepseek-",),
        sample_model="deepseek-v4-pro",
        sources=(
            "api-docs.deepseek.com/quick_start/error_codes",
            "api-docs.deepseek.com/quick_start/pricing",
            "api-docs.deepseek.com/quick_start/rate_limit",
            "api-docs.deepseek.com/quick_start/agent_integrations/claude_code",
        ),
    ),
)
