"""Describes the proxied API in the OpenAPI document by hand, because its requests do not pass through FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_proxy.web.probes import TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from claude_proxy.web.facts import PageFacts

_PROXIED = "Anthropic API"
_METHODS = ("get", "post", "delete")  # those the Anthropic API uses; others are forwarded too
_TAGS = [
    {
        "name": _PROXIED,
        "description": "Every method and path below the prefix goes to the upstream with its bytes, query and API "
        "headers unchanged; the answer comes back as the upstream streams it. What the paths mean is in "
        "[Anthropic's API reference](https://docs.anthropic.com/en/api/overview).",
    },
    {
        "name": "Books and status",
        "description": "What was recorded and what runs now (docs/api.md). Answered to this machine, to "
        "browsers that are logged in, and with ADMIN_TOKEN as bearer (docs/access.md). Costs are API list prices, not a bill.",
    },
    {"name": TAG, "description": "Answered here; nothing of it reaches the upstream."},
]
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "What Claude Code sends for ANTHROPIC_AUTH_TOKEN."},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "What clients send for ANTHROPIC_API_KEY.",
    },
}
_ERROR = {
    "type": "object",
    "description": "Anthropic's error envelope. Errors of the proxy itself carry the header x-claude-proxy-error.",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            "required": ["type", "message"],
        },
        "request_id": {"type": "string"},
    },
    "required": ["type", "error"],
}


def describe(app: FastAPI, facts: Callable[[], PageFacts]) -> None:
    """Add the proxied API to `app`'s OpenAPI document, which is built once, at the first request for it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _extend(plain(), facts())  # FastAPI keeps what it returns
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _extend(schema: dict[str, Any], facts: PageFacts) -> None:
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR
    components["securitySchemes"] = _SECURITY
    used = {tag for path in schema["paths"].values() for operation in path.values() for tag in operation["tags"]}
    schema["tags"] = [tag for tag in _TAGS if tag["name"] in used | {_PROXIED}]
    schema["paths"] = {**_proxied_paths(facts), **schema["paths"]}


def _proxied_paths(facts: PageFacts) -> dict[str, Any]:
    messages = {
        "model": facts.sample_model,
        "max_tokens": 256,
        "messages": [{"role": "user", "content": "Hello!"}],
        "stream": True,
    }
    count = {name: messages[name] for name in ("model", "messages")}
    everything = {
        method: _operation(f"proxied_{method}", "Anything else", body=None) | {"parameters": [_REST]} for method in _METHODS
    }
    return {
        f"{facts.prefix}/v1/messages": {
            "post": _operation("messages", "Send messages, get an answer", messages, stream=True) | {"parameters": [_VERSION]}
        },
        f"{facts.prefix}/v1/messages/count_tokens": {
            "post": _operation("count_tokens", "Count the tokens of a request", count) | {"parameters": [_VERSION]}
        },
        f"{facts.prefix}/v1/models": {
            "get": _operation("models", "List the upstream's models", body=None) | {"parameters": [_VERSION]}
        },
        f"{facts.prefix}/{{path}}": everything,
    }


_VERSION = {
    "name": "anthropic-version",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "default": "2023-06-01"},
}
_REST = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "The rest of the path, slashes and percent-encoding kept. (A viewer like this one encodes its "
    "slashes; real clients do not.)",
    "schema": {"type": "string"},
}


def _operation(name: str, summary: str, body: dict[str, Any] | None, *, stream: bool = False) -> dict[str, Any]:
    """Return one operation of the proxied API.

    Args:
        body: an example of the request's JSON; None if there is no body or it can be anything.
        stream: whether the response can be a stream of server-sent events.
    """
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    operation: dict[str, Any] = {
        "tags": [_PROXIED],
        "operationId": name,
        "summary": summary,
        "security": [{"bearer": []}, {"x-api-key": []}],
        "responses": {
            "200": {"description": "As the upstream sent it", "content": answers},
            "default": {
                "description": "The upstream's error unchanged, or the proxy's own",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if body is not None:
        content = {"application/json": {"schema": {"type": "object"}, "example": body}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
