"""What becomes of each command line of the documents: the first rule that fits it."""

from __future__ import annotations

import re

from tests.docs.blocks import Command

SETTINGS = r"(?:[A-Z_]+=\S+ )*"
RULES = (
    # started for real, and asked for a streamed answer
    ("server", rf"{SETTINGS}(claude-proxy serve|fastapi run|uvicorn|gunicorn|hypercorn|granian)\b"),
    ("simulator", r"claude-proxy simulate\b"),
    # run for real, before the proxy and the simulator
    ("curl", r"curl "),
    ("shell", r"eval |export |claude-proxy env "),
    # checked: the command and its options exist
    ("ours", r"claude-proxy (code|config|demo|doctor|login|rehearse|reprice|service|sessions|show|stats|tail|test-ntfy)\b"),
    # checked: files, targets, profiles and settings that it names exist; tests/deploy and .ci/docker run them
    ("make", r"make [a-z]+$"),
    ("container", r"(docker|helm|kubectl|nomad) "),
    ("file", r"cp \S|\.ci/run$"),
    # checked: the scenario that it names exists; tests/deploy/test_claude_code.py runs the program
    ("claude", r"(ANTHROPIC_CUSTOM_HEADERS='[^']*' )?claude\b(?!-)"),
)
# Not run and not checked, with the reason.
EXCEPTIONS = {
    "python3 -m venv /opt/claude-proxy && /opt/claude-proxy/bin/pip install .": "writes to /opt and needs a package index",
    "systemctl enable --now claude-proxy": "needs root and a running systemd; tests/cli/test_service_units.py has the unit",
    "journalctl -u claude-proxy -f": "needs a running systemd",
}


def kind(command: Command) -> str | None:
    """What is done with the command; None if nobody has said so."""
    if command.text in EXCEPTIONS:
        return "exception"
    return next((name for name, pattern in RULES if re.match(pattern, command.text)), None)


def of_kind(wanted: str, found: list[Command]) -> list[Command]:
    """Those of one kind."""
    return [command for command in found if kind(command) == wanted]
