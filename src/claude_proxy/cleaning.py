"""temporary"""


def clean(text: str | bytes | None, limit: int) -> str | None:
    """temporary"""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return None if text is None else text[:limit]
