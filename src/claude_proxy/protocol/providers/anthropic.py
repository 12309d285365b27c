"""Anthropic itself. More on the facts: docs/facts.md, "Providers"."""

from __future__ import annotations

import re

from claude_proxy.protocol.providers.base import (
    AWAIT_RESET,
    CHECK_ACCOUNT,
    FEWER,
    WAIT,
    Class,
    Code,
    Mark,
    Provider,
    ResetForm,
    ResetHeader,
    Text,
)

CODES = {
    # Seen: anthropics/claude-code issue 66314. A 400 invalid_request_error: only its sentence tells.
    "credit_balance": Code(
        Class.ACCOUNT,
        Text("credit balance too low", "크레딧 잔액 부족"),
        Text(
            "Buy credits in the Claude Console, or switch to another key.",
            "Claude Console에서 크레딧을 구매하거나 다른 키로 바꾸세요.",
        ),
        urgent=True,
    ),
    # docs.anthropic.com/en/api/errors: also a 400; the sentence names the day on which access returns.
    "spend_limit": Code(
        Class.STOP_UNTIL,
        Text("own usage limit reached", "설정한 사용 한도 도달"),
        Text(
            "Raise the limit in the Claude Console, or wait until access is back.",
            "Claude Console에서 한도를 올리거나 다시 사용할 수 있을 때까지 기다리세요.",
        ),
    ),
    # docs.anthropic.com/en/api/errors: a 429 without `retry-after`; `error.details.error_code` tells it from a rate limit.
    "enforced_spend_limit_reached": Code(
        Class.STOP_UNTIL,
        Text("monthly spend limit of the usage tier reached", "사용 등급의 월 지출 한도 도달"),
        Text(
            "Access returns on the first of the next month (UTC). A higher usage tier brings it back at once.",
            "다음 달 1일(UTC)에 다시 사용할 수 있습니다. 사용 등급을 올리면 바로 사용할 수 있습니다.",
        ),
    ),
    # Seen: anthropics/claude-code issues 19028 and 72457. Also a 400 invalid_request_error.
    "organization_disabled": Code(Class.ACCOUNT, Text("organization disabled", "비활성화된 조직"), CHECK_ACCOUNT, urgent=True),
    # Seen: cline/cline issue 4351. A 429 rate_limit_error like any other but for its sentence.
    "concurrent_connections": Code(Class.CONCURRENCY, Text("concurrency limit", "동시 요청 한도"), FEWER + WAIT),
    # Seen: router-for-me/CLIProxyAPI pull request 3148. A plan's five-hour or weekly window, told by the response's headers.
    "plan_window": Code(Class.STOP_UNTIL, Text("usage window used up", "사용량 한도 소진"), AWAIT_RESET),
}

PROVIDERS = (
    Provider(
        name="anthropic",
        label="Anthropic",
        domains=("anthropic.com",),
        auth="x-api-key",  # docs.anthropic.com/en/api/overview
        codes=CODES,
        patterns=(
            (re.compile(r"credit balance is too low"), "credit_balance"),
            (re.compile(r"reached your specified (?:workspace )?API usage limits"), "spend_limit"),
            (re.compile(r"organization has been disabled"), "organization_disabled"),
            (re.compile(r"(?i)number of concurrent connections has exceeded"), "concurrent_connections"),
        ),
        marks=(Mark("anthropic-ratelimit-unified-status", "rejected", "plan_window"),),
        resets=(ResetForm(re.compile(r"regain access on (\d{4}-\d\d-\d\d at \d\d:\d\d) UTC")),),
        reset_headers=(ResetHeader("anthropic-ratelimit-unified-reset"),),  # Unix seconds; the same pull request
        families=("claude-",),
        native=True,
        sources=("docs.anthropic.com/en/api/errors", "docs.anthropic.com/en/api/overview", "github.com/anthropics/claude-code"),
    ),
)
