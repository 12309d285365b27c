import re
from typing import Any

import httpx
import pytest

from tests.web.serving import Pages, WithRootPath, serving

LINK = re.compile(r'(?:href|src)="([^"]*)"')


@pytest.fixture
async def browser() -> Any:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.mark.parametrize("page", ["docs", "redoc"])
async def test_all_that_a_viewer_needs_comes_from_here_under_every_prefix(
    browser: httpx.AsyncClient, address: str, page: str
) -> None:
    answer = await browser.get(f"{address}/{page}")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    links = LINK.findall(answer.text)
    assert len(links) >= 7
    for link in links:
        url = httpx.URL(f"{address}/{page}").join(link)
        assert str(url).startswith(f"{address}/")
        assert (await browser.get(url)).status_code == 200, link


@pytest.mark.parametrize("page", ["docs", "redoc"])
async def test_the_policy_lets_a_viewer_reach_only_its_own_origin(client: httpx.AsyncClient, page: str) -> None:
    policy = (await client.get(f"/{page}")).headers["content-security-policy"]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == parts["connect-src"] == "'self'"
    assert parts["img-src"] == "'self' data:"
    assert "http" not in policy
    assert "unsafe-eval" not in policy


async def test_a_file_is_kept_for_a_year_only_where_its_address_names_its_content(client: httpx.AsyncClient) -> None:
    [pinned] = re.findall(r'src="([^"]*docs\.js[^"]*)"', (await client.get("/docs")).text)
    assert re.fullmatch(r"static/docs\.js\?v=[0-9a-f]{12}", pinned)
    answer = await client.get(f"/{pinned}")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    plain = await client.get("/static/docs.js")
    assert plain.headers["cache-control"] == "no-cache"
    again = await client.get("/static/docs.js", headers={"if-none-match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/../web/start.py", "/static/%2e%2e/start.py", "/static/..%2fstart.py", "/static//etc/passwd", "/static/%00"]
)
async def test_nothing_outside_static_is_served(client: httpx.AsyncClient, path: str) -> None:
    url = client.base_url.copy_with(raw_path=path.encode())
    answer = await client.get(url)
    assert answer.status_code == 404
    assert answer.json()["type"] == "error"


async def test_the_description_names_the_proxied_api(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["info"]["title"] == "claude-proxy"
    assert list(document["paths"]) == [
        "/api/anthropic/v1/messages",
        "/api/anthropic/v1/messages/count_tokens",
        "/api/anthropic/v1/models",
        "/api/anthropic/{path}",
        "/",
        "/health",
        "/ready",
    ]
    assert set(document["paths"]["/health"]) == {"get"}
    assert {"200", "503"} <= set(document["paths"]["/ready"]["get"]["responses"])
    used = {tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


async def test_the_description_is_sound(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    schemes = set(document["components"]["securitySchemes"])
    assert {name for operation in operations for wish in operation.get("security", []) for name in wish} == schemes


async def test_the_description_is_the_same_each_time(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).content == (await client.get("/openapi.json")).content


@pytest.mark.parametrize(("root", "servers"), [("/any/prefix", [{"url": "/any/prefix"}]), ("", None)])
async def test_servers_name_the_prefix_that_the_server_was_told_of(pages: Pages, root: str, servers: Any) -> None:
    async with serving(WithRootPath(pages.app, root)) as origin, httpx.AsyncClient() as client:
        document = (await client.get(f"{origin}/openapi.json")).json()
    assert document.get("servers") == servers
