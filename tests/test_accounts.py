"""Upstreams and accounts, made from the settings and carried over in a reload."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from claude_proxy.accounts import ClientSecret, adopt, load_in_time, make_routes, make_upstreams, provider_of
from claude_proxy.errors import SettingsError
from claude_proxy.proxy.accounts import Upstream
from claude_proxy.routing.routes import Route
from claude_proxy.settings import AccountSettings, RouteMatch, RouteTable, Settings, UpstreamSettings

ZAI = "https://api.z.ai/api/anthropic"
SETTINGS = Settings()


def key(name: str, value: str = "", **more: Any) -> AccountSettings:
    return AccountSettings(name, SecretStr(value or f"sk-{name}"), f"env {name}", **more)


def wanted(name: str = "zai", base_url: str = ZAI, *accounts: AccountSettings, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(name, base_url, accounts=accounts, where=f'FILE: [[upstream]] "{name}"', **more)


def made(*upstreams: UpstreamSettings, old: tuple[Upstream, ...] = (), settings: Settings = SETTINGS) -> tuple[Upstream, ...]:
    return make_upstreams(upstreams, (), settings, old=old)


def test_what_the_settings_say_is_what_is_made() -> None:
    account = key("one", auth="x-api-key", max_concurrency=3)
    (upstream,) = made(wanted("zai", ZAI, account, key("two"), priority=2, weight=5, models=("glm-*",), map=(("a", "b"),)))
    assert (upstream.name, upstream.base_url, upstream.provider.name, upstream.model_map) == ("zai", ZAI, "zai", (("a", "b"),))
    assert (upstream.served.priority, upstream.served.weight, upstream.served.models) == (2, 5, ("glm-*",))
    one, two = upstream.accounts
    assert (one.credential, one.max_concurrency) == ((b"x-api-key", b"sk-one"), 3)
    assert (two.credential, two.max_concurrency) == ((b"authorization", b"Bearer sk-two"), None)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (wanted("a", ZAI), wanted("b", "https://api.z.ai/other"), True),
        (wanted("a", ZAI), wanted("b", "https://api.anthropic.com"), False),
        (wanted("a", "https://one.example"), wanted("b", "https://two.example"), False),
        (wanted("a", "http://localhost:11434"), wanted("b", "http://localhost:1234"), False),
        (wanted("a", "https://one.example"), wanted("b", "https://one.example/path"), True),
        (wanted("a", "https://one.example", provider="zai"), wanted("b", ZAI), True),
        (wanted("a", "https://one.example", provider="generic"), wanted("b", "https://two.example", provider="generic"), True),
    ],
)
def test_who_understands_each_other(one: UpstreamSettings, other: UpstreamSettings, together: bool) -> None:
    """Unknown hosts are strangers, unless the file says otherwise."""
    routes = (Route(("a", "b")),)
    first, second = make_upstreams((one, other), routes, SETTINGS)
    assert (first.served.realm == second.served.realm) is together


def test_a_provider_that_does_not_exist_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(SettingsError) as caught:
        provider_of(wanted("work", ZAI, provider="anthropc"))
    assert caught.value.message.startswith(
        "FILE: [[upstream]] \"work\": provider=anthropc: unknown; did you mean 'anthropic'? Known are "
    )


def test_routes_are_taken_over_with_their_conditions() -> None:
    match = RouteMatch(**{"model": ("a*",), "class": ("main",), "agent_type": ("Explore",)})
    table = RouteTable(match=match, upstreams=("x", "y"))
    assert make_routes([table]) == (Route(("x", "y"), ("a*",), ("main",), ("Explore",)),)


# -- a reload


def test_an_unchanged_upstream_is_the_same_object() -> None:
    (old,) = made(wanted("zai", ZAI, key("one")))
    assert made(wanted("zai", ZAI, key("one")), old=(old,)) == (old,)


@pytest.mark.parametrize(
    ("changed", "settings", "same_pool"),
    [
        (wanted("zai", ZAI, key("one"), weight=2), {}, True),
        (wanted("zai", ZAI, key("one"), provider="generic"), {}, True),
        (wanted("zai", ZAI, key("one", "sk-new")), {}, True),
        (wanted("zai", f"{ZAI}/v2", key("one")), {}, False),
        (wanted("zai", ZAI, key("one")), {"connect_timeout": 3}, False),
        (wanted("zai", ZAI, key("one")), {"max_connections": 3}, False),
        (wanted("zai", ZAI, key("one")), {"count_tokens_memory": 3}, True),
        (wanted("other", ZAI, key("one")), {}, False),
    ],
)
def test_the_connections_are_kept_if_they_are_made_in_the_same_way(
    changed: UpstreamSettings, settings: dict[str, Any], same_pool: bool
) -> None:
    (old,) = made(wanted("zai", ZAI, key("one")))
    (new,) = made(changed, old=(old,), settings=SETTINGS.model_copy(update=settings))
    assert new is not old
    assert (new.pool is old.pool) is same_pool


def test_only_the_same_name_and_credential_at_the_same_address_is_the_same_account() -> None:
    old = made(wanted("zai", ZAI, key("same"), key("renamed"), key("rekeyed"), key("gone")))
    for account in old[0].accounts:
        account.carried["of"] = account.name
    new = made(wanted("zai", ZAI, key("new", "sk-renamed"), key("rekeyed", "sk-other"), key("same")), old=old)
    adopt(new, old)
    assert [account.carried for account in new[0].accounts] == [{}, {}, {"of": "same"}]
    assert [account.name for account in old[0].accounts if account.removed] == ["renamed", "rekeyed", "gone"]
    moved = made(wanted("zai", f"{ZAI}/v2", key("same")), old=new)
    adopt(moved, new)
    assert moved[0].accounts[0].carried == {}
    assert all(account.removed for account in new[0].accounts)


def test_what_an_old_exchange_learns_after_the_reload_counts_for_the_new_account() -> None:
    old = made(wanted("zai", ZAI, key("one")))
    new = made(wanted("zai", ZAI, key("one"), priority=1), old=old)
    adopt(new, old)
    old[0].accounts[0].carried["limit"] = 2
    assert new[0].accounts[0].carried == {"limit": 2}


def test_that_an_upstream_has_no_count_tokens_is_not_forgotten() -> None:
    old = made(wanted("zai", ZAI, key("one")))
    new = made(wanted("zai", ZAI, key("one"), priority=1), old=old)
    adopt(new, old)
    assert new[0].count_tokens is old[0].count_tokens


# -- the secret of clients' accounts


def test_the_secret_is_random_until_it_is_loaded_and_fixed_once_it_was_used(tmp_path: Path) -> None:
    first, second, used = (ClientSecret(tmp_path) for _ in range(3))
    before = used()
    assert all(secret.load() for secret in (first, second, used))
    assert first() == second() != before
    assert used() == before


async def test_a_secret_that_cannot_be_kept_is_noted_and_does_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    secret = ClientSecret(tmp_path / "file")
    await load_in_time(secret)
    assert len(secret()) == 32
    assert "DATA_DIR cannot keep their secret" in capsys.readouterr().out


class Hanging(ClientSecret):
    """On a disk that answers when it is told to."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.go_on = threading.Event()
        self.loaded = threading.Event()

    def load(self) -> bool:
        self.go_on.wait(20)
        found = super().load()
        self.loaded.set()
        return found


async def test_a_disk_that_hangs_does_not_keep_the_proxy_from_starting(tmp_path: Path) -> None:
    secret = Hanging(tmp_path)
    await load_in_time(secret, 0.01)
    value = secret()
    secret.go_on.set()
    await asyncio.to_thread(secret.loaded.wait, 20)
    assert secret() == value


def test_clients_names_depend_on_the_secret_at_their_first_use(tmp_path: Path) -> None:
    def name(secret: Callable[[], bytes]) -> str:
        (upstream,) = make_upstreams((wanted(),), (), SETTINGS, client_secret=secret)
        return upstream.clients.find({b"x-api-key": b"sk-1"}).name

    kept, other = ClientSecret(tmp_path), ClientSecret(tmp_path / "other")
    for secret in (kept, other):
        secret.load()
    again = ClientSecret(tmp_path)
    again.load()
    assert name(kept) == name(again) != name(other)
