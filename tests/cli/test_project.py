"""What the working directory says."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.cli.project import FACTORY, app_target, default_base_url, read_settings
from claude_proxy.errors import SettingsError

USES_US = "from claude_proxy.app import create_app\n"


def write(folder: Path, text: str) -> None:
    (folder / "proxy.py").write_text(text, encoding="utf-8")


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
        ('BASE_URL = "https://not-ours.example"\n', None),
    ],
)
def test_the_constant_is_read_from_proxy_py(home: Path, text: str, expected: str | None) -> None:
    write(home, text)
    assert default_base_url() == expected


def test_proxy_py_is_not_run(home: Path) -> None:
    write(home, USES_US + 'BASE_URL = "https://a.example"\nraise SystemExit("it was run")\n')
    assert default_base_url() == "https://a.example"


def test_without_proxy_py_the_built_in_app_runs(home: Path) -> None:
    assert default_base_url() is None
    assert app_target() == (FACTORY, True)
    (home / "proxy.py").write_bytes(b"\xff claude_proxy")  # not text, so not ours
    assert app_target() == (FACTORY, True)


def test_a_proxy_py_of_ours_is_the_app(home: Path) -> None:
    write(home, USES_US)
    assert app_target() == ("proxy:app", False)


def test_the_constant_gives_way_to_the_environment(home: Path) -> None:
    write(home, USES_US + 'BASE_URL = "https://a.example"\n')
    assert read_settings(environ={}).settings.base_url == "https://a.example"
    assert read_settings(environ={}).sources["base_url"] == "proxy.py"
    assert read_settings(environ={"BASE_URL": "https://b.example"}).settings.base_url == "https://b.example"


@pytest.mark.parametrize(
    ("bind", "host", "port", "source"),
    [
        ("0.0.0.0:8080", "0.0.0.0", 8080, "env BIND"),
        ("[::1]:81", "::1", 81, "env BIND"),
        ("unix:/run/proxy.sock", "127.0.0.1", 3000, "default"),
        ("", "127.0.0.1", 3000, "default"),
    ],
)
def test_bind_goes_before_host_and_port(bind: str, host: str, port: int, source: str) -> None:
    loaded = read_settings(environ={"BIND": bind})
    assert (loaded.settings.host, loaded.settings.port, loaded.sources["port"]) == (host, port, source)


def test_the_command_line_goes_before_bind() -> None:
    found = read_settings(environ={"BIND": "127.0.0.2:8080"}, port=9, host=None).settings
    assert (found.host, found.port) == ("127.0.0.2", 9)


def test_a_bad_constant_is_a_sentence(home: Path) -> None:
    write(home, USES_US + 'BASE_URL = "ftp://a.example"\n')
    with pytest.raises(SettingsError, match=r"BASE_URL=ftp://a.example \(proxy.py\)"):
        read_settings(environ={})
