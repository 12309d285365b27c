"""The demo's simulated provider: it caches prompts, meters a plan, and has accounts and hosts in trouble."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from claude_proxy.cli.demo.story import SESSION
from claude_proxy.simulator import Recorded, Scenario, Usage, refusal
from claude_proxy.simulator.stage import credential

AGENT = "x-claude-code-agent-id"
QUOTA_PATH = "/api/monitor/usage/quota/limit"
NTFY_TOPIC = "claude-proxy-demo"
PUBLISHED = json.dumps({"id": "demo0000000a", "time": 1, "event": "message", "topic": NTFY_TOPIC, "message": "-"}).encode()
"""What ntfy answers to a notice."""
BYTES_PER_TOKEN = 3.6
HOUR = 3600.0
WORK, SPARE, TEAM, ANTHROPIC = "demo-key-work", "demo-key-spare", "demo-key-team", "demo-key-anthropic"
TROUBLE = (180.0, 110.0)
"""The gateway is overloaded in the last part of each period: seconds of a period, and at which that part begins."""


class Provider:
    """Chooses the answers; give it to the simulator.

    Args:
        fallback: answers what no client has announced.
        wall: Unix seconds.
    """

    def __init__(self, fallback: Callable[[Recorded], Scenario | None], wall: Callable[[], float] = time.time) -> None:
        self._fallback = fallback
        self._wall = wall
        self._began = wall()
        self._announced: dict[tuple[str, str], Scenario] = {}
        self._cached: dict[tuple[str, str], list[tuple[bytes, int]]] = {}
        self._used = 0.0

    def announce(self, session: str, agent: str, answer: Scenario) -> None:
        """Say what the next call of this session and agent gets, when the provider answers it well."""
        self._announced[session, agent] = answer

    def forget(self, session: str) -> None:
        """Forget a session that is over."""
        for kept in (self._announced, self._cached):
            for key in [key for key in kept if key[0] == session]:
                del kept[key]

    def __call__(self, recorded: Recorded) -> Scenario | None:
        """Return the answer to a request; None for the simulator's own."""
        if recorded.path == QUOTA_PATH:
            return Scenario("raw", body=self.quota(recorded))
        if recorded.method in ("POST", "PUT") and "/v1/" not in recorded.path:
            return Scenario("raw", body=PUBLISHED)
        key = recorded.header(SESSION) or "", recorded.header(AGENT) or ""
        if recorded.method != "POST" or key not in self._announced:
            return self._fallback(recorded)
        refused = self._refused(recorded)
        if refused is not None:
            return refused
        answer = replace(self._announced[key], usage=self._usage(key, recorded))
        self._announced[key] = replace(answer, fault=None)  # only once
        return answer

    def _refused(self, recorded: Recorded) -> Scenario | None:
        period, begins = TROUBLE
        secret = credential(recorded)
        if secret == SPARE:
            return refusal("window", "zai", self._began + 2.2 * HOUR)
        if secret == TEAM and (self._wall() - self._began) % period > begins:
            return refusal("overload", "zai", 0.0)
        return None

    def _usage(self, key: tuple[str, str], recorded: Recorded) -> Usage:
        """Count a prompt; what it has in common with the one before comes from the cache."""
        blocks = prompt_blocks(msgspec.json.decode(recorded.body))
        before, same = self._cached.get(key, []), 0
        for (old, _), (new, size) in zip(before, blocks, strict=False):
            if old != new:
                break
            same += size
        self._cached[key] = blocks
        total = sum(size for _, size in blocks)
        answer = self._announced[key]
        written = len(answer.text or "") + (len(answer.thinking) if answer.kind == "thinking" else 0)
        read, fresh, output = (int(count / BYTES_PER_TOKEN) for count in (same, total - same, written))
        self._used += fresh + output * 4 + read / 10
        if recorded.model.startswith("claude"):
            return Usage(3, output + 60, cache_creation_input_tokens=fresh, cache_read_input_tokens=read)
        return Usage(fresh, output + 60, cache_read_input_tokens=read)

    def quota(self, recorded: Recorded) -> bytes:
        """Return the windows of the plan of an account: the spare one has used up its five hours."""
        spare = credential(recorded) == SPARE or recorded.header("authorization") == SPARE
        five, week = (12_000.0, 41_000.0) if spare else (5_300 + self._used / 400, 23_400 + self._used / 400)
        limits = [self._window(3, 5, 12_000, five, 2.2), self._window(6, 1, 60_000, week, 80.0)]
        return json.dumps({"code": 200, "success": True, "data": {"level": "pro", "limits": limits}}).encode()

    def _window(self, unit: int, number: int, allowance: int, used: float, hours: float) -> dict[str, Any]:
        used = min(int(used), allowance)
        reset = int((self._began + hours * HOUR) * 1000)
        amounts = {"usage": allowance, "currentValue": used, "remaining": allowance - used, "percentage": used * 100 // allowance}
        return {"type": "CREDIT_LIMIT", "unit": unit, "number": number, **amounts, "nextResetTime": reset}


def prompt_blocks(body: dict[str, Any]) -> list[tuple[bytes, int]]:
    """Return digest and bytes of each block of a prompt, in the order in which providers cache them."""
    contents = [block for message in body.get("messages", ()) for block in message["content"]]
    found = []
    for block in [*body.get("tools", ()), *body.get("system", ()), *contents]:
        block = {name: value for name, value in block.items() if name != "cache_control"} if isinstance(block, dict) else block
        data = msgspec.json.encode(block)
        found.append((hashlib.blake2b(data, digest_size=8).digest(), len(data)))
    return found
