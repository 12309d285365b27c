"""The corpus: streams and bodies as upstreams send them, each with what it adds up to (corpus/totals.json)."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claude_proxy.protocol.usage import Reading

CORPUS = Path(__file__).with_name("corpus")
TOTALS: dict[str, dict[str, Any]] = json.loads((CORPUS / "totals.json").read_text(encoding="utf-8"))
STREAMS = sorted(name for name in TOTALS if name.endswith(".sse"))
BODIES = sorted(name for name in TOTALS if name.endswith(".json"))
LINE_ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def content(name: str, line_end: bytes | None = None) -> bytes:
    """A file of the corpus, with its own line ends or with others."""
    data = (CORPUS / name).read_bytes()
    return data if line_end is None else data.replace(b"\r\n", b"\n").replace(b"\n", line_end)


def seen(reading: Reading) -> dict[str, Any]:
    """What a reading says, in the form of totals.json: without what it does not say."""
    usage = reading.usage
    found = {
        "usage": usage and {name: value for name, value in dataclasses.asdict(usage).items() if value is not None},
        "model": reading.model,
        "stop_reason": reading.stop_reason,
        "error": reading.error and {"type": reading.error.type, "message": reading.error.message, "code": reading.error.code},
    }
    return {name: value for name, value in found.items() if value is not None} | {"stopped": reading.stopped}


def cuts(data: bytes, at: list[int]) -> Iterator[bytes]:
    """`data` in chunks, cut at the places `at` (taken modulo its length)."""
    places = sorted({place % (len(data) + 1) for place in at})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]
