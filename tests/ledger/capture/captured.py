"""What the capture's tests share: a proxy that captures, and what it kept."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Header, Outcome
from claude_proxy.ledger.capture.database import unpack
from claude_proxy.ledger.capture.options import Parcel
from claude_proxy.ledger.capture.reading import Conversations, Transcript
from tests.integration.proxy import RunningProxy, running_proxy

WALL = 1_790_000_000.0  # 2026-09-21
_sequence = itertools.count(1)


@asynccontextmanager
async def capturing(base_url: str, folder: Path, mode: str = "all", **settings: Any) -> AsyncIterator[RunningProxy]:
    """A proxy that keeps bodies in `folder`; everything is written once it has stopped."""
    async with running_proxy(base_url, capture=mode, data_dir=folder, **settings) as proxy:
        yield proxy
        await proxy.recorder.wait_for(len(proxy.recorder.started))
        if proxy.app.state.capture is not None:
            await proxy.app.state.capture.aclose(20.0)
        await proxy.app.state.listeners.aclose()  # the ledger too: the server is about to be stopped by force


def kept(folder: Path) -> list[Transcript]:
    """Every transcript in the file, oldest first."""
    with Conversations.open(folder) as conversations:
        found = [conversations.transcript(number) for number in reversed(conversations.numbers(10_000))]
    return [one for one in found if one is not None]


def only(folder: Path) -> Transcript:
    """The one transcript in the file, whole."""
    (one,) = kept(folder)
    assert one.sound
    return one


def contents(folder: Path) -> list[bytes]:
    """The files as they lie there, and everything in them as it is when unpacked."""
    files = [path.read_bytes() for path in folder.glob("capture.db*")]
    with closing(sqlite3.connect(folder / "capture.db")) as connection:
        blobs = [unpack(packed, size) for size, packed in connection.execute("SELECT bytes, zstd FROM blob")]
        notes = [note.encode() for (note,) in connection.execute("SELECT note FROM head")]
    return [*files, *blobs, *notes]


def counts(folder: Path) -> dict[str, int]:
    """Rows by table."""
    with closing(sqlite3.connect(folder / "capture.db")) as connection:
        return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("blob", "node", "head")}


def unique_bytes(folder: Path) -> int:
    """Bytes of all content, each piece once, before compression."""
    with closing(sqlite3.connect(folder / "capture.db")) as connection:
        return int(connection.execute("SELECT sum(bytes) FROM blob").fetchone()[0])


def parcel(
    request: bytes | dict[str, Any],
    answer: bytes = b'{"type":"message","content":[]}',
    *,
    at: float = WALL,
    headers: Iterable[Header] = (),
    answer_type: bytes = b"application/json",
    whole: bool = True,
    cut: bool = False,
    **fields: Any,
) -> Parcel:
    """A finished exchange, as the path hands it on."""
    number = ids.first_of(int(at * 1000)) | next(_sequence)
    body = request if isinstance(request, bytes) else json.dumps(request, separators=(",", ":")).encode()
    more: dict[str, Any] = {"status": 200, "outcome": Outcome.COMPLETED, **fields}
    exchange = Exchange(ids.encode(number), "POST", "/v1/messages", "127.0.0.1", 0.0, at, **more)
    return Parcel(number, exchange, list(headers), body, whole, [(b"content-type", answer_type)], [answer], cut, len(body))


def turn(text: str, role: str = "user") -> dict[str, Any]:
    """One message."""
    return {"role": role, "content": [{"type": "text", "text": text}]}
