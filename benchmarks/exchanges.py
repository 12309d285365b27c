"""The soak's exchanges: the mix, the expected outcome of each, and a client that detects cuts."""

import asyncio
from dataclasses import dataclass

from benchmarks import payload

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BROKEN = "broken"  # a cut, or a 5xx of the proxy's own: anything but a good end
WHOLE = "200"
EITHER = "either"  # an error event: if it ends the stream, both outcomes are correct


@dataclass(frozen=True)
class Kind:
    """One kind of exchange: the simulator's scenario, how often it comes, and its right outcome."""

    scenario: str
    weight: int
    right: str = WHOLE
    streamed: bool = True
    leaves: bool = False  # the client disconnects after the first bytes
    once: bool = False  # only the first attempt ends so; the queue waits, and the next one is answered

    @property
    def name(self) -> str:
        """For the table."""
        parts = ("" if self.streamed else ", unstreamed", ", client disconnects" * self.leaves, ", once" * self.once)
        return self.scenario + "".join(parts)

    def request(self, port: int, size: int, number: int = 0) -> bytes:
        """The bytes to send; `number` tells exchanges apart."""
        headers = {"x_once": self.scenario, "x_number": str(number)} if self.once else {"x_simulate": self.scenario}
        return payload.request("fast" if self.streamed else "json", port, size, **headers)

    def allows(self, outcome: str) -> bool:
        """Whether `outcome` (a status, ``cut`` or ``left``) is right for this kind."""
        if self.leaves:
            return outcome == "left"
        if self.right == EITHER:
            return outcome in (WHOLE, "cut")
        return outcome in ("cut", "502", "503", "504") if self.right == BROKEN else outcome == self.right


# Connections that the upstream silently closes are not in the mix: whether the next request still gets one is a race
# in which a 502 is a correct answer, and the seed cannot decide which request that is.
MIX = (
    Kind("auto", 30, streamed=False),
    Kind("auto", 34),
    Kind("thinking", 4),
    Kind("cached", 4),
    Kind("zero-start", 4),
    Kind("gzip", 2),
    Kind("crlf", 1),
    Kind("until-close", 1),
    Kind("early-hints", 1),
    Kind("bad-frame", 1),
    Kind("overloaded", 2, "529"),
    Kind("rate-limit", 1, once=True),
    Kind("zai-1302", 1, once=True),
    Kind("gateway-html", 1, "502", streamed=False),
    Kind("error-event", 1, EITHER),
    Kind("zai-error-stream", 1, EITHER, once=True),
    Kind("cut", 1, BROKEN),
    Kind("cut-mid-event", 1, BROKEN),
    Kind("cut-head", 1, BROKEN, streamed=False),
    Kind("no-stop", 1),
    Kind("bad-chunk", 1, BROKEN),
    Kind("refuse", 1, BROKEN),
    Kind("slow", 1, leaves=True),
    Kind("stall", 1, leaves=True),
)


async def connect(port: int) -> Stream:
    """A connection to the loopback `port`."""
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(stream: Stream, request: bytes, *, leave: bool = False) -> tuple[str, bool]:
    """Send and read to the end (or, with `leave`, to the first bytes): the outcome, and whether the connection can go on."""
    reader, writer = stream
    writer.write(request)
    try:
        while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
            pass  # an interim answer (RFC 9110, 15.2)
        if leave:
            return "left", False
        await _read_body(reader, head.lower())
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return "cut", False
    return head[9:12].decode(), b"\r\nconnection: close" not in head.lower()


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    if b"\r\ntransfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
        return
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise ValueError("neither a length nor chunks")
    await reader.readexactly(int(head[start + 17 : head.find(b"\r\n", start + 2)]))
