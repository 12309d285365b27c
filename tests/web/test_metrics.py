"""`/metrics`: formats, compression, and who is told what."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from claude_proxy.access.viewers import Viewers
from claude_proxy.errors import Unavailable
from claude_proxy.observe.exposition import OPENMETRICS, TEXT
from claude_proxy.web.admin import require_viewer
from claude_proxy.web.metrics import metrics
from tests.web.serving import Pages, serving

# What Prometheus 3 sends, and what 2.42 sends.
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5"
)


async def text(*, openmetrics: bool, gzipped: bool) -> bytes:
    body = b"openmetrics" if openmetrics else b"text"
    return gzip.compress(body) if gzipped else body


async def unavailable(*, openmetrics: bool, gzipped: bool) -> bytes:
    raise Unavailable("The worker that adds up the metrics does not answer.", code="metrics_leader")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    pages = Pages()
    pages.app.include_router(metrics(text, require_viewer(Viewers())))
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin, headers={"accept-encoding": ""}) as client:
        yield client


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=nonsense", True),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
    ],
)
async def test_the_format_is_the_one_asked_for(client: httpx.AsyncClient, accept: str, openmetrics: bool) -> None:
    answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == (OPENMETRICS if openmetrics else TEXT)
    assert answer.text == ("openmetrics" if openmetrics else "text")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "accept, accept-encoding"


@pytest.mark.parametrize(
    ("encodings", "gzipped"), [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False), ("br", False)]
)
async def test_it_is_compressed_where_that_is_understood(client: httpx.AsyncClient, encodings: str, gzipped: bool) -> None:
    answer = await client.get("/metrics", headers={"accept-encoding": encodings})
    assert answer.headers.get("content-encoding") == ("gzip" if gzipped else None)
    assert answer.text == "text"


async def test_head_says_the_same_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/metrics")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "4"


async def test_other_methods_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/metrics")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_it_is_in_the_openapi_document(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/metrics"]["get"]
    assert {"200", "401"} <= operation["responses"].keys()
    assert "text/plain" in operation["responses"]["200"]["content"]


async def test_no_numbers_are_better_than_wrong_ones() -> None:
    """A scrape that fails leaves a gap in a graph; half of the sums would look like a restart."""
    pages = Pages()
    pages.app.include_router(metrics(unavailable, require_viewer(Viewers())))
    async with serving(pages.app) as origin, httpx.AsyncClient(base_url=origin) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 503
    assert answer.headers["x-claude-proxy-error"] == "metrics_leader"
