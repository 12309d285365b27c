"""Servers on this machine, recognised by their default ports. Facts and sources: docs/facts.md, "Providers".

The port is only a hint, so nothing but advice depends on it, and the label does not name a program.
"""

from __future__ import annotations

from claude_proxy.protocol.providers.base import Provider, Text

LOOPBACK = ("localhost", "127.0.0.1", "::1", "host.docker.internal")


def _server(name: str, program: str, port: int, source: str) -> Provider:
    fix = Text(
        f"Nothing listens at BASE_URL. {port} is the default port of {program}: start it, or correct the port.",
        f"BASE_URL에서 응답하는 프로그램이 없습니다. 포트 {port}번은 {program}의 기본 포트입니다. 시작하거나 포트를 고치세요.",
    )
    return Provider(
        name=name,
        label="local server",
        hosts=LOOPBACK,
        ports=(port,),
        relays=True,
        fixes={"connect_failed": fix},
        sources=(source,),
    )


PROVIDERS = (
    _server("ollama", "Ollama", 11434, "docs.ollama.com/api/anthropic-compatibility"),
    _server("lmstudio", "LM Studio", 1234, "lmstudio.ai/docs/developer/anthropic-compat"),
    _server("llamacpp", "llama.cpp", 8080, "github.com/ggml-org/llama.cpp/tree/master/tools/server"),
    _server("vllm", "vLLM", 8000, "docs.vllm.ai/en/latest/serving"),
    _server("litellm", "LiteLLM", 4000, "docs.litellm.ai/docs/anthropic_unified"),
)
