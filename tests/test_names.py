"""Memories of header names: they answer as the function does, ask it once, and stay small."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.fronts import added_by_front
from claude_proxy.names import NameMemory, lowered
from tests.access.added import CLIENTS, NAMES


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


def test_one_name_is_one_object() -> None:
    first, again = b"X-Once-%d" % 1, b"X-Once-%d" % 1
    assert lowered[first] == b"x-once-1"
    assert lowered[again] is lowered[first]
