"""DeepSeek. Facts and sources: docs/facts.md, "Providers"."""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import Peak, Provider
from claude_proxy.protocol.providers.codes import BALANCE_USED_UP

PROVIDERS = (
    Provider(
        name="deepseek",
        label="DeepSeek",
        domains=("deepseek.com",),
        # The HTTP status identifies errors, as at Anthropic, but the type of a 402 says nothing.
        codes={"insufficient_balance": BALANCE_USED_UP},
        patterns=((re.compile(r"(?i)insufficient balance"), "insufficient_balance"),),
        peak=Peak(((1, 4), (6, 10))),
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
            "api-docs.deepseek.com/quick_start/agent_integrations/claude_code",
        ),
    ),
)
