"""The settings as `serve` reads them, and what a named proxy.py says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from claude_proxy.cli.project import app_from, default_base_url, read_settings
from claude_proxy.errors import SettingsError

USES_US = "from claude_proxy.app import create_app\n"


def write(folder: Path, text: str, name: str = "proxy.py") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (USES_US + 'BASE_URL = "https://a.example/x"\n', "https://a.example/x"),
        (USES_US + 'BASE_URL: str = "https://b.example"\n', "https://b.example"),
        (USES_US + 'OTHER = BASE_URL = "https://c.example"\n', "https://c.example"),
        (USES_US + "BASE_URL: str\n", None),
        (USES_US + "BASE_URL = make()\n", None),
        (USES_US + "BASE_URL = 3\n", None),
        (USES_US + 'def f():\n    BASE_URL = "https://inner.example"\n', None),
        (USES_US + "BASE_URL = (\n", None),
        ('BASE_URL = "https://without-us.example"\n', "https://without-us.example"),
        ("\0", None),
    ],
)
def test_the_constant_is_read_from_proxy_py(home: Path, text: str, expected: str | None) -> None:
    assert default_base_url(write(home, text)) == expected


def test_proxy_py_is_not_run_for_it(home: Path) -> None:
    file = write(home, USES_US + 'BASE_URL = "https://a.example"\nraise SystemExit("it was run")\n')
    assert default_base_url(file) == "https://a.example"


def test_what_is_not_python_text_says_nothing(home: Path) -> None:
    assert default_base_url(home / "gone.py") is None
    (home / "proxy.py").write_bytes(b"\xff claude_proxy")
    assert default_base_url(home / "proxy.py") is None


def test_the_working_directory_says_nothing(home: Path) -> None:
    write(home, USES_US + 'BASE_URL = "https://a.example"\n')
    (home / "claude-proxy.toml").write_text("port = 1\n")
    assert read_settings(environ={}).settings == read_settings(environ={}, app=home / "elsewhere/proxy.py").settings
    assert read_settings(environ={}).sources["base_url"] == "default"


def test_a_named_proxy_py_gives_its_constant_and_the_file_beside_it(home: Path) -> None:
    folder = home / "named"
    folder.mkdir()
    file = write(folder, USES_US + 'BASE_URL = "https://a.example"\n')
    (folder / "claude-proxy.toml").write_text("port = 4\n")
    loaded = read_settings(None, file, environ={})
    assert (loaded.settings.base_url, loaded.sources["base_url"]) == ("https://a.example", "proxy.py")
    assert (loaded.settings.port, loaded.sources["port"]) == (4, str(folder / "claude-proxy.toml"))
    assert read_settings(None, file, environ={"BASE_URL": "https://b.example"}).settings.base_url == "https://b.example"


def test_a_bad_constant_is_a_sentence(home: Path) -> None:
    file = write(home, USES_US + 'BASE_URL = "ftp://a.example"\n')
    with pytest.raises(SettingsError, match=r"BASE_URL=ftp://a.example \(proxy.py\)"):
        read_settings(None, file, environ={})


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """sys.path and sys.modules as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["proxy.py", "mine.py", "json.py"])
def test_the_app_of_a_named_file_may_import_what_lies_beside_it(home: Path, name: str) -> None:
    before = sys.modules["json"]
    write(home, "value = 42\n", "neighbour_of_mine.py")
    assert app_from(write(home, "import neighbour_of_mine\napp = neighbour_of_mine.value\n", name)) == 42
    assert sys.modules["json"] is before


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("proxy.py", "application = 1\n", "expected a file that defines `app`, as proxy.py does"),
        ("proxy.txt", "app = 1\n", "expected a Python file, such as proxy.py"),
    ],
)
def test_a_file_without_an_app_is_a_sentence(home: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        app_from(write(home, text, name))
    assert caught.value.message == f"--app {home / name}: {said}."
