"""Who may import whom, and where."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import grimp

from tests.architecture.source import ROOT, SRC, TESTS, imported, inside_functions, modules

# Lazy starts: a command imports its rooms when it is called, the wiring an optional room when it is switched on.
MAY_IMPORT_LATE = ("cli/", "app.py", "parts.py")
MOCKS = {"mock", "unittest.mock", "pytest_mock", "asynctest", "respx", "responses", "pytest_httpx", "pytest_httpserver", "vcr"}


def test_the_contracts_hold() -> None:
    """The layers of pyproject.toml, by import-linter."""
    linter = Path(sys.executable).with_name("lint-imports")
    environ = os.environ | {"PYTHONPATH": str(SRC.parent)}  # this source, whatever is installed
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = grimp.build_graph("claude_proxy", exclude_type_checking_imports=True, cache_dir=None)
    left = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert sorted(left) == []


def test_imports_stand_at_the_top_of_their_file() -> None:
    late = [
        f"{file}:{node.lineno} {name}"
        for file, tree in modules().items()
        if not file.startswith(MAY_IMPORT_LATE)
        for node in inside_functions(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node)
        if name.startswith((".", "claude_proxy"))
    ]
    assert late == []


def test_the_data_path_has_no_middleware_that_buffers() -> None:
    """BaseHTTPMiddleware, also by its decorator, costs about 21 us per streamed chunk (docs/facts.md, "ASGI servers")."""
    found = []
    for file, tree in modules().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            found += [f"{file}: {name}" for name in names if name in ("BaseHTTPMiddleware", "middleware")]
    assert found == []


def test_tests_use_real_servers_and_hand_written_fakes() -> None:
    found = []
    for file, tree in modules(TESTS).items():
        for node in ast.walk(tree):
            names = imported(node)
            if isinstance(node, ast.ImportFrom):
                names += [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.arg) and node.arg == "mocker":
                names.append("pytest_mock")
            found += [f"{file}: {name}" for name in names if name in MOCKS]
    assert found == []
