"""The client's announced length."""

from __future__ import annotations

import pytest

from claude_proxy.errors import BadRequest, BodyTooLarge
from claude_proxy.proxy.client import Client, Message


async def nothing() -> Message:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1.0", b"0x10", b" 1", b"1 ", b"1,1", b"\xb2", b"9" * 5000])
def test_a_length_that_is_none_is_refused(length: bytes) -> None:
    with pytest.raises(BadRequest, match="not a number"):
        Client(nothing, 10).announce(length)


def test_a_length_over_the_limit_is_refused_and_one_at_it_is_not() -> None:
    Client(nothing, 10).announce(b"10")
    with pytest.raises(BodyTooLarge, match="larger than the 10 bytes"):
        Client(nothing, 10).announce(b"11")
