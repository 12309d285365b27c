import base64
import hashlib
import re
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from claude_proxy.web.texts import ENGLISH, KOREAN
from tests.web.serving import BROWSER, Pages, serving

VOID = {"meta", "link"}


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps ids, what they are referred to by, and every address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "the policy lets no inline handler run"
            assert name != "style", "the policy lets no style attribute apply"
            if name == "id":
                self.ids.append(str(value))
            elif name in ("aria-labelledby", "data-copy"):
                self.references.append(str(value))
            elif name in ("href", "src"):
                self.addresses.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def read(pages: Pages, language: str = "en", host: str | None = None, path: str = "/") -> httpx.Response:
    headers = {"accept": BROWSER, "accept-language": language} | ({"host": host} if host else {})
    async with serving(pages.app) as origin, httpx.AsyncClient() as client:
        return await client.get(origin + path, headers=headers)


async def test_a_program_gets_the_facts_as_json(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "name": "claude-proxy",
        "what": "A self-hosted proxy for the Anthropic API.",
        "version": "1.2.3",
        "status": "ready",
        "base_url": f"{client.base_url}/api/anthropic",
        "environment": {
            "ANTHROPIC_BASE_URL": f"{client.base_url}/api/anthropic",
            "ANTHROPIC_AUTH_TOKEN": "<your key>",
            "ANTHROPIC_DEFAULT_FABLE_MODEL": "glm-5.3",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-5.3",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "glm-5.3",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "glm-5.3-flash",
            "API_TIMEOUT_MS": "3000000",
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS": "1800000",
            "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
            "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        },
        "upstreams": [{"name": "default", "base_url": "https://api.z.ai/api/anthropic"}],
        "holds_credential": False,
        "needs_key": False,
        "notices": True,
        "links": {
            "docs": f"{client.base_url}/docs",
            "redoc": f"{client.base_url}/redoc",
            "openapi": f"{client.base_url}/openapi.json",
            "health": f"{client.base_url}/health",
            "ready": f"{client.base_url}/ready",
        },
    }
    assert answer.text.endswith("}\n")


async def test_a_browser_gets_a_well_formed_page(pages: Pages) -> None:
    answer = await read(pages)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    outline = Outline(answer.text)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.references) <= set(outline.ids)
    assert outline.headings[0] == "h1"
    assert outline.headings.count("h1") == 1


async def test_the_page_needs_nothing_but_itself(pages: Pages) -> None:
    outline = Outline((await read(pages)).text)
    assert outline.addresses[0].startswith("data:image/svg+xml,")
    assert outline.addresses[1:] == ["?lang=ko", "docs", "redoc", "openapi.json", "health", "ready"]


async def test_the_policy_admits_exactly_the_script_and_style_in_the_page(pages: Pages) -> None:
    answer = await read(pages)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    for tag in ("script", "style"):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"


async def test_the_page_shows_this_address_in_every_block(pages: Pages) -> None:
    text = (await read(pages, host="proxy.lan:8080")).text
    assert text.count("<span data-address>http://proxy.lan:8080/api/anthropic</span>") == 1 + 4 + 3


async def test_korean_readers_get_korean(pages: Pages) -> None:
    answer = await read(pages, "ko-KR,ko;q=0.9,en;q=0.8")
    assert answer.headers["content-language"] == "ko"
    assert '<html lang="ko"' in answer.text
    assert KOREAN.running in answer.text
    assert 'href="?lang=en"' in answer.text


async def test_the_language_can_be_chosen(pages: Pages) -> None:
    answer = await read(pages, "ko", path="/?lang=en")
    assert ENGLISH.lead in unescape(answer.text)


async def test_caches_know_what_the_answer_depends_on(client: httpx.AsyncClient) -> None:
    for accept in ("text/html", "*/*"):
        answer = await client.get("/", headers={"accept": accept})
        assert answer.headers["vary"] == "Accept, Accept-Language, Cookie"
        assert answer.headers["cache-control"] == "no-store"


async def test_head_answers_as_get_without_a_body(client: httpx.AsyncClient) -> None:
    head, get = [await client.request(method, "/", headers={"accept": BROWSER}) for method in ("HEAD", "GET")]
    assert head.content == b""
    assert head.status_code == 200
    for name in ("content-length", "content-type", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


async def test_a_draining_proxy_says_so(client: httpx.AsyncClient, pages: Pages) -> None:
    pages.ready = (False, "told to stop")
    page = (await client.get("/", headers={"accept": BROWSER})).text
    assert 'data-state="draining"' in page
    assert f'<span id="state-text">{ENGLISH.draining}</span>' in page
    assert (await client.get("/")).json()["status"] == "draining"


@pytest.mark.parametrize(
    ("holds", "asks", "sentence"),
    [(False, False, "key_passes"), (True, True, "key_asked"), (True, False, "key_held"), (False, True, "key_both")],
)
async def test_the_page_says_which_key_belongs_where(holds: bool, asks: bool, sentence: str) -> None:
    pages = Pages(holds=holds, asks=asks)
    for words in (ENGLISH, KOREAN):
        text = unescape(re.sub("</?mark>", "", (await read(pages, words.language)).text))
        assert getattr(words, sentence).format(upstream="api.z.ai") in text
        assert (words.credential_proxy if holds else words.credential_client) in text


async def test_every_upstream_is_named(pages: Pages) -> None:
    text = (await read(Pages(upstreams=("https://api.z.ai/api/anthropic", "https://b&b.example/<x>")))).text
    assert "api.z.ai, b&amp;b.example" in text
    assert "<code>https://b&amp;b.example/&lt;x&gt;</code> <small>(up1)</small>" in text
    assert "<small>" not in (await read(pages)).text


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "$(reboot)", "a';reboot;'"])
async def test_a_hostile_host_does_not_reach_the_page(pages: Pages, host: str) -> None:
    answer = await read(pages, host=host)
    assert host not in answer.text
    assert "reboot" not in answer.text
    assert "alert(1)" not in answer.text
    assert "http://127.0.0.1:" in answer.text


async def test_nothing_of_a_hostile_query_reaches_the_page(pages: Pages) -> None:
    assert "mark1" not in (await read(pages, path='/?lang="><b>mark1')).text


async def test_page_and_json_work_under_every_prefix(address: str) -> None:
    async with httpx.AsyncClient(headers={"accept": BROWSER}) as client:
        outline = Outline((await client.get(f"{address}/")).text)
        for link in outline.addresses[2:]:
            answer = await client.get(httpx.URL(f"{address}/").join(link))
            assert answer.status_code == 200, link


def test_both_languages_say_everything() -> None:
    for name in ENGLISH.__slots__:
        english, korean = getattr(ENGLISH, name), getattr(KOREAN, name)
        assert english
        assert korean
        holes = [sorted(re.findall(r"\{\w+\}|<[^>]+>", text)) for text in (english, korean)]
        assert holes[0] == holes[1], name
