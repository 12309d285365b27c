"""The variables and settings that Claude Code needs behind the proxy. Pure data, for `claude-proxy env` and the start page.

Names: https://code.claude.com/docs/en/env-vars and https://code.claude.com/docs/en/settings. Their effects were measured with
Claude Code 2.1.332; tests/integration/test_claude_code.py repeats the measurements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from claude_proxy.protocol.providers import PROVIDERS, Provider


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable to set, or to remove if `value` is None. `why` is a sentence for a comment."""

    name: str
    value: str | None
    why: str


# Claude Code drops a request that has no response head after the idle limit plus one minute (five minutes plus one by
# default), and never later than API_TIMEOUT_MS (ten minutes by default). So neither variable alone is enough.
TIMEOUTS = (
    Variable(
        "API_TIMEOUT_MS", "3000000", "Wait half an hour for a silent answer instead of six minutes; needs the next variable too."
    ),
    Variable(
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS",
        "1800000",
        "The proxy detects a stalled stream itself (STREAM_IDLE_TIMEOUT); this is only the outer limit.",
    ),
)
HINTS = Variable("CLAUDE_CODE_GATEWAY_HINT_HEADERS", "1", "Requests tell the proxy what they are for; its log shows that.")

# Auto mode, the interactive default, lets the API check each tool call (`safeguards` in the request, `safeguard_results` in
# the answer). Only Anthropic's API does that. If the result is missing, Claude Code asks the user in a dialog; with `-p` it
# refuses the tool. With 0 it asks a model instead: ANTHROPIC_DEFAULT_SONNET_MODEL, else `claude-sonnet-5`.
AUTO_MODE = Variable(
    "CLAUDE_CODE_AUTO_MODE_SERVER", "0", "In auto mode the sonnet model checks tool calls; only Anthropic's API does it itself."
)
CHECKING_MODEL = "ANTHROPIC_DEFAULT_SONNET_MODEL"

DISCOVERY = "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"
DISCOVERY_TIMEOUT = Variable(
    "CLAUDE_CODE_GATEWAY_MODEL_DISCOVERY_TIMEOUT_MS", "10000", "Wait 10 seconds for the list of models instead of 3."
)

MODEL_NAMES = tuple(f"ANTHROPIC_DEFAULT_{role}_MODEL" for role in ("FABLE", "OPUS", "SONNET", "HAIKU"))

# The setting that silences the warning about an unknown model also sets the effort to medium, which GLM-5.3 does not list (low,
# high, max). This value keeps the effort that unknown models get.
EFFORT = "high"


def model_variables(provider: Provider) -> dict[str, str]:
    """Return the variables that name the models which `provider` suggests for Claude Code."""
    return {f"ANTHROPIC_DEFAULT_{role}_MODEL": model for role, model in provider.models.items()}


def needed(*, checks_tools: bool) -> tuple[Variable, ...]:
    """Return the variables that Claude Code needs with any model.

    Args:
        checks_tools: whether the upstream checks tool calls for auto mode; only Anthropic does.
    """
    return (*TIMEOUTS, HINTS, *(() if checks_tools else (AUTO_MODE,)))


def picker_rows(models: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows of `modelPicker.options` in Claude Code's settings for those of `models` that need one."""
    resembles = {model: known for provider in PROVIDERS for model, known in provider.resembles.items()}
    return [{"model": model, "behavesAs": resembles[model]} for model in dict.fromkeys(models) if model in resembles]
