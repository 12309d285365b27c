"""Chooses the answer to a request by path, credential and scenario."""

from __future__ import annotations

import re
from collections.abc import Collection

from . import messages, resources
from .answer import Answer, error_answer, json_answer
from .codecs import decoded
from .faults import altered
from .recorded import Recorded
from .scenario import Scenario

FRAME = re.compile(rb".+?(?:\r\n\r\n|\n\n|\r\r|\Z)", re.DOTALL)
"""One SSE frame with the empty line that ends it."""

UNREAD = b'{"model":"unread","messages":[]}'
"""Used as the body of a request that is answered before its body has arrived."""


class Api:
    """The simulated API: answers recorded requests. Keeps batches, files and cached answers."""

    def __init__(self, keys: Collection[str] = ()) -> None:
        self.keys = frozenset(keys)
        self.batches = resources.Batches()
        self.files = resources.Files()
        self._made: dict[messages.Key, messages.Made] = {}

    def answer(self, recorded: Recorded, scenario: Scenario, number: int, base_url: str) -> Answer:
        """Return the answer to request ``number``; ``base_url`` is our own address without a path."""
        fault = scenario.fault
        if scenario.kind in ("error", "raw") or (fault is not None and fault.kind == "status"):
            peek(recorded)
        if fault is not None and fault.kind == "status":
            return error_answer(fault.n, fault.message or f"A simulated error {fault.n}.", fault.error_type)
        if scenario.kind in ("error", "raw"):
            return _manner(_scripted(scenario), scenario)
        if not self._allowed(recorded):
            return error_answer(401, "invalid x-api-key")
        found = self._by_path(recorded, scenario, number, base_url)
        return _manner(found, scenario)

    def _allowed(self, recorded: Recorded) -> bool:
        if not self.keys or recorded.method == "HEAD":
            return True
        shown = recorded.header("x-api-key") or ""
        scheme, _, bearer = (recorded.header("authorization") or "").partition(" ")
        return shown in self.keys or (scheme.lower() == "bearer" and bearer in self.keys)

    def _by_path(self, recorded: Recorded, scenario: Scenario, number: int, base_url: str) -> Answer:
        prefix, found, rest = recorded.path.partition("/v1/")
        if not found:
            return self._probe(recorded)
        path = rest.strip("/").split("/")
        match path:
            case ["messages"]:
                return self._messages(recorded, scenario)
            case ["messages", "count_tokens"]:
                return self._messages(recorded, scenario, count=True)
            case ["messages", "batches", *more]:
                return self.batches.answer(recorded, more, number, base_url + prefix)
            case ["files", *more]:
                return self.files.answer(recorded, more, number)
            case ["models", *more]:
                return resources.models("/".join(more))
        return resources.not_found(f"{recorded.method} {recorded.path}")

    def _probe(self, recorded: Recorded) -> Answer:
        if recorded.method in ("HEAD", "GET"):
            return json_answer({"simulator": "ok"})
        return resources.not_found(f"{recorded.method} {recorded.path}")

    def _messages(self, recorded: Recorded, scenario: Scenario, count: bool = False) -> Answer:
        if recorded.method not in ("POST", "HEAD"):
            return error_answer(405, "Method Not Allowed", "invalid_request_error")
        try:
            request = messages.parse(_body(recorded) if recorded.complete else UNREAD)
        except ValueError as problem:
            return error_answer(400, f"The request body is not a Messages request: {problem}")
        recorded.model, recorded.stream = request.model, bool(request.stream) and not count
        if count or scenario.kind == "count_tokens":
            return messages.count_tokens(request, scenario)
        if scenario.kind == "models":
            return resources.models("")
        return messages.answer(request, scenario, self._made)


def peek(recorded: Recorded) -> None:
    """Record model and stream of a Messages request whose answer does not depend on its body."""
    try:
        request = messages.parse(_body(recorded))
    except ValueError:  # msgspec.DecodeError is one
        return
    recorded.model, recorded.stream = request.model, bool(request.stream)


def _body(recorded: Recorded) -> bytes:
    coding = recorded.header("content-encoding")
    if recorded.body_size and not recorded.body:
        raise ValueError(f"{recorded.body_size} bytes are more than this simulator keeps")
    return decoded(recorded.body, coding) if coding else recorded.body


def _scripted(scenario: Scenario) -> Answer:
    if scenario.kind == "raw":
        stream = scenario.content_type.startswith("text/event-stream")
        parts = (tuple(FRAME.findall(scenario.body)) if stream else (scenario.body,)) * scenario.repeat
        return Answer(scenario.status, parts, content_type=scenario.content_type, stream=stream)
    status = scenario.status if scenario.status >= 400 else 500
    text = scenario.message or f"A simulated error {status}."
    return error_answer(status, text, scenario.error_type, scenario.error_code)


def _manner(answer: Answer, scenario: Scenario) -> Answer:
    """Apply the scenario's changes to the answer's events."""
    fault = scenario.fault
    if fault is not None:
        answer = altered(answer, fault)
    return answer.with_newlines(scenario.newline) if answer.stream and scenario.newline != "\n" else answer
