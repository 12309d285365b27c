"""The named scenarios that a header, a model name or a script can ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints
from urllib.parse import unquote

import msgspec

from . import faults
from .scenario import Fault, Scenario, ToolCall, Usage, error


class ScriptError(ValueError):
    """A scenario is invalid; the text says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A scenario with a sentence for ``claude-proxy simulate --list``."""

    description: str
    scenario: Scenario


def _fault(description: str, fault: Fault) -> Preset:
    return Preset(description, Scenario(fault=fault))


def _zai(status: int, code: str, text: str, error_type: str, why: str) -> Preset:
    message = f"[{code}][{text}][2026083118194100000000000000]"
    return Preset(why, error(status, error_type, message, error_code=code))


BURST = "[1302][High concurrency usage of this API, please reduce concurrency][202608311819410000]"

PRESETS: Mapping[str, Preset] = {
    "auto": Preset("text, or the tool calls that the user's text asks for (the default)", Scenario()),
    "text": Preset("one text block (text, deltas, pace)", Scenario("text")),
    "thinking": Preset("a thinking block with its signature, then text", Scenario("thinking")),
    "tool": Preset("a call of the request's first tool, then text about its result", Scenario("tool")),
    "tools": Preset("parallel calls of the request's first two tools", Scenario("tools")),
    "slow": Preset("text with 0.2 s between events (pace)", Scenario("text", pace=0.2, deltas=20)),
    "cached": Preset("text that reports cache reads and writes", Scenario("text", usage=Usage(120, 40, 2000, 50_000, 500))),
    "zero-start": Preset("0/0 usage in message_start, totals in message_delta (z.ai)", Scenario(zero_start=True)),
    "error": Preset("an error in Anthropic's envelope (status, message, error_type)", error(500)),
    "overloaded": Preset("529 overloaded_error without retry-after", error(529, message="Overloaded")),
    "rate-limit": Preset(
        "429 rate_limit_error with retry-after: 1",
        error(429, message="Number of requests has exceeded your rate limit.", headers=(("retry-after", "1"),)),
    ),
    "unauthorized": Preset("401 authentication_error", error(401, message="invalid x-api-key")),
    "no-credit": Preset("400: the spend limit is reached", error(400, message="Your credit balance is too low.")),
    "too-long": Preset("400: the prompt is too long", error(400, message="prompt is too long: 250000 tokens > 200000 maximum")),
    "no-endpoint": Preset("404 not_found_error, whatever the path", error(404, message="Not Found")),
    "gateway-html": Preset(
        "502 with an HTML page, as a gateway in between sends it",
        Scenario("raw", status=502, content_type="text/html", body=b"<html><h1>502 Bad Gateway</h1></html>"),
    ),
    "zai-1113": _zai(429, "1113", "Insufficient balance", "rate_limit_error", "429, z.ai: in arrears"),
    "zai-1211": _zai(400, "1211", "Unknown Model", "invalid_request_error", "400, z.ai: unknown model"),
    "zai-1261": _zai(400, "1261", "Prompt exceeds max length", "invalid_request_error", "400, z.ai: prompt too long"),
    "zai-1302": _zai(429, "1302", "High concurrency usage", "rate_limit_error", "429, z.ai: too many at once"),
    "zai-1303": _zai(429, "1303", "High frequency usage", "rate_limit_error", "429, z.ai: too many per minute"),
    "zai-1305": _zai(
        529,
        "1305",
        "The service may be temporarily overloaded",
        "overloaded_error",
        "529 without retry-after, z.ai: overloaded",
    ),
    "zai-1308": _zai(
        429,
        "1308",
        "Usage limit reached for 5 hour. Your limit will reset at 2026-08-31 18:19:41",
        "rate_limit_error",
        "429, z.ai: the five-hour window is used up",
    ),
    "zai-1309": _zai(429, "1309", "Your plan has expired", "rate_limit_error", "429, z.ai: the plan has expired"),
    "zai-1310": _zai(
        429,
        "1310",
        "Weekly/Monthly Limit Exhausted. Your limit will reset at 2026-09-07 00:00:00",
        "rate_limit_error",
        "429, z.ai: the week or month is used up",
    ),
    "zai-1313": _zai(429, "1313", "Fair use limit", "rate_limit_error", "429, z.ai: fair-use throttle"),
    "zai-error-stream": _fault(
        "200 whose first event is an error in the envelope (1302)",
        faults.error_event(0, error_type="rate_limit_error", message=BURST),
    ),
    "zai-bare-error-stream": _fault(
        "200 whose first event is an error without the envelope (1302)",
        faults.error_event(0, envelope=False, error_type="rate_limit_error", message=BURST),
    ),
    "status": _fault("an error status (n)", faults.status(500)),
    "refuse": _fault("the connection is reset at once", faults.refuse()),
    "cut-request": _fault("closed after n bytes of the request body (how: fin, rst)", faults.cut("request")),
    "cut-head": _fault("closed before the status line (how)", faults.cut("head")),
    "cut": _fault("closed after n events; 0: after the head (how)", faults.cut("events", 3)),
    "cut-mid-event": _fault("closed in the middle of event n (how)", faults.cut("mid-event", 3)),
    "stall-head": _fault("silent before the status line (until: left, release)", faults.stall("head")),
    "stall": _fault("silent after n events (until)", faults.stall("events", 3)),
    "stop-reading": _fault("stops reading after n bytes of the body (until)", faults.stop_reading()),
    "early": Preset(
        "413 after n bytes of the body, then reads on (then: drain, close, rst)",
        error(413, message="Request exceeds the maximum size", fault=faults.early()),
    ),
    "error-event": _fault("an error event after n events", faults.error_event(3)),
    "bad-frame": _fault("a broken SSE frame in place of event n", faults.bad_frame(3)),
    "bad-chunk": _fault("a chunk without a size after n events, then closed", faults.bad_chunk(3)),
    "no-stop": _fault("a clean end without message_stop", faults.no_stop()),
    "close-after": _fault("a good answer, then closed without Connection: close", faults.close_after()),
    "close-on-next": _fault("a good answer, then closed when the next request comes", faults.close_on_next()),
    "drip": Preset("one byte at a time with a pause (drip: seconds)", Scenario(drip=0.002)),
    "slow-head": Preset("the head one byte at a time (slow_head: seconds)", Scenario(slow_head=0.005)),
    "split": Preset("each byte its own write", Scenario(writes="byte")),
    "crlf": Preset("CRLF line ends in the SSE frames", Scenario(newline="\r\n")),
    "until-close": Preset("no length, no chunks: the body ends with the connection", Scenario(framing="close")),
    "early-hints": Preset("a 103 before the answer", Scenario(interim=((103, (("link", "</style.css>; rel=preload"),)),))),
    "trailers": Preset("a trailer after the chunked body", Scenario(trailers=(("x-checksum", "abc123"),))),
    **{
        coding: Preset(f"the answer in Content-Encoding {coding}", Scenario(encoding=coding))
        for coding in ("gzip", "deflate", "br", "zstd")
    },
}
"""Every scenario that has a name."""

_FAULT_TYPES = get_type_hints(Fault)
_TYPES = get_type_hints(Scenario)
_USAGE_FIELDS = {field.name for field in fields(Usage)}
_NEWLINES = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}


def named(name: str, options: Mapping[str, Any] | None = None) -> Scenario:
    """Return the preset of this name with some options changed.

    An option is a field of the scenario, of its fault, or of its usage (``input_tokens`` ...), or ``retry_after``.

    Raises:
        ScriptError: unknown name or option, or an invalid value.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise ScriptError(f"there is no scenario {name!r}; `claude-proxy simulate --list` shows all")
    scenario = preset.scenario
    for option, value in (options or {}).items():
        scenario = _with_option(scenario, name, option, value)
    return scenario


def _with_option(scenario: Scenario, name: str, option: str, value: Any) -> Scenario:
    fault = scenario.fault
    where = f"{name}: {option}"
    if option == "retry_after":
        return replace(scenario, headers=(*scenario.headers, ("retry-after", str(value))))
    if option in _USAGE_FIELDS:
        usage = scenario.usage or Usage(0, 0)
        return replace(scenario, usage=replace(usage, **{option: _converted(value, int, where)}))
    if fault is not None and option in _FAULT_TYPES and option not in ("kind", "where", "envelope"):
        return replace(scenario, fault=replace(fault, **{option: _converted(value, _FAULT_TYPES[option], where)}))
    if option not in _TYPES or option in ("fault", "usage"):
        known = sorted({*_TYPES, *_USAGE_FIELDS, *(_FAULT_TYPES if fault else ())} - {"fault", "usage", "where"})
        raise ScriptError(f"{name}: there is no option {option!r}; known are {', '.join(known)}")
    return replace(scenario, **{option: _converted(_shaped(option, value), _TYPES[option], where)})


def _shaped(option: str, value: Any) -> Any:
    """Convert a value from YAML or a header to the field's type."""
    if option == "newline":
        return _NEWLINES.get(str(value).lower(), value)
    if option in ("body", "wire") and isinstance(value, str):
        return value.encode()
    if option in ("headers", "trailers") and isinstance(value, Mapping):
        return [(str(name), str(one)) for name, many in value.items() for one in _listed(many)]
    if option == "tools" and isinstance(value, list):
        return [ToolCall(**one) if isinstance(one, dict) and {*one} <= {"name", "input"} else one for one in value]
    return value


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _converted(value: Any, wanted: Any, where: str) -> Any:
    if wanted in (str, str | None) and isinstance(value, int | float):
        value = str(value)  # YAML reads `error_code: 1302` as a number
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as problem:
        raise ScriptError(f"{where}: {problem}; got {value!r}") from None


def from_header(value: str) -> Scenario:
    """Parse ``NAME[;option=value...]``; a ``;`` in a value is percent-encoded. Raises ScriptError."""
    name, *pairs = (piece.strip() for piece in value.split(";"))
    options = {}
    for pair in pairs:
        option, equals, text = pair.partition("=")
        if not equals:
            raise ScriptError(f"{name}: an option is written name=value, not {pair!r}")
        options[option.strip()] = unquote(text.strip())
    return named(name, options)


def from_model(model: str) -> Scenario | None:
    """Parse ``sim-NAME`` or ``sim-NAME-option-value...``; None if the model has no such name. Raises ScriptError."""
    if not model.startswith("sim-"):
        return None
    words = model.removeprefix("sim-").split("-")
    for count in range(len(words), 0, -1):
        name, rest = "-".join(words[:count]), words[count:]
        if name in PRESETS and len(rest) % 2 == 0:
            return named(name, dict(zip(rest[::2], rest[1::2], strict=True)))
    raise ScriptError(f"the model {model!r} names no scenario; `claude-proxy simulate --list` shows all")
