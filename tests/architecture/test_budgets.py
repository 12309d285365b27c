"""The budgets that can be counted: lengths, dependencies, tests per code."""

import re
import statistics
from collections.abc import Iterator

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from tests.architecture.source import ROOT, SRC, TESTS, functions, length, lines

MAX_FILE = 400
MAX_FUNCTION = 60
MAX_MEDIAN = 9
MAX_DEPENDENCIES = 40
MIN_TESTS_PER_CODE = 1.2


def test_no_source_file_is_longer_than_its_budget() -> None:
    long = {str(path.relative_to(SRC)): lines(path) for path in SRC.rglob("*.py") if lines(path) > MAX_FILE}
    assert long == {}


def test_no_function_is_longer_than_its_budget() -> None:
    assert {name: length(node) for name, node in functions().items() if length(node) > MAX_FUNCTION} == {}


def test_the_median_function_is_short() -> None:
    assert statistics.median(length(node) for node in functions().values()) <= MAX_MEDIAN


def requirements() -> Iterator[tuple[str, str]]:
    """Each requirement of requirements.txt with the rest of its entry."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith(("#", "-", " ")):
            requirement, _, hashes = line.partition(" --hash=")
            yield requirement.strip(), hashes


def installed(python: str, platform: str) -> list[str]:
    """What a core installation brings there."""
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform]
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    environment |= {"platform_system": system, "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    found = []
    for text, _ in requirements():
        marker: Marker | None = Requirement(text).marker
        if marker is None or marker.evaluate(environment):
            found.append(Requirement(text).name)
    return found


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_core_installs_few_packages(python: str, platform: str) -> None:
    packages = installed(python, platform)
    assert 10 < len(packages) <= MAX_DEPENDENCIES, packages
    assert len(set(packages)) == len(packages)


def test_every_package_is_pinned_with_hashes() -> None:
    for text, hashes in requirements():
        assert re.match(r"[\w.\[\]-]+==[\w.]+( ;.*)?$", text), text
        assert "sha256:" in hashes, text


def test_there_is_more_test_than_code() -> None:
    code = sum(lines(path) for path in [*SRC.rglob("*.py"), ROOT / "proxy.py"])
    tests = sum(lines(path) for path in TESTS.rglob("*.py"))
    assert tests / code >= MIN_TESTS_PER_CODE, f"{tests} lines of tests for {code} lines of code: {tests / code:.2f}"
