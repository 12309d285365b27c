"""*Conversation* of a real proxy that captures: what it shows, that it is text, and that it stays small."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from claude_proxy import ids
from claude_proxy.simulator import Simulator, faults
from claude_proxy.web.pages import conversation_shown as shown
from claude_proxy.web.texts import text
from tests.integration.booked import api, booked
from tests.integration.proxy import RunningProxy, running_proxy
from tests.ledger.capture.captured import parcel
from tests.ledger.capture.test_store import File
from tests.web.pages.html import Outline, outline
from tests.web.pages.site import visitor
from tests.web.pages.talk import Json, assistant, call, coding, image, png, request, result, say, tool, user
from tests.web.pages.test_hostile import CORPUS, only_text

KEY = "sk-ant-" + "Zq7x" * 8


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """A proxy that captures everything."""
    async with booked(simulator, tmp_path, capture="all") as running:
        yield running


async def look(proxy: RunningProxy, id: str, rest: str = "", language: str = "en") -> Outline:
    """The page of a conversation."""
    async with visitor(proxy, language) as client:
        answer = await client.get(f"/exchanges/{id}/conversation{rest}")
        while answer.status_code == 503:  # the ledger is not open yet
            answer = await client.get(f"/exchanges/{id}/conversation{rest}")
    assert answer.status_code == 200, answer.text
    return outline(answer.text)


async def file(proxy: RunningProxy, id: str, name: str) -> httpx.Response:
    """What lies beside the page."""
    async with visitor(proxy) as client:
        return await client.get(f"/exchanges/{id}/conversation/{name}")


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_it_shows_all_that_was_said_and_what_fills_the_context(
    proxy: RunningProxy, simulator: Simulator, language: str
) -> None:
    id = await say(proxy, simulator, request(coding()), text="Fixed it.")
    page = await look(proxy, id, language=language)
    for said in ("Fix the failing test", "I should run the tests first.", '"command": "pytest -x"', "FAILED tests", "Fixed it."):
        assert said in page.text, said
    assert text(language, "conversation.fills") in page.text  # type: ignore[arg-type]
    assert f"./../../exchanges/{id}".replace("./../../", "../../") in page.addresses
    assert page.tags.count("rect") > 5
    assert "~" in page.text
    assert "img" not in page.tags, "images are links"


async def test_the_difference_to_the_turn_before_is_shown_with_its_lines(proxy: RunningProxy, simulator: Simulator) -> None:
    first = await say(proxy, simulator, request(coding()[:3]))
    await say(proxy, simulator, request([user("of another agent")]), (b"x-claude-code-agent-id", b"helper"))
    await say(proxy, simulator, request([user("of another session")]), session=b"other")
    second = await say(proxy, simulator, request(coding(), tools=[tool("Bash", "Runs a command."), tool("Read")]))
    page = await look(proxy, second)
    assert f"../../exchanges/{first}/conversation" in page.addresses
    assert "5 parts the same · 6 changes · only added at the end" in page.text
    assert "1 part the same · 1 change" in page.text
    assert '+ "description": "Runs a command.",' in re.sub(" +", " ", page.text)
    assert "broken by a change" in page.text
    assert text("en", "conversation.since_unknown") in (await look(proxy, first)).text


async def test_a_long_result_is_cut_and_loaded_by_itself(proxy: RunningProxy, simulator: Simulator) -> None:
    long = "".join(f"line {at}\n" for at in range(4000))
    id = await say(proxy, simulator, request([user("go"), assistant(call("t")), user(result("t", long))]))
    page = await look(proxy, id)
    assert "line 800\n" in "\n".join(page.texts) + "\n"
    assert "line 1200" not in page.text
    part = [address for address in page.addresses if re.search(r"parts/\d+$", address)][-1]
    whole = await look(proxy, id, "/" + part.partition("conversation/")[2])
    assert "line 3999" in whole.text
    assert "text" in whole.ids


async def test_a_part_of_a_megabyte_has_an_end(proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request([user("x" * (shown.WHOLE + 5000) + "the end")], tools=[], system=[]))
    page = await look(proxy, id, "/parts/0")
    assert "the end" not in page.text
    assert text("en", "conversation.cut") in page.text
    assert "the end" in (await file(proxy, id, "raw")).text


async def test_a_search_leads_to_the_parts(proxy: RunningProxy, simulator: Simulator) -> None:
    messages = [one for at in range(150) for one in (user(f"question {at}"), assistant(f"reply {at}"))]
    id = await say(proxy, simulator, request([*messages, user("last")]))
    page = await look(proxy, id, "?find=QUESTION%205")
    assert "Found in 11 parts" in page.text
    [first] = [one for one in page.addresses if one.endswith("#p13")]
    assert "question 5" in (await look(proxy, id, first.partition("conversation")[2].partition("#")[0])).texts
    assert text("en", "conversation.not_found") in (await look(proxy, id, "?find=nowhere")).text


@pytest.mark.parametrize(
    "query", ["", "?page=1", "?page=3", "?page=0", "?page=99999", "?page=-1", "?page=%F0%9F%92%A9", "?page=1e9"]
)
async def test_pages_are_bounded_and_every_number_gives_one(proxy: RunningProxy, simulator: Simulator, query: str) -> None:
    id = await say(proxy, simulator, request([user(f"m{at}") for at in range(249)]))
    page = await look(proxy, id, query)
    articles = page.tags.count("article")
    assert articles == (50 if query in ("?page=1", "?page=0") else shown.PARTS)


async def test_the_pages_hold_each_part_once(proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request([user(f"m{at}") for at in range(249)]), text="the answer")
    found = [one for page in (1, 2, 3) for one in (await look(proxy, id, f"?page={page}")).ids if re.fullmatch(r"p\d+", one)]
    said = [one for one in found if int(one[1:]) > 2]
    assert sorted(int(one[1:]) for one in said) == list(range(3, 253))


async def test_raw_is_the_request_and_the_command_sends_it_without_the_credential(
    proxy: RunningProxy, simulator: Simulator
) -> None:
    body = request([user(f"my key is {KEY} <script>")])
    id = await say(proxy, simulator, body, (b"authorization", b"Bearer " + KEY.encode()))
    raw, curl = await file(proxy, id, "raw"), await file(proxy, id, "curl")
    assert raw.headers["content-type"] == "application/json"
    assert curl.headers["content-type"] == "text/plain; charset=utf-8"
    assert raw.json() == json.loads(json.dumps(body).replace(KEY, "[redacted]"))
    assert '-H "authorization: Bearer $ANTHROPIC_AUTH_TOKEN"' in curl.text
    page = await look(proxy, id)
    for said in (raw.text, curl.text, page.text):
        assert KEY not in said


async def test_a_credential_that_was_written_with_escapes_is_not_shown(proxy: RunningProxy, simulator: Simulator) -> None:
    escaped = KEY.replace("sk-", "\\u0073\\u006b\\u002d")
    sent = json.dumps(request([user("KEY " * 2040 + "KEY")])).replace("KEY", escaped)
    id = await say(proxy, simulator, sent)
    assert KEY[12:] not in (await look(proxy, id)).text
    assert KEY[12:] not in (await look(proxy, id, "?find=ant")).text
    assert KEY[12:] not in (await look(proxy, id, "/parts/3")).text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "image/jpeg"),
        (b"GIF89a" + bytes(9), "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(9), "image/webp"),
    ],
    ids=["png", "jpeg", "gif", "webp"],
)
async def test_an_image_is_served_as_what_it_is_in_a_sandbox(
    proxy: RunningProxy, simulator: Simulator, data: bytes, kind: str
) -> None:
    id = await say(proxy, simulator, request([user(image(data, "text/html"))]))
    page = await look(proxy, id)
    [link] = [one for one in page.addresses if "/images/" in one]
    answer = await file(proxy, id, link.partition("conversation/")[2])
    assert (answer.content, answer.headers["content-type"]) == (data, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("data", [b"<svg onload='alert(1)'/>", b"<html><script>alert(1)</script>", b"%PDF-1.4", b""])
async def test_anything_else_is_not_served(proxy: RunningProxy, simulator: Simulator, data: bytes) -> None:
    id = await say(proxy, simulator, request([user(image(data, "image/png"))]))
    page = await look(proxy, id)
    assert not [one for one in page.addresses if "/images/" in one]
    for part in ("3", "0", "99", "-1", "x", "²", "1" * 30):
        assert (await file(proxy, id, f"images/{part}")).status_code == 404, part


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
async def test_whatever_was_written_is_text(proxy: RunningProxy, simulator: Simulator, hostile: str) -> None:
    said: list[Json] = [
        user(hostile, image(hostile.encode(), hostile), {"type": hostile, "x": hostile}),
        assistant({"type": "thinking", "thinking": hostile}, call(hostile, hostile, **{hostile: hostile})),
        user(result(hostile, [{"type": "text", "text": hostile}, {"type": "image", "source": {"type": "url", "url": hostile}}])),
        {"role": hostile, "content": hostile},
    ]
    first = await say(proxy, simulator, request(said, tools=[tool(hostile, "one")]))
    fields = {"model": hostile, "system": [{"type": "text", "text": hostile}], "tools": [tool(hostile, hostile)]}
    id = await say(proxy, simulator, request([*said, user(hostile)], **fields), text=hostile)
    async with visitor(proxy) as client:
        for rest in ("", "/parts/0", "/parts/2"):
            answer = await client.get(f"/exchanges/{id}/conversation{rest}", params={"find": hostile, "page": hostile})
            assert answer.status_code == 200
            page = outline(answer.text)
            only_text(page)
            if not rest and hostile.isprintable():
                assert page.text.count(hostile) > 5, "it is shown, and whole"
    assert first != id


async def test_hidden_characters_are_shown(proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request([user("be\u202egood \u200b\U000e0041")]))
    page = await look(proxy, id)
    assert "be\\u202egood \\u200b\\U000e0041" in page.text


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_with_capture_off_it_says_how_to_switch_it_on_and_what_the_books_have(
    simulator: Simulator, tmp_path: Path, language: str
) -> None:
    async with booked(simulator, tmp_path) as proxy:
        await say(proxy, simulator, request(coding()[:1]))
        id = await say(proxy, simulator, request(coding()[:3]))
        async with api(proxy) as client:
            verdict = (await client.get(f"/exchanges/{id}")).json()["cache"]["verdict"]
        page = await look(proxy, id, language=language)
        for name in ("raw", "curl", "images/0", "parts/0"):
            assert (await file(proxy, id, name)).status_code == 404
    assert text(language, "conversation.switch_on") in page.text  # type: ignore[arg-type]
    assert "CAPTURE=all make run" in page.text
    assert text(language, f"conversation.cache_{verdict}") in page.text  # type: ignore[arg-type]
    assert "KiB" in page.text
    assert not (tmp_path / "capture.db").exists()


async def test_what_capture_leaves_out_is_explained(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path, capture="errors") as proxy:
        id = await say(proxy, simulator, request(coding()[:1]), kept=False)
        failed = await say(proxy, simulator, request(coding()[:1]), fault=faults.status(500))
        assert text("en", "conversation.only_errors") in (await look(proxy, id)).text
        page = await look(proxy, failed)
    assert "Fix the failing test" in page.text


async def test_without_books_the_conversation_is_still_shown(simulator: Simulator, tmp_path: Path) -> None:
    async with running_proxy(simulator.base_url, capture="all", data_dir=tmp_path) as proxy:
        id = await say(proxy, simulator, request(coding()))
        page = await look(proxy, id)
    assert "Fix the failing test" in page.text
    assert "~" in page.text, "the answer says how many tokens the prompt had"


async def test_an_answer_that_was_cut_is_said_to_be_incomplete(proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request(coding()[:1]), fault=faults.cut("events", 4))
    assert text("en", "conversation.incomplete") in (await look(proxy, id)).text


async def test_a_damaged_file_is_said_and_breaks_nothing(proxy: RunningProxy, simulator: Simulator, tmp_path: Path) -> None:
    id = await say(proxy, simulator, request(coding()))
    for name in ("capture.db-wal", "capture.db-shm", "capture.db"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "capture.db").write_bytes(b"no database at all, " * 1000)
    page = await look(proxy, id)
    assert "capture.db is damaged" in page.text
    assert (await file(proxy, id, "raw")).status_code == 503


@pytest.mark.parametrize(("id", "status"), [("cp_0000000000001", 404), ("nonsense", 400), ("..%2f..%2fetc", 400), ("%00", 400)])
@pytest.mark.parametrize("rest", ["", "/raw", "/curl", "/images/0", "/parts/0"])
async def test_what_is_not_there_is_said(proxy: RunningProxy, simulator: Simulator, id: str, status: int, rest: str) -> None:
    await say(proxy, simulator, request(coding()[:1]))  # so that both files are there
    async with visitor(proxy) as client:
        answer = await client.get(f"/exchanges/{id}/conversation{rest}")
    assert answer.status_code in (status, 404)


@pytest.mark.parametrize("rest", ["", "/raw", "/curl", "/images/8", "/parts/0"])
async def test_a_stranger_sees_nothing_of_it(proxy: RunningProxy, simulator: Simulator, rest: str) -> None:
    id = await say(proxy, simulator, request(coding()))
    async with visitor(proxy, **{"x-forwarded-for": "203.0.113.9"}) as client:
        answer = await client.get(f"/exchanges/{id}/conversation{rest}")
    assert answer.status_code == 401
    assert "parser" not in answer.text


@pytest.fixture
def stored(tmp_path: Path) -> File:
    """A capture file that is written without a proxy."""
    return File(tmp_path)


async def test_two_thousand_messages_are_a_small_page(simulator: Simulator, stored: File, tmp_path: Path) -> None:
    pairs = [(assistant(f"step {at}", call(f"c{at}", n=at)), user(result(f"c{at}", f"out {at} " * 700))) for at in range(1000)]
    one = parcel(request([user("go"), *(message for pair in pairs for message in pair)]), at=time.time())
    stored.write(one)
    stored.close()
    async with booked(simulator, tmp_path, capture="all") as proxy, visitor(proxy) as client:
        answer = await client.get(f"/exchanges/{ids.encode(one.number)}/conversation?find=out%20999")
    assert answer.status_code == 200
    assert len(answer.content) < 1_000_000
    page = outline(answer.text)
    assert "2,001" in page.text
    assert "Page 31 of 31" in page.text
    assert "Found in 1 part" in page.text


async def test_an_image_of_twenty_megabytes_is_a_link(simulator: Simulator, stored: File, tmp_path: Path) -> None:
    data = png(1000, 750, more=15_000_000)
    one = parcel(request([user("look", image(data))]), at=time.time())
    stored.write(one)
    stored.close()
    async with booked(simulator, tmp_path, capture="all") as proxy, visitor(proxy) as client:
        path = f"/exchanges/{ids.encode(one.number)}/conversation"
        answer = await client.get(path)
        assert len(answer.content) < 30_000
        page = outline(answer.text)
        [link] = [one for one in page.addresses if "/images/" in one]
        assert (await client.get(f"{path}/{link.partition('conversation/')[2]}")).content == data
        assert len((await client.get(f"{path}/raw")).content) > 20_000_000


async def test_a_request_longer_than_what_is_stored_shows_its_beginning(proxy: RunningProxy, simulator: Simulator) -> None:
    id = await say(proxy, simulator, request([user("start " + "word " * 2_000_000)]))
    async with visitor(proxy) as client:
        answer = await client.get(f"/exchanges/{id}/conversation")
    assert len(answer.content) < 50_000
    page = outline(answer.text)
    assert text("en", "conversation.beginning") in unescape(page.text)
    assert "start word" in page.text
