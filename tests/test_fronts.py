"""Which fields a front adds: every documented one, and none that a client writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.fronts import NameMemory, added_by_front
from tests.access.added import CLIENTS, NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_fronts_add_is_known(name: str) -> None:
    assert added_by_front(name.encode())


@pytest.mark.parametrize("name", CLIENTS)
def test_what_clients_write_is_not_taken_for_it(name: str) -> None:
    assert not added_by_front(name.encode())


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([name.encode() for name in [*NAMES, *CLIENTS]]) | st.binary(max_size=100)))
def test_a_memory_answers_as_the_function_does_however_often_it_is_asked(names: list[bytes]) -> None:
    memory = NameMemory(added_by_front)
    for name in names * 2:
        assert memory[name] is added_by_front(name)


def test_a_memory_decides_once_for_each_name() -> None:
    asked: list[bytes] = []
    memory = NameMemory(lambda name: bool(asked.append(name)) or name == b"b")
    assert [memory[name] for name in (b"a", b"b", b"a", b"b")] == [False, True, False, True]
    assert asked == [b"a", b"b"]


def test_a_client_cannot_make_a_memory_grow() -> None:
    memory = NameMemory(added_by_front)
    for number in range(3 * NameMemory.NAMES):
        assert memory[b"x-%d" % number] is False
        assert memory[b"cf-%d" % number + b"y" * 1000] is True
    assert len(memory) <= NameMemory.NAMES
    assert max(map(len, memory)) <= NameMemory.LENGTH
