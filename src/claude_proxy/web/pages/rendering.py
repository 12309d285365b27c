"""Jinja2 as the page uses it: one environment per language, whose filters and globals speak that language.

Jinja2 is imported by the first page that is rendered, so that a proxy whose page nobody opens does not carry it.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from claude_proxy.web import assets
from claude_proxy.web.pages import charts, formats
from claude_proxy.web.pages.links import session_link
from claude_proxy.web.texts import known, text

if TYPE_CHECKING:
    from types import CodeType

    from jinja2 import Environment
    from jinja2.bccache import Bucket
    from markupsafe import Markup

    from claude_proxy.web.negotiation import Language

TEMPLATES = Path(__file__).parent.parent / "templates"
_lock = threading.Lock()
_environments: dict[str, Environment] = {}
_codes: dict[str, CodeType] = {}  # compiled templates, which the languages share


def render(language: Language, template: str, context: dict[str, Any]) -> str:
    """Render a template. Called in a thread: it takes milliseconds."""
    return environment(language).get_template(template).render(context)


def environment(language: Language) -> Environment:
    """The environment of a language, made when it is first needed."""
    with _lock:
        found = _environments.get(language)
        if found is None:
            found = _environments[language] = _made(language)
    return found


def _made(language: Language) -> Environment:
    from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined

    class Codes(BytecodeCache):
        """Lets each language use what another one has compiled."""

        def load_bytecode(self, bucket: Bucket) -> None:
            bucket.code = _codes.get(bucket.key)

        def dump_bytecode(self, bucket: Bucket) -> None:
            assert bucket.code is not None
            _codes[bucket.key] = bucket.code

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # all that a client or a model wrote is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=Codes(),
        optimized=False,  # it would put what a filter says in one language into the code
    )
    made.filters |= {
        "compact": partial(formats.compact, language=language),
        "count": formats.count,
        "dollars": formats.dollars,
        "duration": partial(formats.duration, language=language),
        "path": lambda value: quote(str(value), safe=""),
        "session_link": session_link,
        "round_off": formats.round_off,
        "share": formats.share,
        "short": formats.short,
        "size": formats.size,
    }
    made.globals |= {
        "all_tokens": formats.all_tokens,
        "cached": formats.cached,
        "cost": partial(_cost, language),
        "known": known,
        "lang": language,
        "ms": formats.milliseconds,
        "stacked": charts.stacked,
        "static": assets.versioned,
        "t": partial(text, language),
        "time": _time,
    }
    return made


def _time(stamp: str | None, form: str = "time") -> Markup | str:
    """A moment, which the browser localises.

    Args:
        stamp: RFC 3339, UTC.
        form: "time" (of the day), "date", "full" (date and time) or "ago" (relative; the exact one is its title).
    """
    from markupsafe import Markup

    if stamp is None:
        return formats.DASH
    shown = {"time": stamp[11:19], "date": stamp[:10]}.get(form, f"{stamp[:10]} {stamp[11:16]}")
    return Markup('<time datetime="{}" data-form="{}">{} UTC</time>').format(stamp, form, shown)


def _cost(language: Language, amount: float | None, unpriced: int = 0, *, estimated: bool = False) -> Markup:
    from markupsafe import Markup

    shown = formats.cost(amount, unpriced, estimated=estimated, language=language)
    if amount is None or unpriced:
        kind = "soft" if amount is None else "least"
        return Markup('<span class="{}" title="{}">{}</span>').format(kind, text(language, "shell.unpriced_why"), shown)
    if estimated:
        return Markup('<span title="{}">{}</span>').format(text(language, "shell.estimate"), shown)
    return Markup("<span>{}</span>").format(shown)
