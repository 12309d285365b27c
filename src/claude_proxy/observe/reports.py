"""Messages between workers and their leader: four bytes of length, then MessagePack."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from claude_proxy.observe.tally import Snapshot

MAX_FRAME = 16 * 1024 * 1024
_LENGTH = 4
_encode = msgspec.msgpack.Encoder().encode
M = TypeVar("M", bound=msgspec.Struct)


class Report(msgspec.Struct, array_like=True):
    """A worker's message to its leader.

    Attributes:
        worker: its random name.
        number: 1, 2, 3 ...; repeated if the answer was lost.
        news: sums since the last report, and the gauges of now.
        asks: whether it wants the sums of all workers back.
    """

    worker: str
    number: int
    news: Snapshot
    asks: bool = False


class Taken(msgspec.Struct, array_like=True):
    """The leader's answer: the report has been added.

    Attributes:
        everything: the sums of all workers, if it was asked for them.
    """

    everything: Snapshot | None = None


def write(writer: asyncio.StreamWriter, message: msgspec.Struct) -> None:
    """Write one message."""
    data = _encode(message)
    writer.write(len(data).to_bytes(_LENGTH, "big") + data)


async def read(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[M]) -> M:
    """Read one message.

    Raises:
        ValueError: it is not one of ours, or too large.
        EOFError: the other side has gone.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    if length > MAX_FRAME:
        raise ValueError(f"a message of {length} bytes")
    return decoder.decode(await reader.readexactly(length))
