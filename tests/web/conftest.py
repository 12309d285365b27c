"""A client of the pages, and the three ways in which a prefix can stand before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.web.browser import Chromium, chromium
from tests.web.serving import Front, Pages, WithRootPath, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def pages() -> Pages:
    """The pages as they are by default: z.ai, the client's own credential."""
    return Pages()


@pytest.fixture
async def client(pages: Pages) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `pages`, served without a prefix."""
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin) as client:
        yield client


@pytest.fixture(params=["none", "told", "untold"])
async def address(request: pytest.FixtureRequest, pages: Pages) -> AsyncIterator[str]:
    """Where `pages` are: at the root, under a prefix the server was told of, under one it does not know."""
    if request.param == "none":
        async with serving(pages.app) as origin:
            yield origin
        return
    front = Front(pages.app, "/any/prefix")
    app = WithRootPath(front, "/any/prefix") if request.param == "told" else front
    async with serving(app) as origin:
        yield f"{origin}/any/prefix"


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    """A browser for all tests of a file."""
    async with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
async def browser(program: Chromium) -> AsyncIterator[Chromium]:
    """The browser, without what earlier tests left open."""
    yield program
    await program.close_tabs()
