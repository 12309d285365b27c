"""Lines to copy that point a client at this proxy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_proxy.web.facts import PageFacts


@dataclass(frozen=True, slots=True)
class Snippet:
    """A block of text to copy.

    Attributes:
        id: a word for anchors, unique among all snippets.
        label: the tab's name, the same in every language.
        text: what is copied, without a line break at its end.
    """

    id: str
    label: str
    text: str


def environment(base_url: str, facts: PageFacts) -> dict[str, str]:
    """The variables that Claude Code and the SDKs read (FACTS section 1)."""
    key = "ANTHROPIC_API_KEY" if facts.takes_x_api_key else "ANTHROPIC_AUTH_TOKEN"
    return {"ANTHROPIC_BASE_URL": base_url, key: facts.placeholder}


def claude_code(base_url: str, facts: PageFacts) -> tuple[Snippet, ...]:
    """How to start Claude Code from each shell, and its settings file."""
    names = environment(base_url, facts).items()
    posix = [f'export {name}="{value}"' for name, value in names]
    fish = [f'set -gx {name} "{value}"' for name, value in names]
    power = [f'$env:{name} = "{value}"' for name, value in names]
    return (
        Snippet("sh", "bash · zsh", "\n".join([*posix, "claude"])),
        Snippet("fish", "fish", "\n".join([*fish, "claude"])),
        Snippet("powershell", "PowerShell", "\n".join([*power, "claude"])),
        Snippet("settings", "settings.json", json.dumps({"env": dict(names)}, indent=2)),
    )


def code(base_url: str, facts: PageFacts) -> tuple[Snippet, ...]:
    """A first streamed answer with each SDK and with curl."""
    return (
        Snippet("python", "Python", _python(base_url, facts)),
        Snippet("typescript", "TypeScript", _typescript(base_url, facts)),
        Snippet("curl", "curl", _curl(base_url, facts)),
    )


def _python(base_url: str, facts: PageFacts) -> str:
    key = "api_key" if facts.takes_x_api_key else "auth_token"
    return f"""\
from anthropic import Anthropic

client = Anthropic(
    base_url="{base_url}",
    {key}="{facts.placeholder}",
)
with client.messages.stream(
    model="{facts.sample_model}",
    max_tokens=1024,
    messages=[{{"role": "user", "content": "Hello!"}}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)"""


def _typescript(base_url: str, facts: PageFacts) -> str:
    key = "apiKey" if facts.takes_x_api_key else "authToken"
    return f"""\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({{
  baseURL: "{base_url}",
  {key}: "{facts.placeholder}",
}});
const stream = client.messages.stream({{
  model: "{facts.sample_model}",
  max_tokens: 1024,
  messages: [{{ role: "user", content: "Hello!" }}],
}});
stream.on("text", (text) => process.stdout.write(text));
await stream.done();"""


def _curl(base_url: str, facts: PageFacts) -> str:
    key = "x-api-key: " if facts.takes_x_api_key else "Authorization: Bearer "
    body = {
        "model": facts.sample_model,
        "max_tokens": 1024,
        "stream": True,
        "messages": [{"role": "user", "content": "Hello!"}],
    }
    return f"""\
curl -N {base_url}/v1/messages \\
  -H "{key}{facts.placeholder}" \\
  -H "anthropic-version: 2023-06-01" \\
  -H "content-type: application/json" \\
  -d '{json.dumps(body)}'"""
