"""ServerOptions: what the settings come to for `serve`, and notes about names that do nothing there."""

from __future__ import annotations

import pytest

from claude_proxy.errors import SettingsError
from claude_proxy.server import ServerOptions, notes_on
from claude_proxy.server.limits import KEEP_ALIVE
from claude_proxy.settings import Settings, load


def read(cpus: float = 4, /, **environ: str) -> ServerOptions:
    return ServerOptions.from_settings(load(environ).settings, cpus=lambda: cpus)


def test_the_defaults_of_the_settings_are_those_of_the_options() -> None:
    assert read() == ServerOptions()
    assert Settings().keep_alive == KEEP_ALIVE
    assert (read().hosts, read().port, read().workers) == (("127.0.0.1",), 3000, 1)
    assert read().graceful_timeout < 10  # Docker kills after ten seconds


@pytest.mark.parametrize(
    ("environ", "option", "value"),
    [
        ({"HOST": "0.0.0.0"}, "hosts", ("0.0.0.0",)),
        ({"HOST": "127.0.0.1, ::1"}, "hosts", ("127.0.0.1", "::1")),
        ({"HOST": "[::1]"}, "hosts", ("::1",)),
        ({"PORT": "80"}, "port", 80),
        ({"BIND": "0.0.0.0:80"}, "hosts", ("0.0.0.0",)),
        ({"BIND": "0.0.0.0:80"}, "port", 80),
        ({"BIND": "[::1]:80"}, "hosts", ("::1",)),
        ({"BIND": ":80"}, "hosts", ("0.0.0.0",)),
        ({"BIND": "unix:/run/p.sock"}, "uds", "/run/p.sock"),
        ({"BIND": "unix:///run/p.sock"}, "uds", "/run/p.sock"),
        ({"LOG_LEVEL": "DEBUG"}, "log_level", "debug"),
        ({"LOG_FORMAT": "JSON"}, "log_format", "json"),
        ({"KEEP_ALIVE": "5"}, "keep_alive", 5.0),
        ({"GRACEFUL_TIMEOUT": "120"}, "graceful_timeout", 120.0),
        ({"GRACEFUL_TIMEOUT": "0"}, "graceful_timeout", 0.0),
        ({"ROOT_PATH": "/gw/"}, "root_path", "/gw"),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.1"}, "trusted", "10.0.0.1"),
        ({"PRE_START_PATH": "/x.sh"}, "prestart", "/x.sh"),
        ({"APP_MODULE": "a.b:c"}, "app", "a.b:c"),
        ({"MODULE_NAME": "a.b"}, "app", "a.b:app"),
        ({"VARIABLE_NAME": "api"}, "app", "proxy:api"),
        ({"MODULE_NAME": "a.b", "VARIABLE_NAME": "api"}, "app", "a.b:api"),
        ({"WEB_CONCURRENCY": "3"}, "workers", 3),
        ({"WEB_CONCURRENCY": "3", "WORKERS_PER_CORE": "2"}, "workers", 3),
        ({"WEB_CONCURRENCY": "3", "MAX_WORKERS": "2"}, "workers", 3),
        ({"WORKERS_PER_CORE": "1"}, "workers", 4),
        ({"WORKERS_PER_CORE": "0.5"}, "workers", 2),
        ({"WORKERS_PER_CORE": "0.01"}, "workers", 1),
        ({"WORKERS_PER_CORE": "2", "MAX_WORKERS": "5"}, "workers", 5),
        ({"WORKERS_PER_CORE": "2", "MAX_WORKERS": "0"}, "workers", 8),
        ({"MAX_WORKERS": "5"}, "workers", 1),
        ({"PORT": ""}, "port", 3000),
        ({"PORT": "'80'"}, "port", 80),
        ({"WEB_CONCURRENCY": '"2"\r'}, "workers", 2),
        ({"BIND": "\ufeff:80 "}, "port", 80),
    ],
)
def test_a_name_of_the_documents_is_read(environ: dict[str, str], option: str, value: object) -> None:
    assert getattr(read(**environ), option) == value


@pytest.mark.parametrize(
    "environ",
    [
        {"PORT": "http"},
        {"PORT": "65536"},
        {"PORT": "-1"},
        {"PORT": "٣"},
        {"HOST": "a,,b"},
        {"HOST": "http://a"},
        {"BIND": "localhost"},
        {"BIND": "::1:80"},
        {"BIND": "unix:"},
        {"BIND": "127.0.0.1:http"},
        {"LOG_LEVEL": "loud"},
        {"LOG_FORMAT": "xml"},
        {"KEEP_ALIVE": "-1"},
        {"KEEP_ALIVE": "nan"},
        {"GRACEFUL_TIMEOUT": "soon"},
        {"ROOT_PATH": "gw"},
        {"WEB_CONCURRENCY": "0"},
        {"WEB_CONCURRENCY": "many"},
        {"WORKERS_PER_CORE": "0"},
        {"WORKERS_PER_CORE": "1", "MAX_WORKERS": "-1"},
        {"APP_MODULE": "a.b"},
        {"PRE_START_PATH": "prestart.sh"},
    ],
)
def test_a_value_that_cannot_be_used_names_itself(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as error:
        read(**environ)
    *_, (name, value) = environ.items()
    assert str(error.value).startswith(f"{name}={value} (env {name}): expected ")


def test_an_address_on_the_command_line_goes_before_a_unix_socket_in_the_environment() -> None:
    options = ServerOptions.from_settings(load({"BIND": "unix:/run/p.sock"}, port=8080).settings)
    assert (options.uds, options.port) == (None, 8080)


@pytest.mark.parametrize("name", ["TIMEOUT", "ACCESS_LOG", "ERROR_LOG", "GUNICORN_CMD_ARGS", "GUNICORN_CONF", "WORKER_CLASS"])
def test_a_name_that_means_nothing_here_earns_a_note(name: str) -> None:
    (note,) = notes_on({name: "value"})
    assert note.startswith(f"{name}=value has no effect under serve: ")


def test_a_note_shows_no_control_character() -> None:
    (note,) = notes_on({"TIMEOUT": "1\x1b[2J"})
    assert note.startswith("TIMEOUT=1\\x1b[2J has no effect")


def test_what_is_true_here_anyway_earns_no_note() -> None:
    assert notes_on({"ACCESS_LOG": "-", "ERROR_LOG": '"-"', "TIMEOUT": "", "MAX_WORKERS": "0"}) == ()


def test_the_clients_base_url_earns_a_note_that_names_the_proxys() -> None:
    """The documents' compose file gives it to the proxy. It may hold a password, so it is not shown."""
    (note,) = notes_on({"ANTHROPIC_BASE_URL": "http://u:secret@127.0.0.1:3000/api/anthropic"})
    assert note.startswith("ANTHROPIC_BASE_URL is for clients")
    assert " BASE_URL " in note
    assert "secret" not in note


@pytest.mark.parametrize("environ", [{"MAX_WORKERS": "2"}, {"WEB_CONCURRENCY": "1", "MAX_WORKERS": "2"}])
def test_max_workers_alone_earns_a_note(environ: dict[str, str]) -> None:
    (note,) = notes_on(environ)
    assert note.startswith("MAX_WORKERS only bounds")


def test_host_and_port_beside_bind_earn_a_note() -> None:
    assert notes_on({"BIND": "127.0.0.1:80", "PORT": "81"}) == ("BIND is set, so HOST and PORT have no effect.",)
