"""Reads usage, model, stop reason and error from an answer: an event stream or one JSON body.

The usage rule (docs/facts.md, "The wire"): start with `message_start.message.usage`; a key that is present in a later
`message_delta.usage` replaces the earlier value, an absent key keeps it, and a zero never replaces a count (z.ai starts with 0/0,
and some upstreams end with zeros). Usage in unknown events is ignored.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec

from claude_proxy.cleaning import clean
from claude_proxy.exchange import Usage
from claude_proxy.protocol.sse import BYTE_ORDER_MARK, Event, Splitter, holding, parse

# Only events that contain one of these are parsed. Text that happens to contain one is parsed too, without any effect.
# `code` finds errors that an upstream sends without Anthropic's envelope (docs/facts.md, "The wire").
_MARKS = _MESSAGE, _ERROR, _CODE = (b"message_", b"error", b'"code"')
_STOP = b'"message_stop"'

_FIELDS = (b"event:", b"data:", b":", b"id:", b"retry:")  # the possible beginnings of an event stream
MAX_JSON = 4 * 1024 * 1024  # bytes of an unstreamed answer that are kept, to read them at its end

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]  # fits a JSON number and a database integer; anything else is not a count


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: _Count | None = None
    ephemeral_1h_input_tokens: _Count | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: _Count | None = None
    web_fetch_requests: _Count | None = None


class _Usage(msgspec.Struct):
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    message: str | None = None
    code: str | int | None = None
    details: _Details | None = None  # Anthropic's place for a code (docs.anthropic.com/en/api/errors)


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    model: str | None = None
    usage: _Usage | None = None
    stop_reason: str | None = None


class _Body(msgspec.Struct):
    """A Messages answer, an error envelope or the data of a stream event; their field names do not conflict."""

    type: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    stop_reason: str | None = None
    message: _Message | str | None = None
    delta: _Delta | None = None
    error: _Error | str | None = None
    code: str | int | None = None
    msg: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """An error as the upstream sent it; `code` is the provider's own code, if there is one."""

    type: str
    message: str
    code: str | None = None


_decode = msgspec.json.Decoder(_Body, strict=False).decode


def _read(data: bytes) -> _Body | None:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_loosely(data)
    except RecursionError:  # nested a thousand levels deep
        return None


def _read_loosely(data: bytes) -> _Body | None:
    """Read the fields that have the expected type, and ignore the others."""
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _fitting(raw, _Body) if isinstance(raw, dict) else None


def _fitting(raw: dict[str, Any], kind: type[_Struct]) -> _Struct:
    """Create a `kind` from the fields of `raw` that have the expected type."""
    found = kind()
    for name, annotation in _hints(kind).items():
        if name in raw:
            setattr(found, name, _fit(raw[name], annotation))
    return found


def _fit(value: Any, annotation: Any) -> Any:
    try:
        return msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError:
        structs = [part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, msgspec.Struct)]
        return _fitting(value, structs[0]) if structs and isinstance(value, dict) else None


@functools.cache
def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def merge(into: Usage | None, new: _Usage | None) -> Usage | None:
    """Apply the usage rule: a value in `new` replaces the earlier one, except that a zero never replaces a count."""
    if new is None:
        return into
    if into is None:
        into = Usage(new.input_tokens, new.output_tokens, new.cache_read_input_tokens, new.cache_creation_input_tokens)
    else:
        into.input = _newer(into.input, new.input_tokens)
        into.output = _newer(into.output, new.output_tokens)
        into.cache_read = _newer(into.cache_read, new.cache_read_input_tokens)
        into.cache_write = _newer(into.cache_write, new.cache_creation_input_tokens)
    if new.cache_creation is not None:
        into.cache_write_5m = _newer(into.cache_write_5m, new.cache_creation.ephemeral_5m_input_tokens)
        into.cache_write_1h = _newer(into.cache_write_1h, new.cache_creation.ephemeral_1h_input_tokens)
    if new.server_tool_use is not None:
        into.web_searches = _newer(into.web_searches, new.server_tool_use.web_search_requests)
        into.web_fetches = _newer(into.web_fetches, new.server_tool_use.web_fetch_requests)
    if new.service_tier:
        into.service_tier = clean(new.service_tier, 50) or into.service_tier
    if new.inference_geo:
        into.inference_geo = clean(new.inference_geo, 50) or into.inference_geo
    if new.speed:
        into.speed = clean(new.speed, 50) or into.speed
    return into


def _newer(count: int | None, new: int | None) -> int | None:
    return count if new is None or (count and not new) else new


def _error(body: _Body) -> ErrorBody:
    error = body.error
    if error is None:  # without Anthropic's envelope
        error = body.message if isinstance(body.message, str) else body.msg
    if not isinstance(error, _Error):
        error = _Error(message=error)
    code = error.code if error.code is not None else body.code
    if code is None and error.details is not None:
        code = error.details.error_code
    # The type becomes a failure's kind and the code its number; `judge` cleans the message.
    return ErrorBody(clean(error.type, 100) or "api_error", error.message or "", None if code is None else clean(str(code), 64))


def _is_error(body: _Body) -> bool:
    """Whether this is an error: Anthropic's envelope, or z.ai's own form `{"code": 500, "msg": "..."}`."""
    return body.error is not None or (body.type is None and body.code not in (None, 0, 200, "200"))


class Reading:
    """What an answer has reported so far.

    Attributes:
        usage: None until the upstream has reported a count.
        error: the first error, as the upstream sent it.
        stopped: whether `message_stop` has come (streams only).
    """

    __slots__ = ("error", "model", "stop_reason", "stopped", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.error: ErrorBody | None = None
        self.stopped = False

    @property
    def complete(self) -> bool:
        """Whether the message is complete: it has a stop reason or its last event."""
        return self.stopped or self.stop_reason is not None

    def feed(self, chunk: bytes) -> None:
        """Read the next chunk."""

    def finish(self) -> None:
        """Read what is left after the last chunk."""


class StreamReader(Reading):
    """Reads a Messages stream. Chunks may end anywhere, also within an event."""

    __slots__ = ("_splitter",)

    def __init__(self) -> None:
        super().__init__()
        self._splitter = Splitter()

    @property
    def between(self) -> bool:
        """Whether the stream is between two events, so that another event may be inserted."""
        return self._splitter.between

    def feed(self, chunk: bytes) -> None:
        """Read the next chunk."""
        whole = self._splitter.feed(chunk)
        if whole and (_MESSAGE in whole or _ERROR in whole or _CODE in whole):
            for block in holding(whole, _MARKS):
                for event in parse(block):
                    self._take(event)
        if not self._splitter.between and self._splitter.pending(_STOP):
            self._take_unended()

    def _take_unended(self) -> None:
        """Notice `message_stop` without waiting for its empty line: some upstreams never send it and stay connected."""
        for event in parse(self._splitter.so_far()):
            body = _read(event.data)
            self.stopped = self.stopped or (body is not None and body.type == "message_stop")

    def finish(self) -> None:
        """Read what follows the last empty line: an event without its end, or JSON that is not an event."""
        rest = self._splitter.so_far()
        if is_json(rest):
            self._take(Event("message", rest))
        for event in parse(rest):
            self._take(event)

    def _take(self, event: Event) -> None:
        if event.name == "message_stop":
            self.stopped = True
        elif event.name in ("message_start", "message_delta", "error", "message"):
            body = _read(event.data)
            if body is None and event.name == "error":
                body = _Body(error=event.data.decode("utf-8", "replace"))
            if body is not None:
                # Without an `event:` field the type in the data names the event. The SDKs need the field; other clients do not.
                self._apply(event.name if event.name != "message" else body.type or "message", body)

    def _apply(self, name: str, body: _Body) -> None:
        if name == "message_start" and isinstance(body.message, _Message):
            self.model = body.message.model or self.model
            self.usage = merge(self.usage, body.message.usage)
        elif name == "message_delta":
            self.usage = merge(self.usage, body.usage)
            if body.delta is not None and body.delta.stop_reason is not None:
                self.stop_reason = body.delta.stop_reason
        elif name == "message_stop":
            self.stopped = True
        elif name == "error" or _is_error(body):  # `event: error`, or z.ai's bare `data:` with an error in it
            self.error = self.error or _error(body)


class JsonReader(Reading):
    """Reads an answer that is one JSON value, once it is complete.

    Args:
        limit: most bytes to keep; a larger answer is not read.
    """

    __slots__ = ("_kept", "_left")

    def __init__(self, limit: int = MAX_JSON) -> None:
        super().__init__()
        self._kept: list[bytes] = []
        self._left = limit

    def feed(self, chunk: bytes) -> None:
        """Keep the next chunk."""
        self._left -= len(chunk)
        if self._left >= 0:
            self._kept.append(chunk)
        else:
            self._kept.clear()

    def finish(self) -> None:
        """Read what was kept."""
        kept, self._kept = self._kept, []
        body = _read(b"".join(kept).removeprefix(BYTE_ORDER_MARK)) if kept else None
        if body is None:
            return
        if _is_error(body):
            self.error = _error(body)
        else:
            self.model, self.stop_reason = body.model, body.stop_reason
            self.usage = merge(None, body.usage)


def reader_of(first: bytes, *, labelled_stream: bool) -> StreamReader | JsonReader:
    """Return the reader for a body that begins with `first`. The content decides, because the content type may be wrong."""
    if is_json(first):
        return JsonReader()
    return StreamReader() if labelled_stream or first.lstrip().startswith(_FIELDS) else JsonReader()


def is_json(data: bytes) -> bool:
    """Whether a body that begins with `data` is a JSON object: no line of an event stream begins with a brace."""
    return data[:64].removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"{"


def read_answer(data: bytes) -> Reading:
    """Read a complete answer: a message, an error envelope or a short event stream."""
    reader = reader_of(data, labelled_stream=False)
    reader.feed(data)
    reader.finish()
    return reader
