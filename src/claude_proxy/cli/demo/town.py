"""The settings of the proxy behind `demo --keep`: upstreams with accounts, and ntfy, almost all of them the same simulator."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from claude_proxy.cli.demo import past
from claude_proxy.cli.demo.provider import ANTHROPIC, NTFY_TOPIC, SPARE, TEAM, WORK

KEYS = {"work": WORK, "spare": SPARE, "team": TEAM, "console": ANTHROPIC, "workstation": "demo-key-workstation"}
# Nothing listens at port 1: the workstation is off.
SETTINGS = """\
[[upstream]]
name = "zai"
base_url = "http://127.0.0.1:{port}/api/anthropic"
provider = "zai"
models = ["glm-*"]

[[upstream.account]]
name = "work"
key_file = "work.key"
max_concurrency = 3

[[upstream.account]]
name = "spare"
key_file = "spare.key"

[[upstream]]
name = "gateway"
base_url = "http://127.0.0.1:{port}/gateway/api/anthropic"
models = ["glm-*"]

[[upstream.account]]
name = "team"
key_file = "team.key"

[[upstream]]
name = "anthropic"
base_url = "http://localhost:{port}/api/anthropic"
provider = "anthropic"

[[upstream.account]]
name = "console"
key_file = "console.key"

[[upstream]]
name = "workstation"
base_url = "http://127.0.0.1:1"
models = ["qwen*"]

[[upstream.account]]
name = "workstation"
key_file = "workstation.key"

[[route]]
match = {{ model = "qwen*" }}
upstreams = ["workstation"]

[[route]]
match = {{ model = "glm-5.3-flash" }}
upstreams = ["gateway", "zai"]

[[route]]
match = {{ model = "glm-*" }}
upstreams = ["zai", "gateway"]

[[route]]
upstreams = ["anthropic"]
"""
PRICES = '[provider.zai]\nhosts = ["127.0.0.1"]\n\n[provider.anthropic]\nhosts = ["localhost"]\n'
"""The simulator costs what the real providers would."""


def furnish(folder: Path, port: int) -> dict[str, str]:
    """Write settings, keys, prices and a past into the proxy's folder; returns the environment that it needs for them."""
    for name, key in KEYS.items():
        folder.joinpath(f"{name}.key").write_text(key, encoding="utf-8")
    folder.joinpath("claude-proxy.toml").write_text(SETTINGS.format(port=port), encoding="utf-8")
    prices = folder / "claude-proxy" / "prices.toml"
    prices.parent.mkdir()
    prices.write_text(PRICES, encoding="utf-8")
    past.write(folder, datetime.now().astimezone())
    notices = {"NTFY_SERVER": f"http://127.0.0.1:{port}", "NTFY_TOPIC": NTFY_TOPIC}
    return {"XDG_CONFIG_HOME": str(folder), "CAPTURE": "all", **notices}
