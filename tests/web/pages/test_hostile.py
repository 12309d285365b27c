"""What a client, a model, an upstream or the settings wrote is text on every view, and text in every update of the live page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from claude_proxy.exchange import Attempt, CacheVerdict, Failure, State
from claude_proxy.simulator import Simulator
from claude_proxy.web.pages import VIEWS
from tests.cli.ledgers import fill
from tests.integration.booked import booked
from tests.integration.proxy import RunningProxy
from tests.ledger.books import entry, exchange_of
from tests.observe.running import exchange
from tests.web.pages.events import watching
from tests.web.pages.html import Outline, outline
from tests.web.pages.site import visitor

CORPUS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></tr></table><svg onload=alert(1)>",
    "</template></hx-partial><iframe srcdoc=x>",
    "<hx-partial hx-target=body><b>x</b></hx-partial>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)//",
    "<a hx-get=/trouble hx-trigger=load>",
    "data: x\nevent: charts\ndata: {}",
    "&lt;script&gt;&#60;b&#62;",
    "\u202e\u2028\x85<b>",
)
FIELDS = (
    *("session", "project", "agent", "model", "model_sent", "model_served", "request_class", "client", "key", "user_agent"),
    *("upstream", "account"),
)
FORBIDDEN = {"script": 1, "img": 0, "iframe": 0, "object": 0, "embed": 0, "b": 0, "template": 0, "base": 0}


def hostile(text: str) -> dict[str, Any]:
    """Every field of an exchange that somebody else fills."""
    failure = Failure("upstream", text[:60], text, text[:40])
    fields: dict[str, Any] = dict.fromkeys(FIELDS, text)
    return fields | {
        "failure": failure,
        "status": 500,
        "stop_reason": text,
        "cache": CacheVerdict(text, text),
        "attempts": [Attempt(text, 50.0, status=500, failure=failure), Attempt(text, 51.0)],
    }


@pytest.fixture(params=CORPUS, ids=range(len(CORPUS)))
async def place(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> AsyncIterator[tuple[RunningProxy, str]]:
    """A proxy whose books and running exchanges are full of one hostile text."""
    text = request.param
    now = int(time.time() * 1000)
    one = entry(now - 5000, **hostile(text))
    one.record = msgspec.structs.replace(one.record, project=text)
    fill(tmp_path, one, entry(now - 4000, **{**hostile(text), "failure": None, "outcome": None}))
    async with booked(simulator, tmp_path) as proxy:
        proxy.app.state.live.on_exchange_start(exchange(state=State.ANSWERING, stream=True, **hostile(text)))
        proxy.app.state.live.on_upstream_state("default", text)
        yield proxy, text


def only_text(page: Outline) -> None:
    """No element or attribute came from a hostile text: `Outline` refuses inline handlers, styles and scripts."""
    for tag, most in FORBIDDEN.items():
        if most == 0:
            assert tag not in page.tags, tag
    for address in page.addresses:
        assert not address.lower().lstrip("./").startswith(("javascript:", "data:", "//")), address


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_it_is_text_on_every_view(place: tuple[RunningProxy, str], language: str) -> None:
    proxy, text = place
    async with visitor(proxy, language) as client:
        for path in ["/", "/upstreams", *(view.path for view in VIEWS if "{" not in view.path and view.key)]:
            answer = await client.get(path, params={"q": text, "lang": language})
            assert answer.status_code == 200, path
            page = outline(answer.text)
            only_text(page)
            if path == "/" and text.isprintable():
                assert text in page.text
                assert any(text in one for one in page.texts), "it is shown, and whole"


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_it_is_text_in_sessions_and_exchanges(place: tuple[RunningProxy, str], language: str) -> None:
    proxy, text = place
    if "\n" in text:
        pytest.skip("names are cleaned before they are stored: no line ending is in one (cleaning.py)")
    async with visitor(proxy, language) as client:
        seen = [await client.get("/sessions")]
        for inside in ("session?id=", "exchanges/cp_"):
            addresses = {seen[-1].url.join(one) for one in outline(seen[-1].text).addresses if f"/{inside}" in one}
            assert addresses
            seen += [await client.get(address) for address in addresses]
        seen.append(await client.get(seen[1].url.copy_merge_params({"agent": text})))
    for answer in seen:
        assert answer.status_code == 200
        page = outline(answer.text)
        only_text(page)
        if text.isprintable():
            assert any(text in one for one in page.texts), "it is shown, and whole"


async def test_it_is_text_in_an_error_and_in_a_search(place: tuple[RunningProxy, str]) -> None:
    proxy, text = place
    async with visitor(proxy) as client:
        answer = await client.get("/search", params={"q": text})
        assert answer.status_code == 303
        assert "\n" not in answer.headers["location"]
        assert answer.headers["location"].startswith("./s")


async def test_it_is_text_in_the_updates(place: tuple[RunningProxy, str]) -> None:
    proxy, _ = place
    async with watching(proxy) as page:
        await page.until(lambda shown: len(shown.rows) == 3 and shown.charts)
    for message in page.messages:
        for part in message.split("</hx-partial>"):
            only_text(Outline(part.partition(">")[2]) if part.strip() else Outline(""))
    assert set(page.charts) == {"requests", "first-byte"}, "no event was forged"


def test_the_corpus_reaches_each_field_that_others_fill() -> None:
    """So that a field that is added to `Exchange` is thought of here."""
    texts = {name for name, value in exchange_of().__class__.__annotations__.items() if value.startswith("str")}
    known = {*FIELDS, "id", "method", "path", "parent_agent", "upstream_request_id", "stop_reason"}
    assert texts <= known
