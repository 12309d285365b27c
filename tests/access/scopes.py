"""ASGI scopes by hand."""

from typing import Any


def scope(
    *headers: tuple[str, str], client: tuple[str, int] | None = ("127.0.0.1", 50000), method: str = "POST", **more: Any
) -> dict[str, Any]:
    """An HTTP scope with these header fields (names in lower case, as servers give them)."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": method, "path": "/", "headers": fields, "client": client} | more
