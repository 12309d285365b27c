"""While the ledger opens, pages and the API say when to ask again; what time does not change, they say without that."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.ledger.options import NotReadable, Options, TooSlow
from claude_proxy.ledger.queries import LATER, Books
from claude_proxy.ledger.reader import Reader
from claude_proxy.web.api import install_api
from claude_proxy.web.texts import text
from tests.cli.ledgers import fill
from tests.ledger.books import entry
from tests.web.browser import Chromium
from tests.web.pages.html import outline
from tests.web.serving import BROWSER, Pages, serving

PAGES = ("/sessions", "/sessions/one", "/session?id=..", "/usage", "/exchanges/cp_0000000000001", "/search?q=x")
API = ("/sessions", "/sessions/one", "/exchanges", "/exchanges/cp_0000000000001", "/exchanges/export", "/usage", "/quota")
ASKED_AGAIN = """new Promise((done) =>
  new PerformanceObserver((list) => list.getEntriesByName(location.href).length && done()).observe({ type: "resource" }))"""
REASONS: list[tuple[Exception, str | None]] = [
    (NotReadable("The ledger is not open yet.", retry_after=1), "1"),
    (NotReadable("The ledger is off: no disk."), None),
    (TooSlow("This took longer than 1 s."), None),
]


def site(reason: Exception) -> Pages:
    """Pages and API of a proxy whose ledger cannot be read."""

    def question() -> Any:
        raise reason

    pages = Pages(reader=Reader(question, shut=lambda: None))
    install_api(pages.app, pages.sources, pages.admin)
    return pages


@pytest.mark.parametrize(("reason", "after"), REASONS, ids=str)
@pytest.mark.parametrize("language", ["en", "ko"])
async def test_a_page_loads_itself_again_if_time_helps(reason: Exception, after: str | None, language: Any) -> None:
    headers = {"accept": BROWSER, "accept-language": language}
    async with serving(site(reason).app) as origin, httpx.AsyncClient(base_url=origin, headers=headers) as client:
        for path in PAGES:
            answer = await client.get(path)
            assert answer.status_code == 503, path
            assert answer.headers.get("retry-after") == after
            page = outline(answer.text)
            assert str(reason) in page.text
            assert (text(language, "shell.again") in page.text) is (after is not None)
            assert ('data-again="1"' in answer.text) is (after is not None)
            assert ('<noscript><meta http-equiv="refresh" content="1"></noscript>' in answer.text) is (after is not None)


@pytest.mark.parametrize(("reason", "after"), REASONS, ids=str)
async def test_the_api_says_when_to_ask_again_if_time_helps(reason: Exception, after: str | None) -> None:
    async with serving(site(reason).app) as origin, httpx.AsyncClient(base_url=f"{origin}/api/v1") as client:
        for path in API:
            answer = await client.get(path)
            assert answer.status_code == 503, path
            assert answer.json()["error"]["message"] == str(reason)
            assert answer.headers.get("retry-after") == after
            assert answer.headers["x-should-retry"] == ("false" if after is None else "true")


async def test_what_is_locked_or_not_made_yet_may_be_there_later(tmp_path: Path) -> None:
    books = Books.open(Options(tmp_path))
    with pytest.raises(NotReadable) as missing:
        books.sessions()
    fill(tmp_path, entry())
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NotReadable, match="locked") as locked:
            books.sessions()
        other.execute("ROLLBACK")
    assert [caught.value.retry_after for caught in (missing, locked)] == [LATER, LATER]


async def test_a_ledger_of_another_version_is_not_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, entry())
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other, other:
        other.execute("UPDATE ledger_version SET version_num = '9999'")
    with pytest.raises(NotReadable, match="schema 9999") as caught:
        Books.open(Options(tmp_path)).sessions()
    assert caught.value.retry_after is None


@pytest.mark.system
async def test_in_a_browser_the_page_stays_still_until_it_can_be_shown(browser: Chromium, tmp_path: Path) -> None:
    fill(tmp_path, entry(session="one"))
    opening: list[NotReadable] = [NotReadable("The ledger is not open yet.", retry_after=1)]
    reader = Reader(lambda: Books.open(Options(tmp_path)), shut=lambda: opening[0] if opening else None)
    async with serving(Pages(reader=reader).app) as origin:
        tab = await browser.tab()
        await tab.open(f"{origin}/sessions")
        assert await tab.run("document.querySelector('h1').textContent") == text("en", "shell.not_possible")
        await tab.run("document.body.dataset.same = 'yes'")
        asked = len(tab.asked)
        await tab.run(ASKED_AGAIN)
        assert await tab.run("document.body.dataset.same") == "yes"
        assert len(tab.asked) > asked
        tab.loaded.clear()
        opening.clear()
        await tab.loaded.wait()
        assert await tab.run("document.querySelector('a.row').textContent") == "one"
        assert await tab.run("document.body.dataset.same ?? 'new'") == "new"
