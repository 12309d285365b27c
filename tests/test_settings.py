"""Settings: every field from every source, precedence, and sentences for what cannot be used."""

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr, ValidationError

from claude_proxy.errors import SettingsError
from claude_proxy.settings import ENVIRONMENT_ONLY, MIB, SECRETS, GunicornSettings, Loaded, Settings, default_data_dir, load

PEM = "ca.pem"  # in the working directory of each test
AUTHORITY = trustme.CA().cert_pem.bytes()
# For each field: text as the environment has it, a TOML value, and what both come to.
VALUES: dict[str, tuple[str, str, Any]] = {
    "base_url": ("https://api.anthropic.com/", '"https://api.anthropic.com"', "https://api.anthropic.com"),
    "upstream_api_key": ("sk-up", '"sk-up"', SecretStr("sk-up")),
    "upstream_auth": ("X-API-Key", '"x-api-key"', "x-api-key"),
    "upstream_redirects": ("pass", '"pass"', "pass"),
    "proxy_api_key": ("pk", '"pk"', SecretStr("pk")),
    "admin_token": ("at", '"at"', SecretStr("at")),
    "public_url": ("https://proxy.example/claude/", '"https://proxy.example/claude"', "https://proxy.example/claude"),
    "host": ("0.0.0.0", '"0.0.0.0"', "0.0.0.0"),
    "port": ("8080", "8080", 8080),
    "bind": ("unix:/run/p.sock", '"unix:/run/p.sock"', "unix:/run/p.sock"),
    "forwarded_allow_ips": ("10.0.0.1,10.0.0.2", '["10.0.0.1", "10.0.0.2"]', "10.0.0.1,10.0.0.2"),
    "web_concurrency": ("3", "3", 3),
    "workers_per_core": ("0.5", "0.5", 0.5),
    "max_workers": ("4", "4", 4),
    "keep_alive": ("9", "9", 9.0),
    "pre_start_path": ("/x/pre.sh", '"/x/pre.sh"', Path("/x/pre.sh")),
    "app_module": ("mine:app", '"mine:app"', "mine:app"),
    "module_name": ("mine", '"mine"', "mine"),
    "variable_name": ("other", '"other"', "other"),
    "root_path": ("/gw/", '"/gw"', "/gw"),
    "allowed_hosts": ("a.example, *.b.example,", '["a.example", "*.b.example"]', ("a.example", "*.b.example")),
    "allowed_origins": ("https://a.example", '"https://a.example"', ("https://a.example",)),
    "log_level": ("DEBUG", '"debug"', "debug"),
    "log_format": ("json", '"json"', "json"),
    "data_dir": ("/tmp/data", '"/tmp/data"', Path("/tmp/data")),
    "ledger": ("off", "false", False),
    "ledger_keep": ("30", "30", 30),
    "ledger_max_bytes": ("1GiB", '"1GiB"', 1024 * MIB),
    "database_url": ("postgresql://u:p@db/books", '"postgresql://u:p@db/books"', SecretStr("postgresql://u:p@db/books")),
    "quota_poll": ("off", "false", False),
    "timezone": ("Asia/Kathmandu", '"Asia/Kathmandu"', "Asia/Kathmandu"),
    "connect_timeout": ("2.5", "2.5", 2.5),
    "write_timeout": ("3", "3", 3.0),
    "response_head_timeout": ("4", "4", 4.0),
    "stream_idle_timeout": ("5", "5", 5.0),
    "client_write_timeout": ("6", "6", 6.0),
    "client_read_timeout": ("7", "7", 7.0),
    "first_event_wait": ("0", "0", 0.0),
    "ping_interval": ("0", "0", 0.0),
    "stream_cut": ("error-event", '"error-event"', "error-event"),
    "stream_unfinished": ("cut", '"cut"', "cut"),
    "queue": ("off", "false", False),
    "queue_wait": ("30", "30", 30.0),
    "keepalive_expiry": ("8", "8", 8.0),
    "max_connections": ("9", "9", 9),
    "upstream_ca_file": (PEM, f'"{PEM}"', Path(PEM)),  # in TOML from the folder of the file
    "max_body": ("1MiB", '"1MiB"', MIB),
    "max_body_batches": ("2 MB", "2000000", 2_000_000),
    "max_body_files": ("1.5k", '"1.5k"', 1500),
    "max_kept": ("1GiB", '"1GiB"', 1024 * MIB),
    "retry_hints": ("False", "false", False),
    "accel_buffering": ("0", "false", False),
    "count_tokens_memory": ("60", "60", 60.0),
    "rewrite_results_url": ("no", "false", False),
    "project_names": ("OFF", "false", False),
    "graceful_timeout": ("1", "1", 1.0),
    "capture": ("Errors", '"errors"', "errors"),
    "capture_max_bytes": ("2GiB", '"2GiB"', 2048 * MIB),
    "capture_keep": ("3", "3", 3),
    "ntfy_topic": ("my-topic_1", '"my-topic_1"', "my-topic_1"),
    "ntfy_server": ("http://localhost:8090", '"http://localhost:8090"', "http://localhost:8090"),
    "ntfy_token": ("tk_1", '"tk_1"', SecretStr("tk_1")),
    "ntfy_user": ("phil", '"phil"', "phil"),
    "ntfy_password": ("p w", '"p w"', SecretStr("p w")),
    "ntfy_via": ("cli", '"cli"', "cli"),
    "ntfy_updates": ("off", "false", False),
    "ntfy_min_priority": ("4", "4", 4),
    "ntfy_language": ("KO", '"ko"', "ko"),
    "quiet_hours": ("23-7:30", '"23:00-07:30"', "23:00-07:30"),
    "daily_summary": ("9:00", '"09:00"', "09:00"),
}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / PEM).write_bytes(AUTHORITY)


def sentence(environ: dict[str, str] | None = None, **given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ or {}, **given)
    return caught.value.message


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "other.toml"
    path.write_text(text, encoding="utf-8")
    return path


LEVELS = [
    *(
        ("WARN", "warning"),
        ("Warning", "warning"),
        ("fatal", "error"),
        ("critical", "error"),
        ("CRIT", "error"),
        ("err", "error"),
    ),
    *(("TRACE", "debug"), ("verbose", "debug"), ("notice", "info"), (" 'INFO' ", "info")),
]


@pytest.mark.parametrize(("level", "counts_as"), LEVELS)
def test_levels_that_other_programs_know_count_as_their_neighbours(level: str, counts_as: str) -> None:
    assert load({"LOG_LEVEL": level}).settings.log_level == counts_as
    assert load({}, log_level=level).settings.log_level == counts_as


def test_every_field_has_a_value_here_and_a_description() -> None:
    assert set(VALUES) == set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("name", VALUES)
def test_a_field_is_read_from_the_environment(name: str) -> None:
    text, _, expected = VALUES[name]
    loaded = load({name.upper(): text})
    assert getattr(loaded.settings, name) == expected
    assert loaded.sources[name] == f"env {name.upper()}"


@pytest.mark.parametrize("name", sorted(VALUES.keys() - ENVIRONMENT_ONLY))
def test_a_field_is_read_from_toml(name: str, tmp_path: Path) -> None:
    _, text, expected = VALUES[name]
    if name == "upstream_ca_file":
        expected = tmp_path / expected
    path = toml(tmp_path, f"{name} = {text}\n")
    loaded = load({}, config=path)
    assert getattr(loaded.settings, name) == expected
    assert loaded.sources[name] == str(path)


@pytest.mark.parametrize("name", VALUES)
def test_a_field_is_taken_from_the_command_line(name: str) -> None:
    text, _, expected = VALUES[name]
    loaded = load({name.upper(): "ignored, even where it would not do"}, **{name: text})
    assert getattr(loaded.settings, name) == expected
    assert loaded.sources[name] == "command line"


@pytest.mark.parametrize("name", VALUES)
def test_an_empty_variable_counts_as_not_set(name: str) -> None:
    loaded = load({name.upper(): "", f"{name.upper()}_FILE": ""})
    assert getattr(loaded.settings, name) == getattr(Settings(), name)
    assert loaded.sources[name] == "default"


def test_without_anything_the_defaults_stand_and_are_safe() -> None:
    loaded = load({})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.settings.host == "127.0.0.1"
    assert loaded.settings.base_url == "https://api.z.ai/api/anthropic"
    assert loaded.settings.port == 3000


def test_every_default_passes_its_own_check() -> None:
    values = {name: getattr(Settings(), name) for name in Settings.model_fields}
    assert Settings(**values) == Settings()


def test_other_variables_of_the_environment_are_nobodys_business() -> None:
    assert load({"ANTHROPIC_BASE_URL": "nonsense", "PORTX": "1", "base_url": "nonsense"}).settings == Settings()


def test_the_command_line_wins_over_the_environment_over_toml_over_proxy_py(tmp_path: Path) -> None:
    path = toml(tmp_path, 'port = 2\nbase_url = "http://toml"\n')

    def read(environ: dict[str, str], config: Path | None = None, **given: Any) -> tuple[str, int, str]:
        loaded = load(environ, config=config, defaults={"base_url": "http://proxy.py"}, **given)
        return loaded.settings.base_url, loaded.settings.port, loaded.sources["base_url"]

    assert read({}) == ("http://proxy.py", 3000, "proxy.py")
    assert read({}, path) == ("http://toml", 2, str(path))
    assert read({"BASE_URL": "http://env"}, path) == ("http://env", 2, "env BASE_URL")
    assert read({"BASE_URL": "http://env"}, path, base_url="http://given") == ("http://given", 2, "command line")
    assert read({"BASE_URL": "http://env"}, path, base_url=None) == ("http://env", 2, "env BASE_URL")


def test_the_real_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "4321")
    assert load().settings.port == 4321


# -- the TOML file


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone.toml"
    said = f"{gone}: the file cannot be read (no such file or directory)."
    assert sentence({"CLAUDE_PROXY_CONFIG": str(gone)}) == sentence(config=gone) == said


def test_the_file_may_come_from_windows(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_bytes(b"\xef\xbb\xbfport = 7\r\nproxy_api_key = \" 'Bearer k' \"\r\n")
    found = load({}, config=path).settings
    assert (found.port, found.proxy_api_key) == (7, SecretStr("k"))


def test_a_relative_path_in_the_file_begins_at_its_folder(tmp_path: Path) -> None:
    path = toml(tmp_path, 'data_dir = "data"\npre_start_path = "../pre.sh"\n')
    found = load({}, config=path).settings
    assert (found.data_dir, found.pre_start_path) == (tmp_path / "data", tmp_path / "../pre.sh")


def test_a_file_that_is_not_toml_or_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"port = ")
    assert sentence(config=path).startswith(f"{path}: not valid TOML: ")
    path.write_bytes(b'host = "\xff"')
    assert sentence(config=path) == f"{path}: the file cannot be read (not UTF-8 text)."


@pytest.mark.parametrize(
    ("name", "meant"),
    [("prot", "port"), ("BASE_URL", "base_url"), ("proxy_apikey", "proxy_api_key"), ("ping_intervall", "ping_interval")],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_likely_one(name: str, meant: str, tmp_path: Path) -> None:
    path = toml(tmp_path, f'{name} = "x"\n')
    assert sentence(config=path) == (
        f"{path}: unknown setting {name!r}; did you mean {meant!r}? `claude-proxy config show --docs` lists them."
    )


def test_an_unknown_name_like_no_other_is_refused_without_a_guess(tmp_path: Path) -> None:
    path = toml(tmp_path, "[zzzz]\nqqqq = 1\n")
    assert sentence(config=path) == f"{path}: unknown setting 'zzzz'. `claude-proxy config show --docs` lists them."


@pytest.mark.parametrize("name", ["app_module", "module_name", "variable_name", "timeout", "ACCESS_LOG", "worker_class"])
@pytest.mark.parametrize("definition", [Settings, GunicornSettings])
def test_what_makes_no_sense_in_the_file_is_sent_to_the_environment(
    name: str, definition: type[Settings], tmp_path: Path
) -> None:
    path = toml(tmp_path, f'{name} = "5"\n')
    assert sentence(config=path, definition=definition) == (
        f"{path}: {name!r} is read from the environment only: set {name.upper()} there (docs/serve.md)."
    )


# -- the server's


def test_what_only_gunicorn_knows_is_read_for_it_alone() -> None:
    environ = {"TIMEOUT": "5", "ACCESS_LOG": "-", "ERROR_LOG": "/e", "WORKER_CLASS": "uvicorn.workers.UvicornWorker"}
    found = load(environ, definition=GunicornSettings).settings
    assert isinstance(found, GunicornSettings)
    assert [str(getattr(found, name.lower())) for name in environ] == list(environ.values())
    assert load({"TIMEOUT": "5 minutes of something else"}).settings == Settings()


@pytest.mark.parametrize(
    ("environ", "file", "given", "expected"),
    [
        ({"BIND": "0.0.0.0:80", "HOST": "::1", "PORT": "1"}, "", {}, ("0.0.0.0", 80, None)),
        ({"BIND": "[::1]:81"}, "port = 2", {}, ("::1", 81, None)),
        ({"BIND": ":82"}, "", {}, ("0.0.0.0", 82, None)),
        ({"PORT": "3"}, 'bind = "0.0.0.0:80"', {}, ("0.0.0.0", 3, None)),
        ({"BIND": "127.0.0.2:8080"}, "", {"port": 9}, ("127.0.0.2", 9, None)),
        ({"BIND": "unix:/run/s"}, "port = 2", {}, ("127.0.0.1", 2, "/run/s")),
        ({"BIND": "unix:///run/s"}, "", {}, ("127.0.0.1", 3000, "/run/s")),
        ({"BIND": "unix:/run/s"}, "", {"host": "::1"}, ("::1", 3000, None)),
        ({"PORT": "3"}, 'bind = "unix:/run/s"', {}, ("127.0.0.1", 3, None)),
        ({"BIND": "0.0.0.0:80"}, 'bind = "unix:/run/s"', {}, ("0.0.0.0", 80, None)),
        ({}, 'bind = "unix:/run/s"', {}, ("127.0.0.1", 3000, "/run/s")),
    ],
)
def test_bind_goes_before_host_and_port_of_its_own_place_only(
    environ: dict[str, str], file: str, given: dict[str, Any], expected: tuple[str, int, str | None], tmp_path: Path
) -> None:
    found = load(environ, config=toml(tmp_path, file), **given).settings
    assert (found.host, found.port, found.unix_socket) == expected


def test_what_bind_gives_has_its_source() -> None:
    assert load({"BIND": "[::1]:81"}).sources["port"] == "env BIND"


# -- secrets


def test_the_secrets_are_known() -> None:
    assert {"upstream_api_key", "proxy_api_key", "admin_token", "database_url", "ntfy_token", "ntfy_password"} == SECRETS


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_is_read_from_a_file_without_its_line_end(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("  s3cret\r\n")
    loaded = load({f"{name.upper()}_FILE": str(path)})
    assert getattr(loaded.settings, name).get_secret_value() == "s3cret"
    assert loaded.sources[name] == f"env {name.upper()}_FILE"
    direct = load({name.upper(): "direct", f"{name.upper()}_FILE": str(path)})
    assert getattr(direct.settings, name).get_secret_value() == "direct"


def test_only_secrets_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_text("9")
    assert load({"PORT_FILE": str(path)}).settings.port == 3000


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe", "비밀".encode()])
def test_a_secret_file_that_cannot_be_used_is_an_error_without_its_content(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    message = sentence({"PROXY_API_KEY_FILE": str(path)})
    assert message.startswith("PROXY_API_KEY")
    assert "lines" not in message
    assert "비밀" not in message


def test_a_secret_file_that_is_missing_is_an_error() -> None:
    message = sentence({"NTFY_TOKEN_FILE": "gone"})
    assert message == "NTFY_TOKEN_FILE=gone: the file cannot be read (no such file or directory)."


@pytest.mark.parametrize("name", sorted(SECRETS))
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("비밀hush", "expected one line of printable ASCII without spaces around it, such as sk-4f1c9b27"),
        ("", "expected one line of printable ASCII without spaces around it, such as sk-4f1c9b27"),
        ("hush\0hush", "there is an invisible character in it, U+0000 (CONTROL CHARACTER)"),
        ("hush\x1b[2Jhush", "there is an invisible character in it, U+001B (CONTROL CHARACTER)"),
        ("hu\u200bsh", "there is an invisible character in it, U+200B (ZERO WIDTH SPACE)"),
        ("hush\u00a0", "there is an invisible character in it, U+00A0 (NO-BREAK SPACE)"),
        ("${HUSH}", "this is a placeholder that was never replaced"),
        ("$HUSH", "this is a placeholder that was never replaced"),
        ("<hush>", "this is a placeholder that was never replaced"),
    ],
)
def test_a_bad_secret_is_never_shown(name: str, value: str, expected: str) -> None:
    message = sentence(**{name: value})
    if name == "database_url" and "ASCII" in expected:
        expected = "expected an address such as postgresql://user:password@host:5432/database"
    assert message.startswith(f"{name.upper()} (command line): {expected}")
    assert "hush" not in message.lower()


def test_a_secret_of_a_wrong_type_is_never_shown(tmp_path: Path) -> None:
    message = sentence(config=toml(tmp_path, 'proxy_api_key = ["hush"]\n'))
    assert message.startswith("PROXY_API_KEY (")
    assert "hush" not in message


def test_a_secret_does_not_show_in_repr_str_dump_or_errors() -> None:
    loaded = load({"PROXY_API_KEY": "hush-1", "UPSTREAM_API_KEY": "hush-2", "NTFY_TOKEN": "hush-3"})
    shown = f"{loaded!r} {loaded.settings!r} {loaded.settings} {loaded.settings.model_dump()} {loaded.settings.model_dump_json()}"
    assert "hush" not in shown
    message = sentence({"PROXY_API_KEY": "hush-1", "PORT": "no"})
    assert "hush" not in message


def test_the_cause_of_a_settings_error_is_not_chained_where_it_would_show_values() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"PROXY_API_KEY": "hush\0"})
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# -- bad values


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "70000", "expected a whole number from 0 to 65535, such as 3000"),
        ("port", "http", "expected a whole number from 0 to 65535, such as 3000"),
        ("port", "-1", "expected a whole number from 0 to 65535, such as 3000"),
        ("max_body", "lots", "expected a number of bytes, 1 or more, such as 67108864 or 64MiB"),
        ("max_body", "1 parsec", "expected a number of bytes, 1 or more, such as 67108864 or 64MiB"),
        ("max_body", "0", "expected a number of bytes, 1 or more, such as 67108864 or 64MiB"),
        ("max_body", "9" * 400, "expected a number of bytes, 1 or more, such as 67108864 or 64MiB"),
        ("max_connections", "0", "expected a whole number, 1 or more, such as 1000"),
        ("connect_timeout", "0", "expected a number of seconds above 0, 86400 at most, such as 2.5 or 60"),
        ("connect_timeout", "nan", "expected a number of seconds above 0, 86400 at most, such as 2.5 or 60"),
        ("connect_timeout", "inf", "expected a number of seconds above 0, 86400 at most, such as 2.5 or 60"),
        ("connect_timeout", "1m", "expected a number of seconds above 0, 86400 at most, such as 2.5 or 60"),
        ("ping_interval", "-1", "expected a number of seconds from 0 to 86400, such as 2.5 or 60"),
        ("retry_hints", "maybe", "expected true or false"),
        ("stream_cut", "cat", "expected cut or error-event"),
        ("log_format", "yaml", "expected auto, console or json"),
        ("log_level", "loud", "expected debug, info, warning or error"),
        ("root_path", "gw", "expected a plain path such as /claude"),
        ("upstream_ca_file", "/gone", "expected a PEM file that can be read"),
        ("upstream_ca_file", "/", "expected a PEM file that can be read"),
        ("base_url", "api.z.ai", "expected a URL such as https://api.z.ai/api/anthropic"),
        ("base_url", "http://h:x", "expected a URL such as https://api.z.ai/api/anthropic"),
        ("ntfy_server", "ntfy.sh", "expected a URL such as https://ntfy.sh"),
        ("ntfy_min_priority", "0", "expected a whole number from 1 to 5"),
        ("ntfy_min_priority", "urgent", "expected a whole number from 1 to 5"),
        ("ntfy_language", "de", "expected en or ko"),
        ("quiet_hours", "23:00", "expected a span of the day such as 23:00-07:00"),
        ("quiet_hours", "23:00-24:00", "expected a span of the day such as 23:00-07:00"),
        ("quiet_hours", "07:00-07:00", "expected a span of the day such as 23:00-07:00"),
        ("daily_summary", "25:00", "expected a time of day such as 09:00"),
        ("daily_summary", "noon", "expected a time of day such as 09:00"),
        ("public_url", "claude.example.com", "expected a URL such as https://proxy.example.com"),
        ("ntfy_topic", "a b", "expected 1 to 64 letters, digits, hyphens or underscores, such as claude-7f3a9c"),
    ],
)
def test_a_bad_value_is_one_sentence_with_name_value_source_and_expectation(name: str, value: str, expected: str) -> None:
    variable = name.upper()
    assert sentence({variable: value}) == f"{variable}={value} (env {variable}): {expected}."


WRONG = ["[1, 2]", "{ a = 1 }", "1979-05-27", "-1", '"\\n"']


@pytest.mark.parametrize("name", sorted(VALUES.keys() - ENVIRONMENT_ONLY))
def test_a_value_of_a_wrong_type_is_told_in_our_words_too(name: str, tmp_path: Path) -> None:
    refused = 0
    for wrong in WRONG:
        try:
            load({}, config=toml(tmp_path, f"{name} = {wrong}\n"))
        except SettingsError as error:
            refused += 1
            (line,) = error.message.splitlines() if wrong != WRONG[-1] else [error.message]
            assert re.search(r" \(\S+\): expected [^\n]*\.$", line), line
            assert not re.search(r"\b(input|string|valid|pattern|parse|type|tuple|integer)\b", line.rpartition("): ")[2]), line
    assert refused >= 2


def test_every_bad_value_has_its_own_line(tmp_path: Path) -> None:
    path = toml(tmp_path, "ping_interval = -1\n")
    lines = sentence({"PORT": "x"}, config=path, host="").splitlines()
    assert [line.split(" (")[0] for line in lines] == ["PING_INTERVAL=-1", "HOST=", "PORT=x"]
    assert f"({path})" in lines[0]
    assert "(command line)" in lines[1]


@pytest.mark.parametrize("topic", ["a b", "a/b", "x" * 65, "토픽", "a\nb"])
def test_a_topic_that_ntfy_would_not_take_is_refused(topic: str) -> None:
    assert sentence({"NTFY_TOPIC": topic}).startswith("NTFY_TOPIC=")


# -- sizes, lists, URLs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("64k", 64_000),
        ("64K", 64_000),
        ("64KB", 64_000),
        ("64KiB", 65_536),
        ("64 kib", 65_536),
        ("1.5Mi", 3 * 2**19),
        ("2m", 2_000_000),
        (" 3 MiB ", 3 * 2**20),
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("1g", 10**9),
    ],
)
def test_sizes_have_units(text: str, expected: int) -> None:
    assert load({"MAX_BODY": text}).settings.max_body == expected


@pytest.mark.parametrize("text", ["1TB", "-1", "1e6", "MiB", "1 2", "0x10", "１", "1MiBs", "."])
def test_other_sizes_are_refused(text: str) -> None:
    if text == "１":  # a full-width digit is a digit to int(), and harmless
        assert load({"MAX_BODY": text}).settings.max_body == 1
    else:
        assert "expected a number of bytes" in sentence({"MAX_BODY": text})


@pytest.mark.parametrize(("text", "expected"), [("a", ("a",)), (" a ,b,, c ", ("a", "b", "c")), (",", ()), ("*", ("*",))])
def test_lists_are_separated_by_commas(text: str, expected: tuple[str, ...]) -> None:
    assert load({"ALLOWED_HOSTS": text}).settings.allowed_hosts == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.z.ai/api/anthropic/", "https://api.z.ai/api/anthropic"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000/x//", "http://[::1]:8000/x"),
        ("HTTPS://API.Z.AI", "HTTPS://API.Z.AI"),
        ("http://host_with.underscore/%7Ea", "http://host_with.underscore/%7Ea"),
    ],
)
def test_urls_lose_only_their_trailing_slash(url: str, expected: str) -> None:
    assert load({"BASE_URL": url}).settings.base_url == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.z.ai",
        "ftp://api.z.ai",
        "//api.z.ai",
        "https://",
        "https:///path",
        "https://:80",
        "http://[::1",
        "http://h:99999",
        "http://h:x",
        "https://h/?",
        "https://h/?a=b",
        "https://h/#",
        "https://h/#x",
        "https://user@h",
        "https://u:p@h",
        "https://h/a b",
        "https://h\n/x",
        "https://h\t/x",
        "https://hö.example",
        "https://h/\x01",
        "https://h/\x7f",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    message = sentence(base_url=url)
    assert message.startswith("BASE_URL=")
    assert message.endswith(".")


@pytest.mark.parametrize(
    "url", ["https://user:hush@h/x", "https://hush@h", "https://u:hu/sh@h", "https://u:hush/x@h", "http://u:hush@[::1"]
)
def test_the_password_of_a_refused_url_is_not_shown(url: str) -> None:
    for name in ("BASE_URL", "NTFY_SERVER"):
        message = sentence({name: url})
        assert message.startswith(f"{name}=")
        assert "hush" not in message
        assert "hu/sh" not in message


@pytest.mark.parametrize(
    ("url", "short"),
    [
        ("https://api.anthropic.com/v1", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com"),
        ("https://gw.example/anthropic/v1/messages", "https://gw.example/anthropic"),
    ],
)
def test_a_base_url_with_what_clients_add_is_refused_and_the_right_one_is_told(url: str, short: str) -> None:
    expected = f"expected the URL without /v1, since clients add that themselves: {short}."
    assert sentence({"BASE_URL": url}) == f"BASE_URL={url} (env BASE_URL): {expected}"
    assert load({"BASE_URL": short}).settings.base_url == short


@pytest.mark.parametrize(
    "url", ["https://gw.example/v1/account/anthropic", "https://gw.example/xv1", "https://gw.example/messages"]
)
def test_a_base_url_may_have_v1_elsewhere(url: str) -> None:
    assert load({"BASE_URL": url}).settings.base_url == url
    assert load({"NTFY_SERVER": "https://ntfy.example/v1"}).settings.ntfy_server == "https://ntfy.example/v1"


# -- files, hosts, origins


def broken(pem: bytes) -> bytes:
    """The same with a few letters too few."""
    return pem[:200] + pem[260:]


@pytest.mark.parametrize(
    "content",
    [
        b"# Read me\n",
        b"",
        ssl.PEM_cert_to_DER_cert(AUTHORITY.decode()),
        trustme.CA().private_key_pem.bytes(),
        broken(AUTHORITY),
        AUTHORITY + broken(AUTHORITY),
    ],
    ids=["text", "empty", "DER", "key", "broken", "second broken"],
)
def test_a_ca_file_without_usable_certificates_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(content)
    assert sentence({"UPSTREAM_CA_FILE": "other.pem"}) == (
        "UPSTREAM_CA_FILE=other.pem (env UPSTREAM_CA_FILE): expected a PEM file with whole certificates, "
        "each from -----BEGIN CERTIFICATE----- to its END."
    )


def test_a_ca_file_may_hold_several_certificates_and_a_remark(tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(b"# ours\n" + AUTHORITY + b"\n# theirs\n" + trustme.CA().cert_pem.bytes())
    assert load({"UPSTREAM_CA_FILE": "other.pem"}).settings.upstream_ca_file == Path("other.pem")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example, http://localhost:5173/", ("https://a.example", "http://localhost:5173")),
        ("https://a.example:443,http://b.example:80/", ("https://a.example", "http://b.example")),
        ("http://a.example:443,https://[::1]:8443", ("http://a.example:443", "https://[::1]:8443")),
        ("chrome-extension://abcdef,app://obsidian.md", ("chrome-extension://abcdef", "app://obsidian.md")),
        ("*", ("*",)),
        ("null", ("null",)),
    ],
)
def test_origins_are_kept_as_a_browser_sends_them(text: str, expected: tuple[str, ...]) -> None:
    assert load({"ALLOWED_ORIGINS": text}).settings.allowed_origins == expected


@pytest.mark.parametrize(
    "origin",
    ["app.example", "https://", "https://a.example/page", "https://*.example", "https://u@a", "https://a b", "//a", "https://ä"],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    assert sentence({"ALLOWED_ORIGINS": f"https://ok.example,{origin}"}).endswith(
        "expected origins such as https://app.example or http://localhost:5173, "
        f"with scheme and without path, or *; {origin!r} is not one."
    )


@pytest.mark.parametrize("host", ["https://a.example", "a.example/", "*a.example", "a.*", "u@a.example", "a b"])
def test_a_host_that_no_request_names_is_refused(host: str) -> None:
    assert sentence({"ALLOWED_HOSTS": f"ok.example,{host}"}).endswith(
        f"expected host names such as proxy.example or *.example.com, or *; {host!r} is not one."
    )


def test_hosts_may_have_a_port_and_be_addresses() -> None:
    assert load({"ALLOWED_HOSTS": "a_b.example:80,[::1]:3000,::1,10.0.0.1"}).settings.allowed_hosts == (
        "a_b.example:80",
        "[::1]:3000",
        "::1",
        "10.0.0.1",
    )


# -- what follows from them


def test_settings_cannot_be_changed_and_take_no_unknown_name() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc] # that is the point
    assert sentence(unheard_of="x") == (
        "UNHEARD_OF=x (command line): there is no such setting. `claude-proxy config show --docs` lists them."
    )
    assert isinstance(load({}), Loaded)


def test_the_data_directory_is_asked_for_only_where_none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_data_dir() == Path("/somewhere/claude-proxy")
    assert load({}).settings.data_dir == Path("/somewhere/claude-proxy")


@pytest.mark.parametrize(
    ("tz", "expected"),
    [
        ("Asia/Seoul", "Asia/Seoul"),
        (":Asia/Kathmandu", "Asia/Kathmandu"),
        ("", "UTC"),
        ("utc", "UTC"),
        ("Mars/Base", "UTC"),
        ("../../etc/passwd", "UTC"),
        ("<+09>-9", "UTC"),
        ("/etc/localtime", "UTC"),
    ],
)
def test_the_time_zone_is_that_of_tz_where_none_is_set(monkeypatch: pytest.MonkeyPatch, tz: str, expected: str) -> None:
    monkeypatch.setenv("TZ", tz)
    assert load({}).settings.timezone == expected
    assert load({"TIMEZONE": "America/New_York"}).settings.timezone == "America/New_York"


@pytest.mark.parametrize("zone", ["Mars", "UTC+9", "../../etc/passwd", "/etc/localtime", "Asia", "Asia/Seoul/x", "\u0661"])
def test_a_time_zone_has_to_exist(zone: str) -> None:
    with pytest.raises(SettingsError, match="expected the IANA name of a time zone, such as Asia/Seoul or UTC"):
        load({"TIMEZONE": zone})
