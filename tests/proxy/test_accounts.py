"""Accounts of clients: one for each credential, cheaply found, never shown."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from claude_proxy.protocol.providers import by_name
from claude_proxy.proxy.accounts import Account, ClientAccounts, Upstream, too_many_workers
from claude_proxy.upstream.dial import parse_origin

BEARER = {b"authorization": b"Bearer sk-one"}
KEY = {b"x-api-key": b"sk-one"}


class FakePool:
    """Where nothing is sent."""

    origin = parse_origin("https://api.z.ai/api/anthropic", {})


def upstream(provider: str = "zai", name: str = "zai", **more: Any) -> Upstream:
    pool: Any = FakePool()
    return Upstream(name, pool, provider=by_name(provider), **more)


def clients(limit: int = 1000, provider: str = "zai") -> ClientAccounts:
    return ClientAccounts(upstream(provider), lambda: b"secret", limit)


def test_the_same_credential_is_the_same_account_in_whichever_header() -> None:
    accounts = clients()
    first = accounts.find(BEARER)
    assert accounts.find(dict(BEARER)) is first
    assert accounts.find(KEY) is first
    assert accounts.find({b"authorization": b"bearer   sk-one "}) is first
    assert accounts.find({b"authorization": b"Bearer sk-two"}) is not first


def test_its_name_is_a_keyed_hash() -> None:
    account = clients().find(BEARER)
    other = ClientAccounts(upstream(), lambda: b"another secret").find(BEARER)
    assert account.name.startswith("client-")
    assert account.name == clients().find(KEY).name != other.name
    assert "sk-one" not in repr(account) + account.id
    assert not account.held
    assert account.withheld == frozenset()


@pytest.mark.parametrize(("provider", "reads"), [("zai", b"sk-bearer"), ("anthropic", b"sk-key")])
def test_of_two_credentials_the_one_that_the_provider_reads_counts(provider: str, reads: bytes) -> None:
    accounts = clients(provider=provider)
    both = accounts.find({b"authorization": b"Bearer sk-bearer", b"x-api-key": b"sk-key"})
    assert both is accounts.find({b"x-api-key": reads})


def test_who_shows_none_is_anonymous() -> None:
    assert clients().find({}).name == "anonymous"


def test_the_proxys_own_key_is_no_credential() -> None:
    accounts = clients()
    shown = {b"authorization": b"Bearer door", b"x-api-key": b"sk-one"}
    assert accounts.find(shown, frozenset((b"authorization",))) is accounts.find(KEY)
    assert accounts.find(shown, frozenset((b"authorization", b"x-api-key"))).name == "anonymous"


def test_the_least_recently_used_is_forgotten_unless_it_is_in_use() -> None:
    accounts = clients(limit=3)
    kept = accounts.find({b"x-api-key": b"kept"})
    kept_id, gone_id = id(kept), accounts.find({b"x-api-key": b"gone"}).id
    for number in range(10):
        accounts.find({b"x-api-key": b"%d" % number})
    assert len(accounts) == 3
    gc.collect()
    assert gone_id not in {account.id for account in accounts}
    assert id(accounts.find({b"x-api-key": b"kept"})) == kept_id


def test_one_that_is_used_again_and_again_stays() -> None:
    accounts = clients(limit=3)
    accounts.find(KEY).carried["limit"] = 1
    for number in range(10):
        accounts.find({b"x-api-key": b"%d" % number})
        assert accounts.find(KEY).carried == {"limit": 1}


def test_a_held_account_replaces_what_clients_show() -> None:
    one = upstream()
    one.hold("first", (b"x-api-key", b"sk-hush"), max_concurrency=3)
    second = one.hold("second", (b"authorization", b"Bearer sk-hush-2"))
    assert [account.id for account in one.accounts] == ["zai/first", "zai/second"]
    assert one.credential == (b"x-api-key", b"sk-hush")
    assert second.withheld == {b"authorization", b"x-api-key"}
    assert [account.starting_limit for account in one.accounts] == [3, by_name("zai").concurrency]
    assert "hush" not in repr((one, *one.accounts))


@pytest.mark.parametrize(
    ("model", "target"),
    [("claude-haiku-5", "small"), ("claude-opus-5", "large"), ("large", None), ("glm", None), (None, None)],
)
def test_the_first_pattern_of_the_map_decides(model: str | None, target: str | None) -> None:
    mapped = upstream(model_map=(("claude-haiku-*", "small"), ("claude-*", "large"), ("large", "large")))
    assert mapped.target(model) == target


def test_clients_of_two_upstreams_have_nothing_in_common() -> None:
    one, other = upstream(name="one"), upstream(name="other")
    assert one.clients.find(KEY) is not other.clients.find(KEY)
    assert isinstance(one.clients.find(KEY), Account)
    assert one.clients.find(KEY).upstream is one


@pytest.mark.parametrize(
    ("provider", "limits", "workers", "named"),
    [
        pytest.param("zai", (), 1, None, id="one worker"),
        pytest.param("zai", (), 2, "zai takes 2", id="what is known of the provider, for clients' own accounts"),
        pytest.param("generic", (), 4, None, id="no known limit"),
        pytest.param("generic", (8, None), 4, None, id="two for each"),
        pytest.param("generic", (8, 7), 4, "zai/1 takes 7", id="the smallest of several"),
    ],
)
def test_one_worker_is_recommended_where_an_account_takes_few(
    provider: str, limits: tuple[int | None, ...], workers: int, named: str | None
) -> None:
    one = upstream(provider)
    for number, limit in enumerate(limits):
        one.hold(str(number), (b"authorization", b"Bearer k"), max_concurrency=limit)
    sentence = too_many_workers([one], workers)
    assert (sentence is None) if named is None else (sentence is not None and sentence.startswith(named))
