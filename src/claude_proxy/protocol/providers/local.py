"""Servers on this machine, told by the port that each listens on by default. More on the facts: docs/facts.md, "Providers".

A port is a guess: only words depend on it, and errors that no other API writes. The label names no program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from claude_proxy.protocol.providers.base import CORRECT, FEWER, WAIT, Class, Code, Provider, Text

LOOPBACK = ("localhost", "127.0.0.1", "::1", "host.docker.internal")
Patterns = tuple[tuple[re.Pattern[str], str], ...]

OLLAMA = {
    # 503, when OLLAMA_MAX_QUEUE requests wait: ollama/ollama pull request 4144, issues 4124 and 4159.
    "queue_full": Code(Class.CONCURRENCY, Text("queue of the server full", "서버 대기열이 가득 참"), FEWER + WAIT),
    # 503, of models that run in Ollama's cloud: ollama/ollama issue 15934.
    "cloud_overloaded": Code(Class.OVERLOAD, Text("overloaded", "과부하"), WAIT),
}
LLAMA_CPP = {
    # 503, while the model is being loaded: the server's README, "GET /health".
    "unavailable_error": Code(
        Class.OVERLOAD,
        Text("model not loaded yet", "아직 로드되지 않은 모델"),
        Text("The server is loading the model.", "서버가 모델을 로드하는 중입니다.") + WAIT,
    ),
    # ggml-org/llama.cpp pull request 15780: at first with status 500, though the request is at fault.
    "exceed_context_size_error": Code(
        Class.CLIENT,
        Text("prompt too long", "너무 긴 프롬프트"),
        Text(
            "Compact the conversation, or start the server with a larger context.",
            "대화를 압축하거나 더 큰 컨텍스트로 서버를 시작하세요.",
        ),
    ),
    # ggml-org/llama.cpp README, "API errors".
    "not_supported_error": Code(Class.CLIENT, Text("not supported by this server", "이 서버가 지원하지 않음"), CORRECT),
}


def _server(
    name: str, program: str, port: int, source: str, codes: Mapping[str, Code] | None = None, patterns: Patterns = ()
) -> Provider:
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
        codes=codes or {},
        patterns=patterns,
        fixes={"connect_failed": fix},
        sources=(source,),
    )


# None starts with a limit: Ollama, llama.cpp and vLLM queue by themselves what they cannot serve at once.
PROVIDERS = (
    _server(
        "ollama",
        "Ollama",
        11434,
        "docs.ollama.com/api/anthropic-compatibility",
        OLLAMA,
        (
            (re.compile(r"maximum pending requests exceeded"), "queue_full"),
            (re.compile(r"Server overloaded, please retry shortly"), "cloud_overloaded"),
        ),
    ),
    _server("lmstudio", "LM Studio", 1234, "lmstudio.ai/docs/developer/anthropic-compat"),
    _server("llamacpp", "llama.cpp", 8080, "github.com/ggml-org/llama.cpp/tree/master/tools/server", LLAMA_CPP),
    _server("vllm", "vLLM", 8000, "docs.vllm.ai/en/latest/serving"),
    _server("litellm", "LiteLLM", 4000, "docs.litellm.ai/docs/anthropic_unified"),
)
