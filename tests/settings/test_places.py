"""Which file of settings is read: exactly one, from named places, and never the working directory's."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.errors import SettingsError
from claude_proxy.settings import CONFIG_FILE, load, unread_sentence, user_file


class Machine:
    """A file in each place, each with another port."""

    def __init__(self, root: Path) -> None:
        self.option = self._made(root / "option.toml", 1)
        self.variable = self._made(root / "variable.toml", 2)
        self.own = self._made(root / "config/claude-proxy" / CONFIG_FILE, 3)
        self.beside = self._made(root / "app" / CONFIG_FILE, 4)
        self.here = self._made(root / "checkout" / CONFIG_FILE, 5)
        self.proxy_py = root / "app/proxy.py"
        self.environ = {"XDG_CONFIG_HOME": str(root / "config"), "CLAUDE_PROXY_CONFIG": str(self.variable)}

    def _made(self, path: Path, port: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"port = {port}\n")
        return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.chdir(made.here.parent)
    return made


def test_exactly_one_file_is_read_in_this_order(machine: Machine) -> None:
    environ = dict(machine.environ)
    assert load(environ, config=machine.option, beside=machine.proxy_py).settings.port == 1
    assert load(environ, beside=machine.proxy_py).settings.port == 2
    del environ["CLAUDE_PROXY_CONFIG"]
    assert load(environ, beside=machine.proxy_py).settings.port == 3
    machine.own.unlink()
    assert load(environ, beside=machine.proxy_py).settings.port == 4
    assert load(environ).settings.port == 3000, "the working directory's"
    machine.beside.unlink()
    assert load(environ, beside=machine.proxy_py).settings.port == 3000


def test_only_one_file_gives_values(machine: Machine) -> None:
    machine.beside.write_text("max_connections = 4\n")
    loaded = load({"XDG_CONFIG_HOME": machine.environ["XDG_CONFIG_HOME"]}, beside=machine.proxy_py)
    assert (loaded.settings.port, loaded.settings.max_connections) == (3, 1000)


def test_every_place_is_told_with_what_became_of_it(machine: Machine) -> None:
    machine.own.unlink()
    loaded = load(machine.environ, beside=machine.proxy_py)
    assert [(place.path, place.why, place.state) for place in loaded.places] == [
        (machine.variable, "CLAUDE_PROXY_CONFIG", "read"),
        (machine.own, "user's folder", "not there"),
        (machine.beside, "beside proxy.py", "not read"),
    ]
    assert loaded.file == machine.variable
    assert loaded.sources["port"] == str(machine.variable)


def test_a_file_in_the_working_directory_that_is_not_read_is_told(machine: Machine) -> None:
    loaded = load(machine.environ)
    assert loaded.unread == machine.here
    sentence = unread_sentence(machine.here)
    assert sentence.startswith(f"{machine.here} is not read")
    assert "\n" not in sentence


@pytest.mark.parametrize("way", ["option", "variable", "beside", "own", "link"])
def test_one_that_is_read_after_all_is_not_told(machine: Machine, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"XDG_CONFIG_HOME": "/nonexistent"}
    if way == "option":
        loaded = load(environ, config=Path(CONFIG_FILE))
    elif way == "variable":
        loaded = load({**environ, "CLAUDE_PROXY_CONFIG": str(machine.here)})
    elif way == "beside":
        loaded = load(environ, beside=Path("proxy.py"))
    elif way == "own":
        monkeypatch.chdir(machine.own.parent)
        loaded = load({"XDG_CONFIG_HOME": machine.environ["XDG_CONFIG_HOME"]})
    else:
        machine.own.unlink()
        machine.own.symlink_to(machine.here)
        loaded = load({"XDG_CONFIG_HOME": machine.environ["XDG_CONFIG_HOME"]})
    assert loaded.file is not None
    assert loaded.unread is None


def test_without_a_working_directory_nothing_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = machine.here.parent / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load(machine.environ).unread is None


@pytest.mark.parametrize("value", [CONFIG_FILE, f"./{CONFIG_FILE}", "../checkout/claude-proxy.toml", f'"{CONFIG_FILE}"'])
def test_the_variable_cannot_name_a_file_that_depends_on_the_working_directory(machine: Machine, value: str) -> None:
    with pytest.raises(SettingsError, match=r"CLAUDE_PROXY_CONFIG=.*: expected an absolute path, such as /"):
        load({"CLAUDE_PROXY_CONFIG": value})
    assert load({"CLAUDE_PROXY_CONFIG": value}, config=machine.option).settings.port == 1


def test_the_variable_is_cleaned_as_any_other(machine: Machine) -> None:
    assert load({"CLAUDE_PROXY_CONFIG": f' "{machine.variable}"\r\n'}).settings.port == 2
    assert load({"XDG_CONFIG_HOME": machine.environ["XDG_CONFIG_HOME"], "CLAUDE_PROXY_CONFIG": " "}).settings.port == 3


def test_a_relative_configuration_folder_is_ignored(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG Base Directory Specification: "the path must be absolute"; a relative one would lead into the checkout."""
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    monkeypatch.setenv("HOME", str(machine.own.parents[1]))
    (machine.here.parent / "claude-proxy").mkdir()
    (machine.here.parent / "claude-proxy" / CONFIG_FILE).write_text("port = 6\n")
    assert load({"XDG_CONFIG_HOME": "."}).settings.port == 3000


def test_the_own_folder_is_the_platforms(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert user_file({}) == Path(platformdirs.user_config_dir("claude-proxy", appauthor=False)) / CONFIG_FILE


def test_a_place_that_is_named_twice_is_one(machine: Machine) -> None:
    loaded = load({"CLAUDE_PROXY_CONFIG": str(machine.beside)}, beside=machine.proxy_py)
    assert [place.path for place in loaded.places].count(machine.beside) == 1
    assert loaded.settings.port == 4
