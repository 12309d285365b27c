"""Snippets to copy that point a client at this proxy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_proxy.protocol.claude_code import EFFORT, needed, picker_rows
from claude_proxy.web.facts import PROXY_KEY

if TYPE_CHECKING:
    from claude_proxy.web.facts import PageFacts


@dataclass(frozen=True, slots=True)
class Snippet:
    """A block of text to copy.

    Attributes:
        id: a word for anchors, unique among all snippets.
        label: the tab's name, the same in every language.
        text: what is copied, without a final line break.
    """

    id: str
    label: str
    text: str


def environment(base_url: str, facts: PageFacts) -> dict[str, str]:
    """Return the variables that Claude Code needs, as `claude-proxy env` sets them (https://code.claude.com/docs/en/env-vars).

    A proxy key sent as `x-api-key` in addition to a bearer token is not set as ANTHROPIC_API_KEY, because Claude Code would
    ask which of the two to use.
    """
    names = {"ANTHROPIC_BASE_URL": base_url}
    if facts.x_api_key is not None and facts.x_api_key != PROXY_KEY:
        names["ANTHROPIC_API_KEY"] = facts.x_api_key
    if facts.bearer is not None:
        names["ANTHROPIC_AUTH_TOKEN"] = facts.bearer
    if facts.x_api_key == PROXY_KEY:
        names["ANTHROPIC_CUSTOM_HEADERS"] = f"x-api-key: {PROXY_KEY}"
    needs = {variable.name: str(variable.value) for variable in needed(checks_tools=facts.checks_tools)}
    return {**names, **facts.client_models, **needs}


def settings_file(base_url: str, facts: PageFacts) -> dict[str, Any]:
    """Return Claude Code's settings.json: the variables, and model picker rows for models it would warn about."""
    rows = picker_rows(facts.client_models.values())
    beside = {"modelPicker": {"options": rows}, "effortLevel": EFFORT} if rows else {}
    return {"env": environment(base_url, facts), **beside}


def claude_code(base_url: str, facts: PageFacts) -> tuple[Snippet, ...]:
    """Return snippets that start Claude Code from each shell, and its settings file."""
    names = environment(base_url, facts).items()
    posix = [f'export {name}="{value}"' for name, value in names]
    fish = [f'set -gx {name} "{value}"' for name, value in names]
    power = [f'$env:{name} = "{value}"' for name, value in names]
    return (
        Snippet("sh", "bash · zsh", "\n".join([*posix, "claude"])),
        Snippet("fish", "fish", "\n".join([*fish, "claude"])),
        Snippet("powershell", "PowerShell", "\n".join([*power, "claude"])),
        Snippet("settings", "settings.json", json.dumps(settings_file(base_url, facts), indent=2)),
    )


def code(base_url: str, facts: PageFacts) -> tuple[Snippet, ...]:
    """Return snippets for a first streamed answer with each SDK and with curl."""
    return (
        Snippet("python", "Python", _python(base_url, facts)),
        Snippet("typescript", "TypeScript", _typescript(base_url, facts)),
        Snippet("curl", "curl", _curl(base_url, facts)),
    )


def _keys(facts: PageFacts, bearer: str, x_api_key: str, beside: str) -> str:
    """Return the lines that name the credentials; in each template `%s` stands for the value.

    The SDKs' `api_key` does not decide which header carries the key: `anthropic` 2.x sends it as a bearer token
    and then ignores `auth_token`. So a second key is set as a header, with the template `beside`.
    """
    lines = "" if facts.bearer is None else bearer % facts.bearer
    if facts.x_api_key is None:
        return lines
    return lines + (x_api_key if facts.bearer is None else beside) % facts.x_api_key


def _python(base_url: str, facts: PageFacts) -> str:
    keys = _keys(facts, '    auth_token="%s",\n', '    api_key="%s",\n', '    default_headers={"x-api-key": "%s"},\n')
    return f"""\
from anthropic import Anthropic

client = Anthropic(
    base_url="{base_url}",
{keys})
with client.messages.stream(
    model="{facts.sample_model}",
    max_tokens=1024,
    messages=[{{"role": "user", "content": "Hello!"}}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)"""


def _typescript(base_url: str, facts: PageFacts) -> str:
    keys = _keys(facts, '  authToken: "%s",\n', '  apiKey: "%s",\n', '  defaultHeaders: { "x-api-key": "%s" },\n')
    return f"""\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({{
  baseURL: "{base_url}",
{keys}}});
const stream = client.messages.stream({{
  model: "{facts.sample_model}",
  max_tokens: 1024,
  messages: [{{ role: "user", content: "Hello!" }}],
}});
stream.on("text", (text) => process.stdout.write(text));
await stream.done();"""


def _curl(base_url: str, facts: PageFacts) -> str:
    header = '  -H "x-api-key: %s" \\\n'
    keys = _keys(facts, '  -H "Authorization: Bearer %s" \\\n', header, header)
    return f"""\
curl -N {base_url}/v1/messages \\
{keys}  -H "anthropic-version: 2023-06-01" \\
  -H "content-type: application/json" \\
  -d '{{"model": "{facts.sample_model}", "max_tokens": 1024, "stream": true,
       "messages": [{{"role": "user", "content": "Hello!"}}]}}'"""
