"""Anthropic itself. Facts and sources: docs/facts.md, "Providers"."""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import Class, Code, Provider, ResetForm, Text

CODES = {  # both are a 400 invalid_request_error; only the message shows that the client is not at fault
    "credit_balance": Code(
        Class.ACCOUNT,
        Text("credit balance too low", "크레딧 잔액 부족"),
        Text(
            "Buy credits in the Claude Console, or switch to another key.",
            "Claude Console에서 크레딧을 구매하거나 다른 키로 바꾸세요.",
        ),
        urgent=True,
    ),
    "spend_limit": Code(
        Class.STOP_UNTIL,
        Text("own usage limit reached", "설정한 사용 한도 도달"),
        Text(
            "Raise the limit in the Claude Console, or wait until access is back.",
            "Claude Console에서 한도를 올리거나 다시 사용할 수 있을 때까지 기다리세요.",
        ),
    ),
}

PROVIDERS = (
    Provider(
        name="anthropic",
        label="Anthropic",
        domains=("anthropic.com",),
        auth="x-api-key",
        codes=CODES,
        patterns=(
            (re.compile(r"credit balance is too low"), "credit_balance"),
            (re.compile(r"reached your specified API usage limits"), "spend_limit"),
        ),
        resets=(ResetForm(re.compile(r"regain access on (\d{4}-\d\d-\d\d at \d\d:\d\d) UTC")),),
        families=("claude-",),
        native=True,
        sources=("docs.anthropic.com/en/api/errors", "docs.anthropic.com/en/api/overview", "github.com/anthropics/claude-code"),
    ),
)
