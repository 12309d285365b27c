"""The source as text and as syntax trees, read once."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "claude_proxy"
TESTS = ROOT / "tests"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules(folder: Path = SRC) -> dict[str, ast.Module]:
    """Every Python file below `folder`, by its path from there."""
    return {
        str(path.relative_to(folder)): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(folder.rglob("*.py"))
    }


def lines(path: Path) -> int:
    """How many lines a file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> dict[str, Function]:
    """Every function of the source, as `file:line name`."""
    return {
        f"{file}:{node.lineno} {node.name}": node
        for file, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    }


def length(function: Function) -> int:
    """Lines from `def` to the last one."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def imported(node: ast.AST) -> list[str]:
    """The modules that an import statement names; a relative one begins with a dot."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []


def inside_functions(tree: ast.Module) -> list[ast.AST]:
    """Every node that stands inside a function."""
    return [inner for node in ast.walk(tree) if isinstance(node, Function) for inner in ast.walk(node)]
