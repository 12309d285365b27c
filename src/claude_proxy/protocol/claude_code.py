"""What Claude Code has to be told about the upstream behind a proxy. Pure data, for `claude-proxy env` and the start page.

Names: https://code.claude.com/docs/en/env-vars and https://code.claude.com/docs/en/settings. What each one does was
measured with Claude Code 2.1.332; tests/integration/test_claude_code.py repeats the measurements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from claude_proxy.protocol.providers import PROVIDERS, Provider


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable to set, or with `value` None one to remove; `why` is a sentence for a comment."""

    name: str
    value: str | None
    why: str


# Claude Code drops a request that has no response head after the idle limit plus one minute (five minutes plus one by
# default), and never later than API_TIMEOUT_MS (ten minutes by default). So neither variable alone is enough.
TIMEOUTS = (
    Variable(
        "API_TIMEOUT_MS", "3000000", "A silent answer is given half an hour instead of six minutes; this takes the next one too."
    ),
    Variable(
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS",
        "1800000",
        "The proxy notices a stalled stream (STREAM_IDLE_TIMEOUT); this is only the outer limit.",
    ),
)
HINTS = Variable("CLAUDE_CODE_GATEWAY_HINT_HEADERS", "1", "Each request says what it is for; the proxy's log shows it.")

# Auto mode, the interactive default, has the API judge each tool call (`safeguards` in the request, `safeguard_results` in
# the answer). Only Anthropic's API answers that. Without an answer `-p` refuses the tool, and a dialog asks the user
# otherwise. With 0 Claude Code asks a model of its own choice: ANTHROPIC_DEFAULT_SONNET_MODEL, else `claude-sonnet-5`.
AUTO_MODE = Variable(
    "CLAUDE_CODE_AUTO_MODE_SERVER", "0", "Auto mode has the sonnet model check tool calls; only Anthropic's API does it itself."
)
CHECKING_MODEL = "ANTHROPIC_DEFAULT_SONNET_MODEL"

DISCOVERY = "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"
DISCOVERY_TIMEOUT = Variable(
    "CLAUDE_CODE_GATEWAY_MODEL_DISCOVERY_TIMEOUT_MS", "10000", "Listing the models may take 10 seconds instead of 3."
)

MODEL_NAMES = tuple(f"ANTHROPIC_DEFAULT_{role}_MODEL" for role in ("FABLE", "OPUS", "SONNET", "HAIKU"))

# What the warning about a model that Claude Code does not know is silenced with brings an effort of its own: medium, which
# GLM-5.3 does not list (low, high, max). This one keeps what an unknown model gets.
EFFORT = "high"


def model_variables(provider: Provider) -> dict[str, str]:
    """The variables with the models that `provider` suggests for Claude Code."""
    return {f"ANTHROPIC_DEFAULT_{role}_MODEL": model for role, model in provider.models.items()}


def needed(*, checks_tools: bool) -> tuple[Variable, ...]:
    """What Claude Code needs whatever models it uses.

    Args:
        checks_tools: whether the upstream answers auto mode's safety check; only Anthropic does.
    """
    return (*TIMEOUTS, HINTS, *(() if checks_tools else (AUTO_MODE,)))


def picker_rows(models: Iterable[str]) -> list[dict[str, Any]]:
    """Rows for `modelPicker.options` of Claude Code's settings: those of `models` that need one."""
    resembles = {model: known for provider in PROVIDERS for model, known in provider.resembles.items()}
    return [{"model": model, "behavesAs": resembles[model]} for model in dict.fromkeys(models) if model in resembles]
