"""The doctor looks at each upstream of the file and at each of its accounts."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from claude_proxy.cli.doctor.check import Check, run_all
from claude_proxy.cli.doctor.upstreams import groups
from claude_proxy.settings import load
from claude_proxy.simulator import Simulator

KEYS = {"GOOD": "sk-hush-good", "BAD": "sk-hush-bad"}


async def look(folder: Path, text: str) -> list[Check]:
    """All checks; none may show a key."""
    file = folder / "claude-proxy.toml"
    file.write_text(text)
    loaded = load(KEYS, config=file)
    found = await anyio.to_thread.run_sync(lambda: run_all(groups(loaded, {}), 20))
    assert "hush" not in repr(found)
    assert all(check.fix for check in found if check.state == "fail")
    return found


def table(name: str, base_url: str, *keys: str, provider: str = "zai") -> str:
    accounts = "".join(f"[[upstream.account]]\nname = '{key.lower()}'\nkey_env = '{key}'\n" for key in keys)
    return f"[[upstream]]\nname = '{name}'\nbase_url = '{base_url}'\nprovider = '{provider}'\n{accounts}"


def states(found: list[Check], name: str) -> list[tuple[str, str]]:
    return [(check.state, check.detail) for check in found if check.name == name]


async def test_each_account_is_tried_with_its_own_key(tmp_path: Path) -> None:
    async with Simulator(keys={KEYS["GOOD"]}) as simulator:
        found = await look(tmp_path, table("work", simulator.base_url, "GOOD", "BAD"))
    accepted, refused = states(found, "credential")
    assert accepted == ("ok", 'work: account "good" (env GOOD) was accepted')
    assert refused[0] == "fail"
    assert refused[1].startswith('work: account "bad" (env BAD) was refused (401')
    assert states(found, "provider") == [("ok", "work: zai")]
    assert states(found, "routes") == [("ok", "1 upstream, 2 accounts, 0 routes")]


async def test_one_that_cannot_be_reached_does_not_hide_the_others(tmp_path: Path) -> None:
    async with Simulator(keys={KEYS["GOOD"]}) as simulator, Simulator() as gone:
        await gone.refuse()
        found = await look(tmp_path, table("gone", gone.base_url, "BAD") + table("work", simulator.base_url, "GOOD"))
    assert ("ok", 'work: account "good" (env GOOD) was accepted') in states(found, "credential")
    assert [(state, detail.partition(": ")[0]) for state, detail in states(found, "connect")] == [
        ("fail", "gone"),
        ("ok", "work"),
    ]


async def test_an_unknown_provider_fails_and_a_general_one_is_noted(tmp_path: Path) -> None:
    async with Simulator(keys={KEYS["GOOD"]}) as simulator:
        unknown = await look(tmp_path, table("work", simulator.base_url, "GOOD", provider="zia"))
        general = await look(tmp_path, table("work", simulator.base_url, "GOOD", provider="generic"))
    ((state, detail),) = states(unknown, "provider")
    assert state == "fail"
    assert "did you mean 'zai'?" in detail
    assert states(unknown, "routes")[0][0] == "fail"
    assert states(general, "provider")[0][0] == "warn"


async def test_an_upstream_that_would_never_be_asked_is_found(tmp_path: Path) -> None:
    async with Simulator() as simulator:
        text = table("work", simulator.base_url, "GOOD") + table("side", simulator.base_url, "BAD", provider="anthropic")
        found = await look(tmp_path, text)
    ((state, detail),) = states(found, "routes")
    assert state == "fail"
    assert '[[upstream]] "side": it would never be asked, since "work" is another provider' in detail


async def test_messages_speak_of_the_tables_key(tmp_path: Path) -> None:
    found = await look(tmp_path, table("work", "http://nowhere.invalid", "GOOD"))
    assert not any("BASE_URL" in check.detail + check.fix for check in found)
