"""Request bodies of the demo's life: a coding session's system prompt, tools and growing conversation."""

from __future__ import annotations

import random
from importlib import resources
from typing import Any

Json = dict[str, Any]

SOURCES = (
    "proxy/relay.py",
    "proxy/attempt.py",
    "routing/retry.py",
    "routing/queue.py",
    "protocol/sse.py",
    "upstream/pool.py",
    "ledger/writer.py",
    "notify/rules.py",
)
"""Files of this package, which the demo's tools read: text of a real size that everybody has."""

TOOLS = {
    "Agent": "Starts a subagent with a task of its own and returns its report. Use it for searches that would fill the context.",
    "Bash": "Runs a command in a shell and returns what it printed. The working directory stays between calls.",
    "Edit": "Replaces a passage of a file. The passage must occur exactly once.",
    "Glob": "Lists files whose path matches a pattern, the newest first.",
    "Grep": "Searches the contents of files with a regular expression.",
    "Read": "Returns the contents of a file, with line numbers.",
    "TodoWrite": "Keeps the list of steps that are planned, in progress and done.",
    "Write": "Writes a file; an existing one is replaced.",
}
INPUTS = {"Agent": "prompt", "Bash": "command", "Glob": "pattern", "Grep": "pattern", "TodoWrite": "todos"}
INPUTS |= dict.fromkeys(("Edit", "Read", "Write"), "file_path")
LATE_TOOLS = ("mcp__issues__search", "mcp__issues__comment")
"""Tools of a server that connects in the middle of a session, which changes the beginning of the prompt."""

RULES = """\
You are a coding agent in a terminal. Read before you change. Keep changes small, and run the tests after each.
Follow the style of the file that you are in. Say what you did in a few sentences, and what you did not do.
Never commit unless you were asked to. Ask when a request can be understood in two ways.
"""


def source(name: str) -> str:
    """Return the text of one of `SOURCES`."""
    return resources.files("claude_proxy").joinpath(name).read_text("utf-8")


def tool(name: str, about: str) -> Json:
    """Return a tool's definition."""
    wanted = INPUTS.get(name, "query")
    properties = {wanted: {"type": "string", "description": "What to work on."}, "limit": {"type": "integer"}}
    return {
        "name": name,
        "description": about,
        "input_schema": {"type": "object", "properties": properties, "required": [wanted]},
    }


def inputs(name: str, given: str) -> Json:
    """Return the input of a call."""
    return {INPUTS.get(name, "query"): given}


def text(words: str) -> Json:
    """Return a block of text."""
    return {"type": "text", "text": words}


class Conversation:
    """The prompt of one agent, which grows with each turn.

    Args:
        project: the folder that its user works in.
        notes: source files that are part of the system prompt, as a user's own instructions are.
    """

    def __init__(self, project: str, model: str, task: str, notes: tuple[str, ...]) -> None:
        self.model = model
        self.tools = [tool(name, about * 3) for name, about in TOOLS.items()]
        place = f"# Environment\n - Primary working directory: /home/demo/{project}\n - Platform: linux\n"
        self.system = [text(RULES * 6), text("\n".join(map(source, notes))), text(place)]
        self.messages: list[Json] = [{"role": "user", "content": [text(task)]}]
        self._calls = 0

    def body(self) -> Json:
        """Return the request. Cache markers stand on the last system block and the last message, as Claude Code sets them."""
        marker = {"cache_control": {"type": "ephemeral"}}
        *earlier, last = self.messages
        marked = {**last, "content": [*last["content"][:-1], {**last["content"][-1], **marker}]}
        system = [*self.system[:-1], {**self.system[-1], **marker}]
        return {
            "model": self.model,
            "max_tokens": 32_000,
            "stream": True,
            "system": system,
            "tools": self.tools,
            "messages": [*earlier, marked],
        }

    def answered(self, words: str, calls: list[tuple[str, str]], results: list[str]) -> None:
        """Add an answer, its tool calls (name and input), and what the tools returned."""
        uses, returned = [], []
        for (name, given), result in zip(calls, results, strict=True):
            self._calls += 1
            uses.append({"type": "tool_use", "id": f"toolu_demo_{self._calls}", "name": name, "input": inputs(name, given)})
            returned.append({"type": "tool_result", "tool_use_id": f"toolu_demo_{self._calls}", "content": [text(result)]})
        self.messages.append({"role": "assistant", "content": [text(words), *uses]})
        self.messages.append({"role": "user", "content": returned or [text("Go on.")]})

    def connect_server(self) -> None:
        """Add the tools of a server in front, which makes the provider's cached prompt useless."""
        self.tools = [tool(name, "Looks into the issue tracker.") for name in LATE_TOOLS] + self.tools


def printed(name: str, given: str, dice: random.Random) -> str:
    """Return what a tool returned."""
    if name == "Read":
        return "\n".join(f"{number:5} {line}" for number, line in enumerate(source(given).splitlines(), 1))
    if name == "Grep":
        file = dice.choice(SOURCES)
        return "\n".join(f"{file}:{at}: {line.strip()}" for at, line in enumerate(source(file).splitlines(), 1) if "def " in line)
    if name == "Bash":
        passed = dice.randrange(40, 400)
        return f"{'.' * passed}\n{passed} passed in {passed / 37:.1f} s"
    if name == "Agent":
        return f"Report of the subagent. {given} I read {dice.randrange(3, 30)} files; the cause is where you supposed it."
    return "The file was changed."
