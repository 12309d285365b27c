"""What all tests share: the event loop they run on, and a simulator."""

import logging
import re
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from claude_proxy import logs
from claude_proxy.simulator import Simulator

# Each httpx client would load the certificate store again, for 24 ms.
httpx._transports.default.create_ssl_context = cache(httpx._transports.default.create_ssl_context)


_SYSTEM_FILE = re.compile(rb"^pytestmark = \[?pytest\.mark\.system", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the system tier, its files are not even imported: each worker would do it, and it is a fifth of all files."""
    if config.option.markexpr != "not system" or collection_path.suffix != ".py":
        return None
    return bool(_SYSTEM_FILE.search(collection_path.read_bytes())) or None


@pytest.fixture(scope="session", params=[("asyncio", {"use_uvloop": True})], ids=["uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """asyncio on uvloop, as the proxy runs."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator on a free port of loopback, with the default scenario."""
    async with Simulator() as running:
        yield running


@pytest.fixture(autouse=True)
def no_settings_of_the_developers_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder, so that a claude-proxy.toml of whoever runs the tests plays no part."""
    folder = tmp_path_factory.getbasetemp() / "no-settings"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.getbasetemp() / "data"))  # nor do their books
    return folder


@pytest.fixture(autouse=True)
def no_width_of_the_developers_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-xdist hands its terminal's width on to its workers, and tables would be made for it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What one test configures of the log must not be in force in the next."""
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    logs._straight = None
    structlog.reset_defaults()
