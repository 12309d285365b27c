"""No expression and no scan can be made to take long: neither quadratic in what it is sent, nor worse."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.hostile import CASES, MIB, OWN, Case
from tests.architecture.source import modules

# Bytes -> seconds of CPU. The goal is 50 ms for 1 MiB on a quiet machine: `python -m tests.architecture.hostile` measures.
# The bounds are ten times that, so that a slow machine passes. What is quadratic exceeds the first one already, before it could
# run for minutes.
BOUNDS = {16 * 1024: 0.05, 128 * 1024: 0.15, MIB: 0.5}


TABLES = ("protocol/providers/",)


def named(tree: ast.Module) -> dict[ast.AST, str]:
    """The expressions that get a name in their module, by the call that compiles them."""
    return {
        node.value: target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def uses_of_re() -> Iterator[tuple[str, str, str | None]]:
    """Each call of a function of `re` in the source: where, which, and the name that its result gets in the module."""
    for file, tree in modules().items():
        names = named(tree)
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=function)):
                    yield file, function, names.get(node)


def test_every_expression_has_a_worst_case() -> None:
    covered = {name for case in CASES for name in case.covers} | set(OWN)
    found = {f"{file}:{name}" for file, function, name in uses_of_re() if function == "compile" and not file.startswith(TABLES)}
    assert found - covered == set(), "put these into tests/architecture/hostile.py"
    assert covered - found == set(), "these are no more"
    assert len(found) > 20


def test_an_expression_without_a_name_is_the_users_own_or_stands_in_a_providers_table() -> None:
    """Those are not seen above: the cases run every provider's table, and settings and arguments are no foreign bytes."""
    loose = {file for file, function, name in uses_of_re() if function != "escape" and name is None}
    assert {file for file in loose if not file.startswith(("cli/", *TABLES))} <= {"settings/kinds.py"}


def test_expressions_are_called_through_the_module() -> None:
    """`from re import compile` would hide from these tests."""
    hidden = [f for f, tree in modules().items() for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "re"]
    assert hidden == []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_worst_that_can_be_sent_takes_little_time(case: Case) -> None:
    for size, bound in BOUNDS.items():
        for value in case.inputs(min(size, case.most)):
            seconds = case.seconds(value)
            if seconds > bound:  # once more: the processor may have been slowed down
                seconds = case.seconds(value)
            assert seconds < bound, f"{len(value)} bytes of {value[:60]!r} took {seconds:.2f} s"
        if size >= case.most:
            break
