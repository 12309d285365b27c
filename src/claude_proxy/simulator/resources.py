"""The other resources of the API, kept in memory: models, files, message batches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from . import messages
from .answer import SERIAL, Answer, error_answer, json_answer, serial
from .recorded import Recorded
from .scenario import Scenario

CREATED = "2026-08-31T18:19:41Z"
MODEL_IDS = (
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "claude-fable-5-2",
    "glm-5.3",
    "glm-5.3-flash",
    "glm-4.7",
)
FILE_NAME = re.compile(rb'filename="([^"]*)"')
PART_TYPE = re.compile(rb"content-type: *([^\r\n]+)", re.IGNORECASE)
HELD_FILES = 100
"""How many uploaded files are kept; the oldest is dropped first. The same for batches."""

Entry = dict[str, Any]


def _page(entries: list[Entry]) -> Answer:
    ids = [entry["id"] for entry in entries]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return json_answer({"data": entries, "has_more": False, "first_id": first, "last_id": last})


def _model(name: str) -> Entry:
    return {"type": "model", "id": name, "display_name": name.replace("-", " ").title(), "created_at": CREATED}


def not_found(what: str) -> Answer:
    """Return a 404 in Anthropic's envelope."""
    return error_answer(404, f"not found: {what}")


def models(name: str) -> Answer:
    """Answer ``GET /v1/models`` (empty name) or ``GET /v1/models/NAME``."""
    if not name:
        return _page([_model(known) for known in MODEL_IDS])
    return json_answer(_model(name)) if name in MODEL_IDS else not_found(f"model: {name}")


@dataclass(slots=True)
class Files:
    """Uploaded files."""

    held: dict[str, tuple[Entry, bytes]] = field(default_factory=dict)

    def answer(self, recorded: Recorded, rest: list[str], number: int) -> Answer:
        """Answer a request below ``/v1/files``; ``rest`` is the path after that."""
        if not rest:
            return self._upload(recorded, number) if recorded.method == "POST" else self._list()
        if rest[0] not in self.held:
            return not_found(f"file: {rest[0]}")
        entry, content = self.held[rest[0]]
        if rest[1:] == ["content"]:
            return Answer(200, (content,), content_type=entry["mime_type"])
        if recorded.method == "DELETE":
            del self.held[rest[0]]
            return json_answer({"id": rest[0], "type": "file_deleted"})
        return json_answer(entry)

    def _list(self) -> Answer:
        return _page([entry for entry, _ in self.held.values()])

    def _upload(self, recorded: Recorded, number: int) -> Answer:
        name, mime_type, content = _multipart(recorded)
        entry: Entry = {
            "id": f"file_{serial(number).decode()}",
            "type": "file",
            "filename": name,
            "mime_type": mime_type,
            "size_bytes": len(content) or recorded.body_size,
            "created_at": CREATED,
            "downloadable": True,
        }
        self.held[entry["id"]] = (entry, content)
        _forget_oldest(self.held)
        return json_answer(entry)


def _multipart(recorded: Recorded) -> tuple[str, str, bytes]:
    """Return name, type and content of the file part; a body that was too large to keep has no content."""
    _, _, boundary = (recorded.header("content-type") or "").partition("boundary=")
    mark = b"--" + boundary.strip('"').encode("latin-1")
    for part in recorded.body.split(mark) if boundary else ():
        head, blank, content = part.partition(b"\r\n\r\n")
        name = FILE_NAME.search(head)
        if blank and name:
            kind = PART_TYPE.search(head)
            mime_type = kind[1].decode("latin-1") if kind else "application/octet-stream"
            return name[1].decode("utf-8", "replace"), mime_type, content.removesuffix(b"\r\n")
    return "upload", "application/octet-stream", b""


def _forget_oldest(held: dict[str, Any]) -> None:
    if len(held) > HELD_FILES:
        del held[next(iter(held))]


class _BatchEntry(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _BatchRequest(msgspec.Struct):
    requests: list[_BatchEntry]


@dataclass(slots=True)
class Batches:
    """Message batches: in progress when created, ended at the first query."""

    held: dict[str, tuple[Entry, list[_BatchEntry]]] = field(default_factory=dict)

    def answer(self, recorded: Recorded, rest: list[str], number: int, base: str) -> Answer:
        """Answer a request below ``/v1/messages/batches``; ``base`` is our own URL up to ``/v1``."""
        if not rest:
            return self._create(recorded, number) if recorded.method == "POST" else self._list()
        if rest[0] not in self.held:
            return not_found(f"batch: {rest[0]}")
        return self._one(recorded, rest, base)

    def _list(self) -> Answer:
        return _page([entry for entry, _ in self.held.values()])

    def _one(self, recorded: Recorded, rest: list[str], base: str) -> Answer:
        name, actions = rest[0], rest[1:]
        entry, requests = self.held[name]
        if actions == ["results"]:
            return _results(requests)
        if actions == ["cancel"]:
            entry.update(processing_status="canceling", cancel_initiated_at=CREATED)
            return json_answer(entry)
        if recorded.method == "DELETE":
            del self.held[name]
            return json_answer({"id": name, "type": "message_batch_deleted"})
        done = {**_COUNTS, "succeeded": len(requests)}
        url = f"{base}/v1/messages/batches/{name}/results"
        entry.update(processing_status="ended", ended_at=CREATED, request_counts=done, results_url=url)
        return json_answer(entry)

    def _create(self, recorded: Recorded, number: int) -> Answer:
        try:
            requests = msgspec.json.decode(recorded.body, type=_BatchRequest).requests
        except msgspec.DecodeError as problem:
            return error_answer(400, f"requests: {problem}")
        name = f"msgbatch_{serial(number).decode()}"
        entry = {
            "id": name,
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": {**_COUNTS, "processing": len(requests)},
            "created_at": CREATED,
            "expires_at": "2026-09-01T18:19:41Z",
            "ended_at": None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": None,
        }
        self.held[name] = (entry, requests)
        _forget_oldest(self.held)
        return json_answer(entry)


_COUNTS = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


def _results(requests: list[_BatchEntry]) -> Answer:
    lines = [
        msgspec.json.encode({"custom_id": entry.custom_id, "result": _result(entry, at)}) + b"\n"
        for at, entry in enumerate(requests)
    ]
    return Answer(200, (b"".join(lines),), content_type="application/x-jsonl")


def _result(entry: _BatchEntry, at: int) -> dict[str, Any]:
    request = messages.parse(entry.params)
    request.stream = False
    (body,) = messages.answer(request, Scenario()).parts
    own_id = SERIAL + b"_%d" % at
    return {"type": "succeeded", "message": msgspec.Raw(body.replace(SERIAL, own_id))}
