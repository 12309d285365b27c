"""What the books' row of an exchange means, in sentences of the viewer's language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from claude_proxy.exchange import Failure
from claude_proxy.protocol.providers import GENERIC, PROVIDERS, Provider
from claude_proxy.web.pages import formats
from claude_proxy.web.texts import known

if TYPE_CHECKING:
    from claude_proxy.notify.advice import Advice
    from claude_proxy.web.pages.visit import Visit

NOTICEABLE = 50  # milliseconds in the queue that are worth a word
SILENT = 5_000  # milliseconds of silence that are worth a word
PROMPT = ("cache_read_input_tokens", "cache_creation_input_tokens", "input_tokens")
Item = dict[str, Any]
_BY_LABEL = {provider.label: provider for provider in PROVIDERS}


def times(visit: Visit, item: Item) -> list[str]:
    """Where the time went, in sentences."""

    def written(ms: float) -> str:
        return formats.duration(ms, visit.language)

    total, head, queue = item["duration_ms"], item["first_byte_ms"], item["queue_ms"] or 0
    found = []
    if queue >= NOTICEABLE:
        found.append(visit.text("exchange.queued", time=written(queue)))
    if head is None:
        found.append(visit.text("exchange.no_byte", time=written(total)))
    elif item["stream"]:
        found.append(visit.text("exchange.streamed", first=written(head), rest=written(max(0, total - head))))
    else:
        found.append(visit.text("exchange.answered", time=written(total)))
    if item["stream"] and item["silence_ms"] >= SILENT:
        found.append(visit.text("exchange.silent", time=written(item["silence_ms"])))
    return found


def failure(visit: Visit, item: Item, providers: Mapping[str, Provider]) -> Item | None:
    """What went wrong: its name, what it means, what to do, whose side it was; None if all went well."""
    outcome = item["outcome"] or "unknown"
    told = item["failure"]
    if told is not None:
        about = _advice(visit, {"upstream": item["upstream"], **told}, providers)
        return {
            "code": told["provider_code"] or told["kind"],
            "meaning": about[0],
            "fix": about[1],
            "side": visit.text(f"exchange.side_{told['side']}") if known(f"exchange.side_{told['side']}") else None,
            "message": told["message"],
            "said": told["side"] == "upstream",
            "outcome": visit.text(f"exchange.what_{outcome}") if known(f"exchange.what_{outcome}") else "",
        }
    if outcome == "completed" and item["status"] < 400:
        return None
    word = f"exchange.what_{outcome if outcome != 'completed' else 'refused'}"
    said = visit.text(word) if known(word) else ""
    return {"code": outcome, "meaning": said, "fix": "", "side": None, "message": None, "said": False, "outcome": ""}


def meaning(visit: Visit, failed: Item, providers: Mapping[str, Provider]) -> str:
    """A failure of an attempt in a few words."""
    return _advice(visit, failed, providers)[0]


def _advice(visit: Visit, failed: Item, providers: Mapping[str, Provider]) -> tuple[str, str]:
    about = advice(visit, failed, providers)
    return about.name.to(visit.language), about.do.to(visit.language)


def providers_of(upstreams: Iterable[Item]) -> dict[str, Provider]:
    """The provider of each upstream, as the settings name it or as its host says."""
    return {one["name"]: _BY_LABEL.get(one["provider"], GENERIC) for one in upstreams}


def advice(visit: Visit, failed: Item, providers: Mapping[str, Provider]) -> Advice:
    """What a failure means by the table of its upstream's provider. The books keep a code, but not whose it is.

    Args:
        failed: with `upstream`, `side`, `kind`, `message` and `provider_code`.
    """
    provider = providers.get(failed["upstream"], GENERIC)
    told = Failure(failed["side"] or "upstream", failed["kind"], failed["message"] or "", failed["provider_code"], provider.name)
    return visit.site.advise(told, provider)


def cache(visit: Visit, item: Item) -> Item | None:
    """The verdict on the prompt cache: a sentence, what to do, and what was lost; None without one."""
    told = item["cache"]
    if told is None:
        return None
    kind = told["verdict"] if told["area"] is None else f"{told['verdict']}_{told['area']}"
    if not known(f"exchange.cache_{kind}"):
        kind = "unknown"
    fix = f"exchange.cache_{kind}_fix"
    return {
        "sentence": visit.text(f"exchange.cache_{kind}", verdict=told["verdict"], message=told["message"]),
        "block": told["block"],
        "fix": visit.text(fix) if known(fix) else "",
        "good": told["verdict"] in ("first", "grew") and not told["lost_tokens"],
        "lost_tokens": told["lost_tokens"],
        "lost_usd": told["lost_usd"],
    }


def speed(item: Item) -> float | None:
    """Output tokens per second while the answer came; None where that cannot be said."""
    tokens, head = item["usage"]["output_tokens"], item["first_byte_ms"]
    if item["failed"] or not (item["stream"] and tokens and head is not None and item["duration_ms"] - head >= 100):
        return None
    return float(tokens / (item["duration_ms"] - head) * 1000)


def prompt(item: Item) -> list[tuple[str, int, float, float]]:
    """The parts of the prompt that have tokens: key, tokens, and the place of a bar's segment, 0 to 1000."""
    usage = item["usage"]
    parts = [(key, int(usage[key])) for key in PROMPT if usage[key]]
    total = sum(tokens for _, tokens in parts)
    found, x = [], 0.0
    for key, tokens in parts:
        width = tokens / total * 1000
        found.append((key, tokens, round(x, 2), round(width, 2)))
        x += width
    return found
