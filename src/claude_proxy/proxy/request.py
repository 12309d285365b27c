"""The client's request: its head, and what is kept of its body to be read and sent again."""

from __future__ import annotations

from collections.abc import Mapping

from claude_proxy.proxy.headers import CREDENTIALS, Header
from claude_proxy.proxy.target import Target
from claude_proxy.routing.classes import READ

_KEPT = (*CREDENTIALS, *READ)
KEEP = 8 * 1024 * 1024  # bytes kept of one body
NOTHING: frozenset[bytes] = frozenset()


class Shelf:
    """How many bytes of request bodies all exchanges of this process keep together.

    Args:
        limit: of these bytes; beyond it, bodies are forwarded without being kept (MAX_KEPT).
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Request:
    """One request.

    Args:
        headers: names in lower case.
        fields: the same by name, the last of several.
        checked: whether the server has refused line breaks in them (docs/serve.md says which server lets them pass).
        shelf: counts the kept bytes.

    Attributes:
        body: the parts that are kept, until the upstream answers; `kept` bytes.
        target: where it goes, once that is known.
        withheld: names of fields that are not forwarded.
    """

    __slots__ = ("_shelf", "body", "checked", "fields", "headers", "kept", "target", "withheld")

    target: Target

    def __init__(self, headers: list[Header], fields: Mapping[bytes, bytes], shelf: Shelf, *, checked: bool) -> None:
        self.headers = headers
        self.fields = fields
        self.checked = checked
        self.body: list[bytes] = []
        self.withheld = NOTHING
        self._shelf = shelf
        self.kept = 0

    @property
    def has_room(self) -> bool:
        """Whether more of the body may be kept."""
        return self.kept < KEEP and self._shelf.used < self._shelf.limit

    def keep(self, data: bytes) -> None:
        """Keep the next part of the body."""
        if data:
            self.body.append(data)
            self.kept += len(data)
            self._shelf.used += len(data)

    def whole(self) -> bytes:
        """What is kept, in one piece."""
        if len(self.body) != 1:
            self.body = [b"".join(self.body)]
        return self.body[0]

    def release_body(self) -> None:
        """Drop what was kept: the upstream has answered, or no attempt follows."""
        if self.kept:
            self.body = []
            self._shelf.used -= self.kept
            self.kept = 0

    def release_headers(self) -> None:
        """Drop the headers, except for the credentials, which an error in the answer may quote, and what its class is told by."""
        self.fields = {name: self.fields[name] for name in _KEPT if name in self.fields}
        self.headers = []
