"""`/static`: the page's files, compressed once, and kept by browsers for as long as they do not change."""

from __future__ import annotations

import gzip
import re

import httpx
import pytest

from claude_proxy.web import assets
from tests.web.serving import BROWSER

FILES = ("page.css", "page.js", "live.js", "chart.js", "vendor/htmx/htmx.min.js", "vendor/uplot/uPlot.iife.min.js")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
async def test_a_file_is_itself_compressed_or_not(client: httpx.AsyncClient, name: str, encoding: str) -> None:
    content = (assets._STATIC / name).read_bytes()
    async with client.stream("GET", f"/{assets.versioned(name)}", headers={"accept-encoding": encoding}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))
    assert answer.headers["vary"] == "Accept-Encoding"
    if encoding == "identity":
        assert raw == content
    else:
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(raw) == content
        assert len(raw) < len(content) / 2


async def test_a_file_is_compressed_once(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.get("/static/page.js", headers={"accept-encoding": "gzip"})
    before = assets.packed.cache_info()
    await client.get("/static/page.js", headers={"accept-encoding": "gzip"})
    after = assets.packed.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)


async def test_a_file_whose_address_names_its_content_is_kept_for_a_year(client: httpx.AsyncClient) -> None:
    pinned = await client.get(f"/{assets.versioned('page.css')}")
    plain = await client.get("/static/page.css")
    assert "immutable" in pinned.headers["cache-control"]
    assert plain.headers["cache-control"] == "no-cache"
    again = await client.get("/static/page.css", headers={"if-none-match": plain.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


async def test_all_files_of_a_view_together_are_small(client: httpx.AsyncClient) -> None:
    """So that a first visit over a slow line is quick: 60 KB with the page itself."""
    page = await client.get("/", headers={"accept": BROWSER})
    sizes = {}
    for address in re.findall(r'(?:src|href)="(?:\./)?(static/[^"]+)"', page.text):
        async with client.stream("GET", f"/{address}", headers={"accept-encoding": "gzip"}) as answer:
            sizes[address] = len(b"".join([part async for part in answer.aiter_raw()]))
    assert len(sizes) >= 7
    assert sum(sizes.values()) < 60_000, sizes


async def test_the_api_docs_viewers_are_not_compressed_on_the_event_loop(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/vendor/swagger-ui/swagger-ui-bundle.js", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
