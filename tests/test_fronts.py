"""Which fields a front adds: every documented one, and none that a client writes."""

from __future__ import annotations

import pytest

from claude_proxy.fronts import added_by_front
from tests.access.added import CLIENTS, NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_fronts_add_is_known(name: str) -> None:
    assert added_by_front(name.encode())


@pytest.mark.parametrize("name", CLIENTS)
def test_what_clients_write_is_not_taken_for_it(name: str) -> None:
    assert not added_by_front(name.encode())
