"""A notice: one message for a person, small enough for ntfy and free of secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

MAX_MESSAGE = 4096  # bytes; ntfy turns a longer message into an attachment (docs.ntfy.sh/publish)
MAX_TITLE = 250  # bytes; more than phones show
SILENT = 2  # ntfy's "low": shown, without a sound (docs.ntfy.sh/publish, "Message priority")
_SECRET = re.compile(
    r"(?i)\b(?:sk-[\w-]{6,}|tk_\w{6,}|(?:bearer|basic)\s+[\w.~+/=-]{6,}|[0-9a-f]{32}\.\w{8,}|eyJ[\w-]{8,}[\w.-]*)"
)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class Notice:
    """The message to push.

    Attributes:
        title: one line.
        message: plain text.
        priority: 1 (silent) to 5 (urgent), as ntfy counts.
        tags: emoji short codes (docs.ntfy.sh/emojis).
        sequence: notices with the same sequence replace each other on the phone (since ntfy 2.16; ignored before).
        link: URL that the notification and its button open; "" for none.
        button: label of that button.
        update: only worth sending where it replaces the one before it.
    """

    title: str
    message: str
    priority: int
    tags: tuple[str, ...]
    sequence: str
    link: str = ""
    button: str = ""
    update: bool = False

    def scrubbed(self, secrets: Iterable[str] = ()) -> Notice:
        """Return the notice without `secrets` or anything that looks like one, cut to ntfy's limits."""
        title, message = self.title, self.message
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            title, message = title.replace(secret, REDACTED), message.replace(secret, REDACTED)
        return replace(self, title=clip(scrub(title), MAX_TITLE), message=clip(scrub(message), MAX_MESSAGE))


def scrub(text: str) -> str:
    """Remove what looks like a credential. Done here again because topics may be public."""
    return _USERINFO.sub("", _SECRET.sub(REDACTED, text))


def clip(text: str, limit: int) -> str:
    """Cut `text` to at most `limit` bytes of UTF-8, between characters, with an ellipsis."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def plain(text: str | None, limit: int = 64) -> str:
    """Turn foreign text (a model name, an error message) into one printable line of at most `limit` characters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return words if len(words) <= limit else words[: limit - 1] + "…"
