"""When the settings are read again, and what becomes of an attempt to do so that fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import reload
from claude_proxy.app import App, create_app
from claude_proxy.reload import Reloader, state_of
from claude_proxy.settings import RELOADED, Loaded, Settings, load
from tests.architecture.source import ROOT

UPSTREAM = '[[upstream]]\nname = "work"\nbase_url = "https://{}.example"\n[[upstream.account]]\nname = "one"\nkey_file = "key"\n'


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "SETTLED", 0.001)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text("sk-one")
    (tmp_path / "claude-proxy.toml").write_text(UPSTREAM.format("first"))
    return tmp_path


class House:
    """An application whose settings can be read again, and how often that was done."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.reads = 0
        self.fault: Exception | None = None
        self._folder, self._more = folder, more
        self.app: App = create_app(self.read(), read=self.read)
        self.reloader: Reloader = self.app.state.reloader

    def read(self) -> Loaded:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return load({}, config=self._folder / "claude-proxy.toml", ledger="off", data_dir=self._folder, **self._more)

    async def look(self, *, asked: bool = False) -> int:
        """Let it look once; returns how often it has read the settings in doing so."""
        before = self.reads
        await asyncio.to_thread(self.reloader.look, asyncio.get_running_loop(), asked=asked)
        return self.reads - before

    @property
    def base_url(self) -> str:
        return self.app.forward.config.upstreams[0].base_url


async def test_nothing_is_read_while_no_file_changes(folder: Path) -> None:
    house = House(folder)
    assert [await house.look() for _ in range(3)] == [0, 0, 0]
    assert await house.look(asked=True) == 1


@pytest.mark.parametrize("file", ["claude-proxy.toml", "key"])
async def test_a_changed_file_is_read_once(folder: Path, file: str) -> None:
    house = House(folder)
    (folder / file).write_text(UPSTREAM.format("second") if file != "key" else "sk-two")
    assert [await house.look() for _ in range(3)] == [1, 0, 0]
    assert house.base_url == f"https://{'first' if file == 'key' else 'second'}.example"
    (account,) = house.app.forward.config.accounts
    assert account.credential == (b"authorization", b"Bearer sk-two" if file == "key" else b"Bearer sk-one")


async def test_a_file_that_replaces_another_by_renaming_is_noticed(folder: Path) -> None:
    """As editors write, and as Kubernetes swaps a mounted folder: the size is the same, and the time may be too."""
    house = House(folder)
    new, file = folder / "new", folder / "claude-proxy.toml"
    new.write_text(UPSTREAM.format("other"))
    new.replace(file)
    assert await house.look() == 1
    assert house.base_url == "https://other.example"


async def test_a_wrong_file_is_refused_once_and_not_again_and_again(folder: Path) -> None:
    house = House(folder)
    (folder / "claude-proxy.toml").write_text("zzz = 1\n")
    assert [await house.look() for _ in range(3)] == [1, 0, 0]
    assert house.base_url == "https://first.example"


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), MemoryError(), UnicodeError("x")])
async def test_no_fault_of_ours_ends_the_watch(folder: Path, fault: Exception) -> None:
    house = House(folder)
    before = house.app.forward.config
    house.fault = fault
    await house.look(asked=True)
    assert house.app.forward.config is before
    house.fault = None
    (folder / "claude-proxy.toml").write_text(UPSTREAM.format("second"))
    await house.look()
    assert house.base_url == "https://second.example"


async def test_a_key_file_that_a_new_table_names_is_watched_from_then_on(folder: Path) -> None:
    house = House(folder)
    (folder / "other").write_text("sk-three")
    (folder / "claude-proxy.toml").write_text(UPSTREAM.format("first").replace('"key"', '"other"'))
    assert await house.look() == 1
    (folder / "key").write_text("sk-of-no-interest")
    assert await house.look() == 0
    (folder / "other").write_text("sk-four")
    assert await house.look() == 1
    assert house.app.forward.config.accounts[0].credential == (b"authorization", b"Bearer sk-four")


async def test_a_file_is_read_when_it_has_come_to_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor writes it in several steps: it is looked at until two looks see the same."""
    house = House(folder)
    file = folder / "claude-proxy.toml"
    file.write_text("# half")
    steps = iter(["# half of", UPSTREAM.format("second"), None])

    def written_meanwhile(paths: Any) -> Any:
        found = state_of(paths)
        if (step := next(steps, None)) is not None:
            file.write_text(step)
        return found

    monkeypatch.setattr(reload, "state_of", written_meanwhile)
    assert await house.look() == 1
    assert house.base_url == "https://second.example"


async def test_each_reload_builds_on_the_one_before(folder: Path) -> None:
    house = House(folder)
    pool = house.app.forward.config.upstreams[0].pool
    for priority in range(1, 6):
        (folder / "claude-proxy.toml").write_text(UPSTREAM.format("first").replace('"work"', f'"work"\npriority = {priority}'))
        await house.look()
        assert house.app.forward.config.upstreams[0].served.priority == priority
        assert house.app.forward.config.upstreams[0].pool is pool


async def test_the_watch_ends_when_it_is_told_to_and_when_its_loop_is_closed(folder: Path) -> None:
    house = House(folder)
    house.reloader.start(asyncio.get_running_loop())
    house.reloader.stop()
    thread = house.reloader._thread
    assert thread is not None
    await asyncio.to_thread(thread.join, 20)
    assert not thread.is_alive()
    closed = asyncio.new_event_loop()
    closed.close()
    (folder / "claude-proxy.toml").write_text(UPSTREAM.format("second"))
    await asyncio.to_thread(house.reloader.look, closed)
    assert house.base_url == "https://first.example"


async def test_being_asked_wakes_it_at_once(folder: Path) -> None:
    house = House(folder)
    changed = asyncio.Event()
    house.reloader._changed = lambda _: changed.set()
    house.reloader._every = 3600
    house.reloader.start(asyncio.get_running_loop())
    try:
        house.reloader.reload()
        async with asyncio.timeout(20):
            await changed.wait()
    finally:
        house.reloader.stop()


def test_without_a_file_there_is_nothing_to_read_again() -> None:
    assert create_app(Settings(ledger=False)).state.reloader is None


def written(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture
def own(no_settings_of_the_developers_own: Path) -> Iterator[Path]:
    """The place of the user's own settings file."""
    file = no_settings_of_the_developers_own / "claude-proxy" / "claude-proxy.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    yield file
    file.unlink(missing_ok=True)


async def test_a_file_that_was_not_there_at_the_start_is_found(
    own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEDGER", "off")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    app = create_app()
    written(own, 'base_url = "https://late.example"\n')
    await asyncio.to_thread(app.state.reloader.look, asyncio.get_running_loop())
    assert app.forward.config.upstreams[0].base_url == "https://late.example"


READ = re.compile(r"\bsettings\.([a-z_]+)")
AT_THE_START = {"max_kept", "timezone"}


def test_what_the_path_reads_of_the_settings_a_reload_brings_into_force() -> None:
    """Whoever adds a setting to the path decides here when it applies."""
    sources = [path.read_text("utf-8") for path in (ROOT / "src/claude_proxy/proxy").glob("*.py")]
    read = {name for text in sources for name in READ.findall(text)} & Settings.model_fields.keys()
    assert read - AT_THE_START <= RELOADED <= Settings.model_fields.keys()
    assert len(read) > 10
