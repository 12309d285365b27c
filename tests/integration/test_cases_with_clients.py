"""The cases from the field with real clients: through the proxy the same outcome in the same number of requests as without it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.claude_code import each_version, environment, furnish, needed, prompted
from tests.integration.listeners import Handler, Listener, listening
from tests.integration.proxy import running_proxy
from tests.integration.test_ends import case

NAMES = ("01", "02", "03", "04", "05", "07")  # 06 and 08 get a hint of ours, which is their point
MESSAGE = {
    "id": "msg_b",
    "type": "message",
    "role": "assistant",
    "model": "glm-5.3",
    "content": [{"type": "text", "text": "All is well, unstreamed."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 31, "output_tokens": 12},
}
SDK = os.environ.get("ANTHROPIC_SDK_NODE")  # a folder with node_modules/@anthropic-ai/sdk
Client = Callable[[str], Awaitable[Any]]


def replaying(answer: bytes) -> Handler:
    """An upstream that answers each streamed call with `answer`, each unstreamed one well; one request per connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await request_body(reader)
        if json.loads(body or b"{}").get("stream"):
            writer.write(answer)
        else:
            good = json.dumps(MESSAGE).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            writer.write(head % len(good) + good)
        await writer.drain()
        writer.close()

    return handler


async def request_body(reader: asyncio.StreamReader) -> bytes:
    """The body of the request whose head the listener has read: all clients here send a length and wait."""
    body = b""
    while True:
        try:
            async with asyncio.timeout(0.3):
                piece = await reader.read(1 << 20)
        except TimeoutError:
            return body
        body += piece
        try:
            json.loads(body)
        except ValueError:
            if not piece:
                return body
        else:
            return body


async def both(name: str, client: Client) -> list[tuple[Any, int]]:
    """The same client direct and through the proxy: what came of it, and how many requests the upstream saw."""
    found = []
    for direct in (True, False):
        async with listening(replaying(case(name))) as upstream:
            base_url = f"http://127.0.0.1:{upstream.port}"
            if direct:
                outcome = await client(base_url)
            else:
                async with running_proxy(base_url) as proxy:
                    outcome = await client(proxy.base_url)
            found.append((outcome, asked(upstream)))
    return found


def asked(upstream: Listener) -> int:
    return sum(head.startswith(b"POST") and b"/messages" in head for head in upstream.heads)


async def python_sdk(base_url: str) -> Any:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="any", max_retries=1) as client:
        try:
            async with client.messages.stream(
                model="glm-5.3", max_tokens=100, messages=[{"role": "user", "content": "hello"}]
            ) as stream:
                events = [event.type async for event in stream]
                return events, stream.current_message_snapshot.usage.output_tokens if events else None
        except Exception as error:
            return type(error).__name__, getattr(error, "status_code", None)


@pytest.mark.parametrize("name", NAMES)
async def test_the_python_sdk_sees_the_same(name: str) -> None:
    direct, proxied = await both(name, python_sdk)
    assert proxied == direct
    assert direct[1] > 0


SCRIPT = """
import Anthropic from '@anthropic-ai/sdk';
const client = new Anthropic({ baseURL: process.env.BASE, apiKey: 'any', maxRetries: 1 });
const events = [];
try {
  const stream = client.messages.stream({ model: 'glm-5.3', max_tokens: 100, messages: [{ role: 'user', content: 'hello' }] });
  for await (const event of stream) events.push(event.type);
  const final = await stream.finalMessage();
  console.log(JSON.stringify([events, final.stop_reason, final.usage.output_tokens]));
} catch (error) {
  console.log(JSON.stringify([events, error.constructor.name, error.status ?? null]));
}
"""


@pytest.mark.system
@pytest.mark.skipif(SDK is None or shutil.which("node") is None, reason="no SDK for Node: set ANTHROPIC_SDK_NODE")
@pytest.mark.parametrize("name", NAMES)
async def test_the_typescript_sdk_sees_the_same(name: str) -> None:
    assert SDK is not None
    script = Path(SDK) / "cases.mjs"
    script.write_text(SCRIPT, encoding="utf-8")

    async def node_sdk(base_url: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            "node", str(script), env={"PATH": os.environ["PATH"], "BASE": base_url}, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        return json.loads(out)

    direct, proxied = await both(name, node_sdk)
    assert proxied == direct
    assert direct[1] > 0


@pytest.mark.system
@pytest.mark.timeout(300)
@needed
@each_version
@pytest.mark.parametrize("name", NAMES)
async def test_claude_code_sees_the_same_within_seconds(name: str, program: str, tmp_path: Path) -> None:
    runs = iter(("direct", "proxied"))
    patience = {"CLAUDE_CODE_MAX_RETRIES": "2"} if name == "05" else {}  # eleven attempts would take three minutes

    async def claude(base_url: str) -> Any:
        home, work = furnish(tmp_path / next(runs))
        run = await prompted(
            program, "say hi", environ=environment(base_url, home, ANTHROPIC_MODEL="glm-5.3", **patience), work=work, limit=60
        )
        return run.result["is_error"], run.result["result"]

    direct, proxied = await both(name, claude)
    assert proxied == direct
    assert 0 < direct[1] <= 4  # a cut in the place of the end would be eleven, over three minutes
