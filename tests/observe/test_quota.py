"""Asking the provider's quota endpoint: rarely, at the upstream's own origin, with the account's own credential, failing soft."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing

from claude_proxy.exchange import Header, Kind, Outcome
from claude_proxy.ledger.options import Sample
from claude_proxy.observe.quota import QuotaPoll, Watched, bare
from claude_proxy.protocol.providers.base import Quota
from claude_proxy.protocol.providers.zai import ZAI
from claude_proxy.upstream.origin import parse_origin
from claude_proxy.upstream.pool import Pool
from tests.observe.running import exchange, finished

ANSWER = {
    "code": 200, "success": True,
    "data": {"level": "pro", "limits": [
        {"type": "CREDIT_LIMIT", "unit": 3, "number": 5, "usage": 12000, "currentValue": 1438, "remaining": 10562,
         "percentage": 11, "nextResetTime": 1_790_003_600_000},
    ]},
}  # fmt: skip
HELD = (b"authorization", b"Bearer sk-held")


class Provider:
    """A quota endpoint; `requests` are the heads that it was sent."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.body: bytes = json.dumps(ANSWER).encode()
        self.more = b""
        self.silent = False
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if self.silent:
                await reader.read()
                return
            writer.write(
                f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\n".encode() + self.more + b"\r\n" + self.body
            )
            await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A quota endpoint on loopback."""
    made = Provider()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


class Kept(list[Sample]):
    """What the ledger was given."""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    def __call__(self, sample: Sample) -> None:
        self.append(sample)
        self.came.set()


@asynccontextmanager
async def polling(
    provider: Provider, credential: Header | None = HELD, *, interval: float = 60.0, quota: Quota | None = None, **more: Any
) -> AsyncIterator[tuple[QuotaPoll, Watched, Kept]]:
    """A poll of one upstream."""
    watched = watched_at(provider, credential, quota)
    kept = Kept()
    poll = QuotaPoll([watched], kept, interval=interval, wall=lambda: 1_790_000_000.0, **more)
    try:
        yield poll, watched, kept
    finally:
        await poll.aclose()
        watched.pool.close()


def watched_at(
    provider: Provider, credential: Header | None = HELD, quota: Quota | None = None, account: str | None = None
) -> Watched:
    pool = Pool(parse_origin(f"http://127.0.0.1:{provider.port}/api/anthropic", {}), connect_timeout=5, expiry=0, limit=4)
    assert ZAI.quota is not None
    return Watched("default", quota or ZAI.quota, pool, credential, account or ("default" if credential else None))


async def settled(poll: QuotaPoll) -> None:
    """Return once no question is on its way."""
    async with asyncio.timeout(20):
        await asyncio.gather(*poll._tasks)


async def test_the_held_credential_is_sent_raw_to_the_upstreams_own_origin(provider: Provider) -> None:
    async with polling(provider) as (poll, _, kept):
        poll.on_exchange_end(finished())
        await settled(poll)
    (head,) = provider.requests
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "get /api/monitor/usage/quota/limit http/1.1"
    assert f"host: 127.0.0.1:{provider.port}" in lines
    assert "authorization: sk-held" in lines
    assert "accept-language: en-us,en" in lines
    (sample,) = kept
    assert (sample.upstream, sample.account, sample.at) == ("default", "default", 1_790_000_000_000)
    assert [(window.name, window.used, window.allowance) for window in sample.windows] == [("5h", 1438_000_000, 12_000_000_000)]


@pytest.mark.parametrize(
    ("auth", "field"),
    [("raw", "authorization: sk-held"), ("bearer", "authorization: bearer sk-held"), ("x-api-key", "x-api-key: sk-held")],
)
@pytest.mark.parametrize("held", [HELD, (b"x-api-key", b"sk-held")], ids=["bearer", "x-api-key"])
async def test_the_credential_is_written_as_the_provider_wants_it(
    provider: Provider, auth: Any, field: str, held: Header
) -> None:
    async with polling(provider, held, quota=Quota("/quota", auth)) as (poll, _, _kept):
        poll.on_exchange_end(finished())
        await settled(poll)
    assert field in provider.requests[0].decode().lower().split("\r\n")


async def test_it_is_asked_once_in_the_interval_however_many_exchanges_end(provider: Provider) -> None:
    async with polling(provider) as (poll, watched, kept):
        for _ in range(20):
            poll.on_exchange_end(finished())
        await settled(poll)
        for _ in range(20):
            poll.on_exchange_end(finished())
        await settled(poll)
        assert len(provider.requests) == len(kept) == 1
        watched.asked_at -= 60.0
        poll.on_exchange_end(finished())
        await settled(poll)
    assert len(provider.requests) == 2


async def test_without_traffic_nobody_asks(provider: Provider) -> None:
    async with polling(provider, interval=0.0) as (poll, _, _kept):
        poll.on_exchange_start(exchange())
        await asyncio.sleep(0.02)
    assert provider.requests == []


@pytest.mark.parametrize(
    "values",
    [
        {"status": 401},
        {"status": 429},
        {"status": 499, "outcome": Outcome.CANCELLED},
        {"status": 0},
        {"kind": Kind.COUNT_TOKENS},
        {"kind": Kind.OTHER},
        {"upstream": "another"},
        {"upstream": ""},
        {"account": "another"},
        {"account": None},
    ],
    ids=str,
)
async def test_only_an_exchange_that_went_well_there_is_a_reason(provider: Provider, values: dict[str, Any]) -> None:
    async with polling(provider, interval=0.0) as (poll, _, _kept):
        poll.on_exchange_end(finished(**values))
        await settled(poll)
    assert provider.requests == []


async def test_each_account_is_asked_with_its_own_key_and_known_by_its_name(provider: Provider) -> None:
    keys = {"work": b"Bearer sk-work", "home": b"Bearer sk-home"}
    kept = Kept()
    watched = [watched_at(provider, (b"authorization", key), account=name) for name, key in keys.items()]
    poll = QuotaPoll(watched, kept, wall=lambda: 1_790_000_000.0)
    try:
        for account in ("home", "work", "home", "work"):
            poll.on_exchange_end(finished(account=account))
            await settled(poll)
    finally:
        await poll.aclose()
        for one in watched:
            one.pool.close()
    asked = [line for head in provider.requests for line in head.decode().lower().split("\r\n") if "sk-" in line]
    assert asked == ["authorization: sk-home", "authorization: sk-work"]
    assert [(sample.upstream, sample.account) for sample in kept] == [("default", "home"), ("default", "work")]
    windows = [(window.upstream, window.account, window.name) for window in poll.windows()]
    assert windows == [("default", "work", "5h"), ("default", "home", "5h")]


async def test_a_reload_keeps_what_is_known_of_accounts_whose_key_stays(provider: Provider) -> None:
    async with polling(provider) as (poll, watched, _):
        poll.on_exchange_end(finished())
        await settled(poll)
        new = Watched("default", watched.quota, watched.pool, (b"authorization", b"Bearer sk-new"), "new")
        poll.follow([Watched("default", watched.quota, watched.pool, HELD, "default"), new])
        assert [(window.account, window.name) for window in poll.windows()] == [("default", "5h")]
        for account in ("default", "new"):
            poll.on_exchange_end(finished(account=account))
            await settled(poll)
        assert [b"sk-new" in head for head in provider.requests] == [False, True]
        poll.follow([new])
        assert [window.account for window in poll.windows()] == ["new"]
        poll.follow([Watched("default", watched.quota, watched.pool, (b"authorization", b"Bearer sk-newer"), "new")])
        assert poll.windows() == []


# -- the client's credential


def show(poll: QuotaPoll, *headers: Header, status: int = 200, **values: Any) -> bool:
    """One exchange with a client's credential; whether it was looked at."""
    one = finished(status=status, **values)
    tap = poll.tap(one)
    if tap is not None:
        tap.on_request(headers, b"", whole=True)
        tap.on_response(status, [])
        tap.on_end(one)
    poll.on_exchange_end(one)
    return tap is not None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer sk-client")],
        [(b"authorization", b"bearer  sk-client ")],
        [(b"x-api-key", b"sk-client")],
        [(b"authorization", b"Bearer sk-own"), (b"x-api-key", b"sk-client")],
        [(b"x-api-key", b"sk-own"), (b"authorization", b"Bearer sk-client")],
    ],
    ids=str,
)
async def test_the_clients_credential_is_used_where_none_is_held(provider: Provider, headers: list[Header]) -> None:
    async with polling(provider, None, is_own_key=lambda key: key == b"sk-own") as (poll, _, kept):
        assert show(poll, *headers, account="client-a")
        await settled(poll)
        assert not show(poll, *headers), "within the interval no exchange is looked at"
    assert [(sample.upstream, sample.account) for sample in kept] == [("default", "client-a")]
    assert "authorization: sk-client" in provider.requests[0].decode().lower().split("\r\n")
    assert b"sk-own" not in provider.requests[0]


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        ([(b"authorization", b"Bearer sk-own")], {}),
        ([], {}),
        ([(b"authorization", b"")], {}),
        ([(b"x-api-key", b"sk-client")], {"status": 401}),
        ([(b"x-api-key", b"sk-client")], {"kind": Kind.COUNT_TOKENS}),
        ([(b"x-api-key", b"sk-client")], {"upstream": "another"}),
    ],
    ids=str,
)
async def test_a_credential_that_is_ours_or_not_proven_goes_nowhere(
    provider: Provider, headers: list[Header], values: dict[str, Any]
) -> None:
    async with polling(provider, None, is_own_key=lambda key: key == b"sk-own") as (poll, _, _kept):
        show(poll, *headers, **values)
        await settled(poll)
    assert provider.requests == []


async def test_with_a_held_credential_no_exchange_is_looked_at(provider: Provider) -> None:
    async with polling(provider) as (poll, _, _kept):
        assert poll.tap(exchange()) is None


async def test_clients_that_take_turns_with_several_keys_have_no_one_plan(provider: Provider) -> None:
    async with polling(provider, None, interval=0.0) as (poll, watched, kept):
        for key in (b"a", b"a", b"b", b"b"):  # a new key in the place of the old one
            show(poll, (b"x-api-key", key))
            await settled(poll)
        assert len(kept) == 4
        with structlog.testing.capture_logs() as lines:
            show(poll, (b"x-api-key", b"a"))
            show(poll, (b"x-api-key", b"b"))
            await settled(poll)
    assert watched.mixed
    assert len(kept) == 4
    assert [line["event"] for line in lines] == ["clients use several credentials, so the quota is not asked any more"]


# -- failing soft


@pytest.mark.parametrize(
    ("status", "body", "more"),
    [
        ("500 Oops", b"", b""),
        ("200 OK", b"<html>login</html>", b""),
        ("200 OK", b'{"code": 1001, "success": false, "msg": "who are you"}', b""),
        ("200 OK", b"x" * 300_000, b""),
        ("302 Found", b"", b"location: http://127.0.0.1:9/elsewhere\r\n"),
        ("401 Unauthorized", b"{}", b""),
        ("garbage", b"", b""),
    ],
    ids=["500", "html", "refused", "huge", "redirect", "401", "not-http"],
)
async def test_a_failure_is_said_once_and_tried_again(provider: Provider, status: str, body: bytes, more: bytes) -> None:
    good = provider.body
    provider.status, provider.body, provider.more = status, body, more
    async with polling(provider, interval=0.0) as (poll, _, kept):
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                poll.on_exchange_end(finished())
                await settled(poll)
            assert len(provider.requests) == 3, "a redirect is not followed"
            provider.status, provider.body, provider.more = "200 OK", good, b""
            poll.on_exchange_end(finished())
            await settled(poll)
    assert [line["event"] for line in lines] == [
        "the quota cannot be read; proxying goes on",
        "the quota can be read again",
    ]
    assert "sk-held" not in str(lines)
    assert len(kept) == 1


async def test_an_endpoint_that_is_not_there_is_said(provider: Provider) -> None:
    async with polling(provider, interval=0.0) as (poll, watched, kept):
        watched.pool.close()
        with structlog.testing.capture_logs() as lines:
            poll.on_exchange_end(finished())
            await settled(poll)
    assert len(lines) == 1
    assert kept == []


async def test_a_silent_endpoint_does_not_hold_up_the_stop(provider: Provider) -> None:
    provider.silent = True
    async with polling(provider) as (poll, _, kept):
        poll.on_exchange_end(finished())
        async with asyncio.timeout(10):
            while not provider.requests:  # noqa: ASYNC110 - the provider has no event for it
                await asyncio.sleep(0.001)
            await poll.aclose()
        poll.on_exchange_end(finished())
        assert len(provider.requests) == 1
    assert kept == []


async def test_a_silent_endpoint_is_given_up(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.observe.quota.PATIENCE", 0.05)
    provider.silent = True
    async with polling(provider) as (poll, _, kept):
        with structlog.testing.capture_logs() as lines:
            poll.on_exchange_end(finished())
            await settled(poll)
    assert [line["reason"] for line in lines] == ["no answer in time"]
    assert kept == []


@pytest.mark.parametrize("value", [b"sk", b"Bearer sk", b"BEARER   sk ", b" sk "])
def test_a_credential_without_its_scheme(value: bytes) -> None:
    assert bare(value) == b"sk"


async def test_metrics_see_the_plans_windows_until_they_are_reset(provider: Provider) -> None:
    async with polling(provider) as (poll, watched, _kept):
        assert poll.windows() == []
        poll.on_exchange_end(finished())
        await settled(poll)
        (window,) = poll.windows()
        assert (window.name, window.reset) == ("5h", 3600.0)
        assert window.used == pytest.approx(1438 / 12_000)
        assert watched.latest is not None
        watched.latest = watched.latest._replace(
            windows=tuple(one._replace(resets_at=1_790_000_000.0) for one in watched.latest.windows)
        )
        assert poll.windows() == []
