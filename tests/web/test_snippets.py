"""The blocks to copy are run: each must reach the proxy with the credentials that it names."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.cli.client_env import variables
from claude_proxy.settings import Settings
from claude_proxy.web import PageFacts, Upstream
from claude_proxy.web.negotiation import Language
from claude_proxy.web.snippets import claude_code, code, environment
from tests.web.serving import BROWSER, ZAI, Pages, serving

ANTHROPIC = "https://api.anthropic.com"
EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "back"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
# upstream, holds a credential, asks for its key -> what arrives as bearer token and as x-api-key
SHOWN = [
    (ZAI, False, False, "<your key>", None),
    (ZAI, True, False, "claude-proxy", None),
    (ZAI, True, True, "<PROXY_API_KEY>", None),
    (ZAI, False, True, "<your key>", "<PROXY_API_KEY>"),
    (ANTHROPIC, False, False, None, "<your key>"),
    (ANTHROPIC, True, True, "<PROXY_API_KEY>", None),
    (ANTHROPIC, False, True, "<PROXY_API_KEY>", "<your key>"),
]


class Api:
    """An Anthropic API that streams one answer and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["path"], headers, json.loads(body)))
        stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": stream.encode()})


def facts(upstream: str = ZAI, holds: bool = False, asks: bool = False) -> PageFacts:
    return PageFacts("1", "/api/anthropic", (Upstream("default", upstream),), holds, asks, notices=False)


def text_of(name: str, base_url: str, facts: PageFacts) -> str:
    [found] = [part.text for part in (*claude_code(base_url, facts), *code(base_url, facts)) if part.id == name]
    return found


async def output_of(*command: str, **environ: str) -> str:
    env = {"PATH": os.environ["PATH"], **environ}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize(("upstream", "holds", "asks", "bearer", "x_api_key"), SHOWN)
async def test_the_python_lines_stream_an_answer(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    upstream: str,
    holds: bool,
    asks: bool,
    bearer: str | None,
    x_api_key: str | None,
) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)
    api = Api()
    async with serving(api) as origin:
        lines = text_of("python", f"{origin}/api/anthropic", facts(upstream, holds, asks))
        await asyncio.to_thread(exec, f"{lines}\nclient.close()", {})
    assert capsys.readouterr().out == "Hello back"
    [(path, headers, body)] = api.asked
    assert (path, body["stream"]) == ("/api/anthropic/v1/messages", True)
    shown = (headers.get("authorization"), headers.get("x-api-key"))
    if bearer is None:  # `api_key`: which header it takes is the SDK's affair
        assert [value for value in shown if value] in ([f"Bearer {x_api_key}"], [x_api_key])
    else:
        assert shown == (f"Bearer {bearer}", x_api_key)


@pytest.mark.system
@pytest.mark.parametrize(("upstream", "holds", "asks", "bearer", "x_api_key"), SHOWN)
async def test_the_curl_lines_stream_an_answer(
    upstream: str, holds: bool, asks: bool, bearer: str | None, x_api_key: str | None
) -> None:
    api = Api()
    async with serving(api) as origin:
        lines = text_of("curl", f"{origin}/api/anthropic", facts(upstream, holds, asks))
        assert "message_stop" in await output_of("sh", "-c", lines)
    [(path, headers, body)] = api.asked
    assert (path, body["stream"]) == ("/api/anthropic/v1/messages", True)
    assert headers.get("authorization") == (bearer and f"Bearer {bearer}")
    assert headers.get("x-api-key") == x_api_key


@pytest.mark.parametrize(("upstream", "holds", "asks", "bearer", "x_api_key"), SHOWN)
async def test_the_shell_lines_set_the_environment_and_start_claude(
    tmp_path: Path, upstream: str, holds: bool, asks: bool, bearer: str | None, x_api_key: str | None
) -> None:
    claude = tmp_path / "claude"
    claude.write_text("#!/bin/sh\nenv\n")
    claude.chmod(0o755)
    base_url, known = "http://localhost:3000/api/anthropic", facts(upstream, holds, asks)
    out = await output_of("sh", "-c", text_of("sh", base_url, known), PATH=f"{tmp_path}:{os.environ['PATH']}")
    set_names = ("ANTHROPIC_", "API_", "CLAUDE_")
    found = dict(line.split("=", 1) for line in out.splitlines() if line.startswith(set_names))
    assert found == environment(base_url, known)
    own = {"ANTHROPIC_AUTH_TOKEN": bearer, "ANTHROPIC_API_KEY": x_api_key}
    if x_api_key == "<PROXY_API_KEY>":
        own = {"ANTHROPIC_AUTH_TOKEN": bearer, "ANTHROPIC_CUSTOM_HEADERS": f"x-api-key: {x_api_key}"}
    credentials = {name: value for name, value in found.items() if name.startswith("ANTHROPIC_") and not name.endswith("_MODEL")}
    assert credentials == {"ANTHROPIC_BASE_URL": base_url} | {name: value for name, value in own.items() if value}


@pytest.mark.parametrize("upstream", [ZAI, ANTHROPIC, "https://llm.example/anthropic"])
def test_the_page_says_of_the_upstream_what_claude_proxy_env_says(upstream: str) -> None:
    page = environment("http://127.0.0.1:3000/api/anthropic", facts(upstream))
    told = {found.name: found.value for found in variables(Settings(base_url=upstream), {}, "http://127.0.0.1:3000")}
    of_the_command_alone = {"CLAUDE_CODE_ATTRIBUTION_HEADER", "ENABLE_TOOL_SEARCH"}
    credentials = {"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"}
    assert {name: value for name, value in told.items() if name not in of_the_command_alone} == {
        name: value for name, value in page.items() if name not in credentials
    }


@pytest.mark.parametrize(("upstream", "said"), [(ZAI, True), (ANTHROPIC, False), ("https://llm.example", True)])
@pytest.mark.parametrize("language", ["en", "ko"])
async def test_the_note_explains_auto_mode_where_the_upstream_does_not_check_tools(
    language: Language, upstream: str, said: bool
) -> None:
    known = facts(upstream)
    async with serving(Pages(upstreams=(upstream,)).app) as origin, httpx.AsyncClient() as client:
        page = (await client.get(origin, headers={"accept": BROWSER, "accept-language": language})).text
    note = page.partition('<p class="note">')[2].partition("</p>")[0]
    assert ("CLAUDE_CODE_AUTO_MODE_SERVER=0" in note) is said is (known.upstreams[0].host in note)
    assert ("CLAUDE_CODE_AUTO_MODE_SERVER" in environment("http://h", known)) is said


@pytest.mark.parametrize(("upstream", "holds", "asks"), [row[:3] for row in SHOWN])
def test_settings_json_and_the_other_shells_say_the_same(upstream: str, holds: bool, asks: bool) -> None:
    base_url, known = "http://localhost:3000/api/anthropic", facts(upstream, holds, asks)
    wanted = environment(base_url, known)
    settings = json.loads(text_of("settings", base_url, known))
    assert settings["env"] == wanted
    rows = settings.get("modelPicker", {"options": []})["options"]
    assert [row["model"] for row in rows] == (["glm-5.3", "glm-5.3-flash"] if upstream == ZAI else [])
    fish = [f'set -gx {name} "{value}"' for name, value in wanted.items()]
    assert text_of("fish", base_url, known).splitlines() == [*fish, "claude"]
    power = [f'$env:{name} = "{value}"' for name, value in wanted.items()]
    assert text_of("powershell", base_url, known).splitlines() == [*power, "claude"]


@pytest.mark.parametrize(
    ("upstream", "model"),
    [
        (ZAI, "glm-5.3"),
        ("https://open.bigmodel.cn/api/anthropic", "glm-5.3"),
        ("https://z.ai", "glm-5.3"),
        ("https://notz.ai", "claude-sonnet-5-5"),
        (ANTHROPIC, "claude-sonnet-5-5"),
    ],
)
def test_the_sample_model_is_one_that_the_upstream_knows(upstream: str, model: str) -> None:
    for part in code("http://h", facts(upstream)):
        assert f'"{model}"' in part.text
