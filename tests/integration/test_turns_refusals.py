"""What each error of z.ai leads to through the real proxy, as a table: codes x forms x one account or two.

The codes and what they mean: docs/facts.md, "Providers". Which may be sent again: docs/resilience.md.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.simulator import Recorded, Scenario, Simulator, error, faults
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.queued import call, hurry, queued
from tests.integration.test_accounts import table
from tests.integration.wire import Reply, ask

RESET = "Your limit will reset at 2099-01-01 00:00:00"  # read as absurdly far away, and so as unknown
WAITS, OVERLOADED, STOPS, OTHER_ACCOUNT, PASSES = "waits", "overloaded", "stops", "other account", "passes"


@dataclass(frozen=True)
class Row:
    """One error: its code (or a bare status), how z.ai sends it, and what is done about it."""

    code: str
    status: int
    then: str
    kind: str = "rate_limit_error"
    text: str = "words of the provider"

    @property
    def is_coded(self) -> bool:
        return self.code.isdigit()

    @property
    def message(self) -> str:
        return f"[{self.code}][{self.text}][2026083118194100000000000000]" if self.is_coded else self.text

    def scenario(self, form: str) -> Scenario:
        if form == "error event":
            return Scenario(fault=faults.error_event(0, error_type=self.kind, message=self.message))
        return error(self.status, self.kind, self.message, error_code=self.code if self.is_coded else None)


def rows(status: int, then: str, *codes: str, kind: str = "rate_limit_error", text: str = "words of the provider") -> list[Row]:
    return [Row(code, status, then, kind, text) for code in codes]


ROWS = [
    *rows(401, STOPS, "1000", "1001", "1002", "1003", "1004", kind="authentication_error"),
    *rows(429, STOPS, "1110", "1111", "1112", "1113", "1120", "1121"),
    *rows(400, PASSES, "1210", "1211", "1212", "1213", "1214", "1215", "1261", "1301", kind="invalid_request_error"),
    *rows(500, PASSES, "1234", kind="api_error"),
    *rows(429, WAITS, "1302", "1303"),
    *rows(529, OVERLOADED, "1305", kind="overloaded_error"),
    *rows(429, OVERLOADED, "1312"),
    *rows(429, STOPS, "1304", "1308", "1310", text=RESET),
    *rows(429, STOPS, "1309", "1313"),
    *rows(429, OTHER_ACCOUNT, "1311"),
    # Without a code, as fronts and other providers send them.
    Row("bare-400", 400, PASSES, "invalid_request_error"),
    Row("bare-404", 404, PASSES, "not_found_error"),
    Row("bare-413", 413, PASSES, "request_too_large"),
    Row("bare-429", 429, WAITS),
    Row("bare-529", 529, OVERLOADED, "overloaded_error"),
    Row("bare-401", 401, STOPS, "authentication_error"),
    Row("bare-402", 402, STOPS, "billing_error"),
    Row("bare-403", 403, STOPS, "permission_error"),
    Row("bare-500", 500, PASSES, "api_error"),
    Row("bare-502", 502, PASSES, "api_error"),
    Row("bare-504", 504, PASSES, "timeout_error"),
]


@dataclass(frozen=True)
class Seen:
    """What came of a row: the client's status, whether the words are the provider's, what it is told of trying again; which
    accounts were asked, in order; what the books name as the failure.
    """

    status: int
    verbatim: bool
    should_retry: str | None
    asked: tuple[str, ...]
    failure: str | None
    attempts: tuple[int | None, ...]


FINE = (200, False, None)


def expected(row: Row, form: str, accounts: int) -> Seen:
    """The table itself. The first account refuses, with one account only the first time; a second one is well."""
    bad = 200 if form == "error event" else row.status
    hint = "false" if form != "error event" and row.is_coded and _is_known_to_last(row) else None
    code = row.code if row.is_coded else row.kind
    verbatim = Seen(bad, True, hint, ("one",), code, (bad,))
    if row.then == PASSES or (row.then in (STOPS, OTHER_ACCOUNT) and accounts == 1):
        return verbatim
    last = "two" if accounts == 2 else "one"
    return Seen(*FINE, ("one", last), None, (bad, 200))


def _is_known_to_last(row: Row) -> bool:
    return row.then in (STOPS, OTHER_ACCOUNT) or (row.then == PASSES and row.code != "1234")


class Accounts:
    """Answers by model, which names the row: a refusal the first time at the first account, else a good answer."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.asked: dict[str, list[str]] = {}

    def __call__(self, one: Recorded) -> Scenario:
        code = json.loads(one.body)["model"]
        account = (one.header("authorization") or "").split("-")[1]
        asked = self.asked.setdefault(code, [])
        asked.append(account)
        row = next(row for row in ROWS if row.code == code)
        return row.scenario(self.form) if account == "one" and asked.count("one") == 1 else Scenario("text")


def environ() -> dict[str, str]:
    """A key for each account: `one` and `two` of each row."""
    return {f"{name.upper()}_{n}": f"sk-{name}-{n:06}" for n in range(len(ROWS)) for name in ("one", "two")}


def upstreams(simulator: Simulator, accounts: int) -> str:
    """One upstream for each row, so that none sees what becomes of another's account."""
    return "".join(
        table(f"u{n}", simulator.base_url, *(f"ONE_{n}", f"TWO_{n}")[:accounts], provider="zai", models=[row.code])
        for n, row in enumerate(ROWS)
    )


def seen_in(row: Row, form: str, reply: Reply, asked: list[str], exchange: Exchange) -> Seen:
    return Seen(
        reply.status,
        row.text.encode() in reply.body,
        reply.get("x-should-retry"),
        tuple(asked),
        None if exchange.failure is None else exchange.failure.provider_code or exchange.failure.kind,
        tuple(one.status for one in exchange.attempts),
    )


async def play(proxy: RunningProxy, accounts: Accounts, **fields: Any) -> dict[str, Seen]:
    """All rows at once."""
    asking = [ask(proxy.port, "POST", MESSAGES, [JSON], body(model=row.code, **fields)) for row in ROWS]
    replies = await asyncio.gather(*asking)
    exchanges = {one.model: one for one in await proxy.recorder.wait_for(len(replies), 30)}
    assert {one.outcome for one in exchanges.values()} == {Outcome.COMPLETED}
    return {
        row.code: seen_in(row, accounts.form, reply, accounts.asked[row.code], exchanges[row.code])
        for row, reply in zip(ROWS, replies, strict=True)
    }


@pytest.mark.parametrize("count", [1, 2], ids=["one account", "two accounts"])
@pytest.mark.parametrize(("form", "stream"), [("answer", True), ("answer", False), ("error event", True)])
async def test_each_error_leads_to_what_the_table_says(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, stream: bool, count: int
) -> None:
    hurry(monkeypatch)
    accounts = Accounts(form)
    simulator.scenario = accounts
    file = tmp_path / "claude-proxy.toml"
    file.write_text(upstreams(simulator, count))
    async with running_proxy(config=file, environ=environ(), data_dir=tmp_path, queue=True) as proxy:
        found = await play(proxy, accounts, stream=stream)
    assert found == {row.code: expected(row, form, count) for row in ROWS}


# -- what the table does not say


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_refusal_is_read_too(simulator: Simulator, tmp_path: Path, encoding: Any) -> None:
    """As a rate limit, which is all that its status says, a used-up window would be waited for in vain."""
    simulator.scenario = error(429, message=f"[1308][{RESET}][1]", encoding=encoding)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        first, second = await call(proxy), await call(proxy)
    assert (first.status, first.get("content-encoding"), first.get("x-claude-proxy-error")) == (429, encoding, None)
    assert (second.status, second.get("x-claude-proxy-error")) == (429, "account_out")
    assert len(simulator.requests) == 1


START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n'
DELTA = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"so far"}}\n\n'


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("begun", [START, b'event: ping\ndata: {"type":"ping"}\n\n' + START, START + DELTA, DELTA])
@pytest.mark.parametrize("message", ["[1302][High concurrency usage][1]", "[1305][overloaded][1]", f"[1308][{RESET}][1]"])
async def test_an_error_event_behind_the_beginning_of_an_answer_is_no_refusal(
    simulator: Simulator, tmp_path: Path, begun: bytes, message: str
) -> None:
    """The answer is billed: although both have come at once, it is passed on, and not held against the account."""
    told = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": message}}).encode()
    simulator.scenario = Scenario("raw", content_type="text/event-stream", body=begun + b"event: error\ndata: %b\n\n" % told)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        reply = await call(proxy)
        exchange = await proxy.last()
        simulator.scenario = None
        assert (await call(proxy)).status == 200
    assert message.encode() in reply.body
    assert (len(simulator.requests), len(exchange.attempts)) == (2, 1)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("envelope", [True, False])
async def test_an_error_event_in_either_form_is_the_refusal_that_it_names(
    simulator: Simulator, tmp_path: Path, envelope: bool
) -> None:
    refused = Scenario(fault=faults.error_event(0, envelope=envelope, error_type="1302", message="[1302][usage][1]"))
    simulator.scenario = lambda _: refused if len(simulator.requests) == 1 else Scenario("text", text="well again")
    async with queued(tmp_path, simulator, "ONE") as proxy:
        reply = await call(proxy)
    assert b"message_stop" in reply.body
    assert b"1302" not in reply.body
    assert len(simulator.requests) == 2


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(("code", "tries"), [("1305", 3), ("1312", 3)])
async def test_an_overloaded_upstream_is_asked_twice_more_and_then_has_the_word(
    simulator: Simulator, tmp_path: Path, code: str, tries: int
) -> None:
    simulator.scenario = error(529, "overloaded_error", f"[{code}][overloaded][1]")
    async with queued(tmp_path, simulator, "ONE") as proxy:
        reply = await call(proxy, text="x")
        exchange = await proxy.last()
    assert (reply.status, reply.get("x-claude-proxy-error")) == (529, None)
    assert [one.status for one in exchange.attempts] == [529] * tries
    assert exchange.failure is not None
    assert exchange.failure.provider_code == code


@pytest.mark.usefixtures("quickly")
async def test_many_at_an_overloaded_upstream_share_a_bound_on_what_is_sent_again(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = error(529, "overloaded_error", "Overloaded")
    async with queued(tmp_path, simulator, "ONE", provider="anthropic") as proxy:
        replies = await asyncio.gather(*(call(proxy, text=f"call {n}") for n in range(20)))
    assert {reply.status for reply in replies} == {529}
    assert len(simulator.requests) <= 20 + 10


@pytest.mark.usefixtures("quickly")
async def test_a_retry_after_is_kept_to_and_a_long_one_goes_to_the_client(simulator: Simulator, tmp_path: Path) -> None:
    short = error(429, message="slower", headers=(("retry-after", "1"),))
    simulator.scenario = lambda _: short if len(simulator.requests) == 1 else Scenario("text")
    async with queued(tmp_path / "a", simulator, "ONE", provider="anthropic") as proxy:
        assert (await call(proxy)).status == 200
    first, second = simulator.requests
    assert second.received_at - first.received_at == pytest.approx(1.0, abs=0.4)
    simulator.scenario = short.but(headers=(("retry-after", "120"),))
    async with queued(tmp_path / "b", simulator, "ONE", provider="anthropic") as proxy:
        reply = await call(proxy)
    assert (reply.status, reply.get("retry-after"), reply.get("x-should-retry")) == (429, "120", None)
    assert len(simulator.requests) == 3
