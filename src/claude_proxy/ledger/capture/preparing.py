"""A finished exchange as a chain of redacted pieces: tools, system blocks, messages, the rest of the request, the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from claude_proxy.exchange import Exchange, Header
from claude_proxy.ledger.capture.assembling import Answer, events
from claude_proxy.ledger.capture.cutting import Layout, Slice, cut
from claude_proxy.ledger.capture.options import MAX_BODY, Parcel
from claude_proxy.ledger.capture.pacing import yield_to_the_loop
from claude_proxy.ledger.capture.redacting import HASH, SHORTEST, Memory, Redactor
from claude_proxy.protocol.decoding import decompressor
from claude_proxy.protocol.usage import StreamReader, is_json, reader_of

REST, WHOLE, ANSWER, ERROR, TEXT, NOTHING = "rest", "whole", "answer", "error", "text", "nothing"
BEGINNING = "beginning"  # of a request that was truncated
PIECE = 64 * 1024  # bytes that are decoded or parsed without a pause
TAIL = 4096  # bytes in which a cut text is cut back to a word's end: the last word may be the beginning of a credential
_CREDENTIALS = (b"authorization", b"x-api-key", b"proxy-authorization", b"cookie")
_KEPT_HEADERS = (b"content-type", b"anthropic-")


class Note(msgspec.Struct, omit_defaults=True):
    """What is known of a captured exchange besides its bodies.

    Attributes:
        request: `cut` into blocks, `whole`, its `beginning` only, or `unreadable` (a content coding that we cannot decode).
        answer: `message`, `text`, `unreadable` or `nothing`.
        complete: whether the answer's body came to its end and was kept whole.
        headers: of the request, as far as they say how to send it again.
        credential: name of the header that carried the client's credential; its value is nowhere.
    """

    status: int = 0
    outcome: str | None = None
    model: str | None = None
    session: str | None = None
    stream: bool = False
    failure: str | None = None
    request: str = "cut"
    answer: str = "nothing"
    complete: bool = True
    bytes_in: int = 0
    bytes_out: int = 0
    headers: list[tuple[str, str]] = []
    credential: str | None = None


class Piece:
    """One redacted piece. Its content is redacted again when needed, unless that has just been done."""

    __slots__ = ("_content", "_raw", "_redactor", "hash", "kind")

    def __init__(self, kind: str, raw: bytes, redactor: Redactor, memory: Memory) -> None:
        self.kind = kind
        self._raw = raw
        self._redactor = redactor
        self._content: bytes | None = None
        if kind == REST:  # redacted already, before it got a form of its own
            self._content, self.hash = raw, content_hash(kind, raw)
            return
        key = memory.key(kind, raw, redactor)
        known = memory.get(key)
        if known is None:
            self._content = redactor(raw)
            known = content_hash(kind, self._content)
            memory.put(key, known)
        self.hash = known

    @property
    def content(self) -> bytes:
        """The redacted bytes."""
        return self._redactor(self._raw) if self._content is None else self._content


class Transcript:
    """A chain of pieces that is ready to be written.

    Attributes:
        number: id of the exchange, and of the chain's last node.
        pieces: in the order of the prompt, then the rest of the request, then the answer.
        links: the chain's hash after each piece: equal links mean equal chains up to there.
        note: as JSON, redacted.
    """

    __slots__ = ("links", "note", "number", "pieces")

    def __init__(self, number: int, pieces: Sequence[Piece], note: bytes) -> None:
        self.number = number
        self.pieces = pieces
        self.links = list(chain(piece.hash for piece in pieces))
        self.note = note


def content_hash(kind: str, content: bytes) -> bytes:
    """The hash of a piece's redacted content."""
    return hashlib.blake2b(content, digest_size=HASH, person=kind.encode()).digest()


def chain(hashes: Iterable[bytes]) -> Iterator[bytes]:
    """The hash of the chain up to each piece."""
    link = b""
    for one in hashes:
        link = hashlib.blake2b(link + one, digest_size=HASH).digest()
        yield link


class Preparer:
    """Prepares parcels, one after another, in the thread.

    Args:
        secrets: returns the proxy's own credentials, of which a reload may bring others.
    """

    def __init__(self, secrets: Callable[[], Iterable[bytes]] = tuple) -> None:
        self._secrets = secrets
        self._memory = Memory()

    def __call__(self, parcel: Parcel) -> Transcript:
        redactor = Redactor([*self._secrets(), *credentials(parcel.request_headers)])
        note = _note(parcel)
        slices = [*_request(parcel, note, redactor), *_answer(parcel, note)]
        pieces = [Piece(kind, data, redactor, self._memory) for kind, data in _pausing(slices)]
        return Transcript(parcel.number, pieces, redactor(msgspec.json.encode(note)))


def credentials(headers: Iterable[Header]) -> list[bytes]:
    """The client's credentials."""
    found = [value for name, value in headers if name in _CREDENTIALS]
    return [form for value in found for form in {value, value.rpartition(b" ")[2]} if len(form) >= SHORTEST]


def _pausing(slices: Sequence[Slice]) -> Iterator[Slice]:
    """The slices, with a pause after every PIECE bytes for the event loop."""
    done = 0
    for piece in slices:
        yield piece
        done += len(piece.data) + 256
        if done > PIECE:
            done = 0
            yield_to_the_loop()


def _request(parcel: Parcel, note: Note, redactor: Redactor) -> list[Slice]:
    body, whole = parcel.request, parcel.whole
    coding = _field(parcel.request_headers, b"content-encoding")
    if coding:
        decoded, alive = _decoded([body], coding)
        body, whole = b"".join(decoded), whole and alive
        if not body:
            note.request = "unreadable"
            return []
    if not whole:
        note.request = "beginning"
        return [Slice(BEGINNING, cut_back(body))]
    found = cut(body)
    if found is None:
        note.request = "whole"
        return [Slice(WHOLE, body)]
    slices, layout = found
    redacted = Layout([redactor(part) for part in layout.around], layout.holes)
    return [*slices, Slice(REST, redacted.encode())]


def _answer(parcel: Parcel, note: Note) -> list[Slice]:
    exchange = parcel.exchange
    coding = _field(parcel.response_headers, b"content-encoding")
    chunks, alive = _decoded(parcel.chunks, coding) if coding else (parcel.chunks, True)
    note.complete = alive and not parcel.cut and exchange.outcome is not None and exchange.outcome.value == "completed"
    first = b"".join(chunks[:4])[:4096]
    if not first.strip():
        note.answer = "nothing" if alive else "unreadable"
        return [Slice(NOTHING, b"")]
    labelled = _field(parcel.response_headers, b"content-type").startswith(b"text/event-stream")
    if isinstance(reader_of(first, labelled_stream=labelled), StreamReader):
        return _streamed(chunks, note)
    body = b"".join(chunks)
    note.answer = "message" if is_json(body) and exchange.status < 400 else "text"
    kind = ANSWER if note.answer == "message" else ERROR if exchange.status >= 400 else TEXT
    return [Slice(kind, body if note.complete else cut_back(body))]


def _streamed(chunks: list[bytes], note: Note) -> list[Slice]:
    answer = Answer()
    for event in events(_pieces(chunks)):
        answer.feed(event)
    message = answer.message()
    found = [] if message is None else [Slice(ANSWER, msgspec.json.encode(message))]
    found += [Slice(ERROR, data) for data in answer.errors]
    note.answer = "text" if message is None else "message"
    note.complete = note.complete and (answer.stopped or bool(message and message.get("stop_reason")))
    return found or [Slice(TEXT, cut_back(b"".join(chunks)))]


def _pieces(chunks: list[bytes]) -> Iterator[bytes]:
    """The chunks joined to pieces of at least PIECE bytes, with a pause after each for the event loop."""
    some: list[bytes] = []
    size = 0
    for chunk in chunks:
        some.append(chunk)
        size += len(chunk)
        if size >= PIECE:
            yield b"".join(some)
            some, size = [], 0
            yield_to_the_loop()
    yield b"".join(some)


def _decoded(chunks: list[bytes], coding: bytes) -> tuple[list[bytes], bool]:
    """The chunks without their content coding, as far as they can be decoded, and whether that was to the end."""
    if coding == b"identity":
        return chunks, True
    engine = decompressor(coding)
    found = [engine.feed(chunk[at : at + PIECE]) for chunk in chunks for at in range(0, len(chunk), PIECE)]
    return [part for part in found if part], engine.alive


def cut_back(data: bytes) -> bytes:
    """A truncated text without its last word, which may be the beginning of a credential."""
    data = data[:MAX_BODY]
    end = max(data.rfind(mark, max(0, len(data) - TAIL)) for mark in (b" ", b'"', b"\n"))
    return data[: end + 1] if end >= 0 else data[:-TAIL]


def _field(headers: Sequence[Header], name: bytes) -> bytes:
    return next((value.strip().lower() for key, value in headers if key.lower() == name), b"")


def _note(parcel: Parcel) -> Note:
    exchange: Exchange = parcel.exchange
    failure = exchange.failure
    headers = parcel.request_headers
    return Note(
        status=exchange.status,
        outcome=None if exchange.outcome is None else exchange.outcome.value,
        model=exchange.model,
        session=exchange.session,
        stream=exchange.stream,
        failure=None if failure is None else f"{failure.kind}: {failure.message}",
        bytes_in=exchange.bytes_in,
        bytes_out=exchange.bytes_out,
        headers=[_header(header) for header in headers if header[0].startswith(_KEPT_HEADERS)],
        credential=next((name.decode() for name, _ in headers if name in _CREDENTIALS[:2]), None),
    )


def _header(header: Header) -> tuple[str, str]:
    name, value = header
    return name.decode("latin-1"), value.decode("latin-1")
