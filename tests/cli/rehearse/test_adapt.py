"""The user's settings in a rehearsal: everything that could leave this machine is replaced, the rest stays."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.cli.rehearse.adapt import Adapted, adapt, to_toml
from claude_proxy.settings import Loaded, load
from claude_proxy.settings.tables import Tables

SECRET = "the-real-key"
FILE = """
stream_idle_timeout = 120
retry_hints = false
allowed_hosts = ["one.example", "two.example"]
ntfy_topic = "the-real-topic"
ntfy_server = "https://ntfy.example"
data_dir = "books"

[[upstream]]
name = "first"
base_url = "https://api.z.ai/api/anthropic"
priority = 1

[[upstream.account]]
name = "mine"
key_env = "MY_KEY"
"""


def adapted(text: str, environ: dict[str, str], folder: Path, speed: float = 1.0) -> tuple[Adapted, dict[str, Any]]:
    file = folder / "claude-proxy.toml"
    file.write_text(text, encoding="utf-8")
    found = adapt(load(environ, config=file), environ, speed)
    return found, document(found)


def document(found: Adapted) -> dict[str, Any]:
    urls = [f"http://127.0.0.1:{4000 + number}/api/anthropic" for number, _ in enumerate(found.upstreams)]
    return tomllib.loads(found.toml(urls, "http://127.0.0.1:9", Path("/tmp/rehearsal")))


def reloaded(found: Adapted, folder: Path) -> Loaded:
    """The settings as the proxy of the rehearsal reads them."""
    file = folder / "adapted.toml"
    file.write_text(to_toml(document(found)), encoding="utf-8")
    return load(found.environ(), config=file)


def test_addresses_and_keys_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    environ = {"MY_KEY": SECRET, "PING_INTERVAL": "20", "CAPTURE": "off", "NTFY_MIN_PRIORITY": "4", "PATH": "/bin"}
    found, values = adapted(FILE, environ, tmp_path)
    (upstream,) = values["upstream"]
    assert upstream["base_url"] == "http://127.0.0.1:4000/api/anthropic"
    assert (upstream["name"], upstream["provider"], upstream["priority"]) == ("first", "zai", 1)
    assert upstream["account"] == [{"auth": "bearer", "name": "mine", "key_env": "REHEARSAL_KEY_1_1"}]
    assert (values["retry_hints"], values["allowed_hosts"]) == (False, ["one.example", "two.example"])
    assert (values["ntfy_topic"], values["ntfy_server"]) == ("rehearsal", "http://127.0.0.1:9")
    assert values["data_dir"] == "/tmp/rehearsal"
    kept = {"CAPTURE": "off", "NTFY_MIN_PRIORITY": "4", "PATH": "/bin"}
    assert found.environ() == kept | {"REHEARSAL_KEY_1_1": "rehearsal-key-1-1"}
    settings = reloaded(found, tmp_path).settings
    assert settings.upstream_api_key is not None
    assert settings.upstream_api_key.get_secret_value() == found.upstreams[0].keys[0]
    assert settings.ping_interval == 20


@pytest.mark.parametrize(
    ("environ", "keys", "provider", "client_key"),
    [
        ({}, (), "zai", None),
        ({"UPSTREAM_API_KEY": SECRET}, ("rehearsal-key-1-1",), "zai", None),
        ({"BASE_URL": "https://api.anthropic.com", "UPSTREAM_API_KEY": SECRET}, ("rehearsal-key-1-1",), "anthropic", None),
        ({"UPSTREAM_API_KEY": SECRET, "PROXY_API_KEY": SECRET}, ("rehearsal-key-1-1",), "zai", "rehearsal-client-key"),
        ({"BASE_URL": "http://10.1.2.3:8000"}, (), "generic", None),
    ],
)
def test_an_upstream_of_the_environment_becomes_a_table(
    environ: dict[str, str], keys: tuple[str, ...], provider: str, client_key: str | None, tmp_path: Path
) -> None:
    found, values = adapted("", environ, tmp_path)
    assert [(one.name, one.provider, one.keys) for one in found.upstreams] == [("default", provider, keys)]
    assert found.client_key == client_key == values.get("proxy_api_key")
    settings = reloaded(found, tmp_path).settings
    assert settings.base_url.startswith("http://127.0.0.1:")
    assert (settings.upstream_api_key is None) is (not keys)
    assert settings.upstream_auth == ("x-api-key" if provider == "anthropic" and keys else "bearer" if keys else None)


NAMES = (
    "UPSTREAM_API_KEY", "PROXY_API_KEY", "ADMIN_TOKEN", "NTFY_TOKEN", "NTFY_TOPIC", "NTFY_USER", "NTFY_PASSWORD", "MY_KEY",
    "DATABASE_URL", "ANTHROPIC_AUTH_TOKEN",
)  # fmt: skip


def test_no_secret_and_no_way_out_is_left(tmp_path: Path) -> None:
    secrets = {name: f"{SECRET}-{name.lower()}" for name in NAMES} | {"DATABASE_URL": f"postgresql://u:{SECRET}@db/x"}
    out = {"HTTPS_PROXY": "http://proxy.example", "http_proxy": "http://proxy.example", "NTFY_SERVER": "https://ntfy.example"}
    secrets.pop("UPSTREAM_API_KEY")
    found, _ = adapted(
        FILE, secrets | out | {"NTFY_VIA": "cli", "BIND": "0.0.0.0:3000", "PRE_START_PATH": str(tmp_path)}, tmp_path
    )
    everything = found.toml(["http://127.0.0.1:4000"], "http://127.0.0.1:9", tmp_path) + repr(found.environ())
    for word in (SECRET, "example.com", "ntfy.example", "proxy.example", "api.z.ai", "0.0.0.0", "PRE_START", "real-topic"):
        assert word not in everything
    settings = reloaded(found, tmp_path).settings
    assert (settings.host, settings.port, settings.bind, settings.ntfy_via) == ("127.0.0.1", 0, None, "http")
    assert settings.database_url is None


@pytest.mark.parametrize("speed", [1.0, 10.0, 600.0])
def test_timeouts_shrink_with_the_script(speed: float, tmp_path: Path) -> None:
    _, values = adapted("stream_idle_timeout = 120\nfirst_event_wait = 0\n", {"RESPONSE_HEAD_TIMEOUT": "400"}, tmp_path, speed)
    assert values["stream_idle_timeout"] == max(0.2, 120 / speed)
    assert values["response_head_timeout"] == max(0.2, 400 / speed)
    assert "connect_timeout" not in values
    assert "first_event_wait" not in values  # 0 means off, and stays so


def test_a_relative_path_keeps_its_meaning(tmp_path: Path) -> None:
    assert "books" not in str(adapted('data_dir = "books"\n', {}, tmp_path)[1])


def test_keys_of_tables_that_are_not_known_here_are_kept(tmp_path: Path) -> None:
    """What a later version adds to a table is the user's own setting too."""
    file = tmp_path / "claude-proxy.toml"
    file.write_text(
        '[[upstream]]\nname = "a"\nbase_url = "https://api.z.ai"\nnovelty = 5\nmap = { "claude-*" = "glm-5.3" }\n'
        '[[upstream]]\nname = "b"\nbase_url = "https://api.kimi.com/coding/"\n'
        '[[upstream.account]]\nname = "k"\nkey_file = "key"\nmax_concurrency = 3\n'
        '[[route]]\nupstreams = ["b", "a"]\n[route.match]\nmodel = ["claude-*"]\n',
        encoding="utf-8",
    )
    plain = load({})
    loaded = Loaded(plain.settings, plain.sources, tables=Tables())
    object.__setattr__(loaded, "places", load({}, config=_empty(tmp_path)).places)
    object.__setattr__(loaded.places[0], "path", file)
    found = adapt(loaded, {}, 1.0)
    values = document(found)
    assert [one.provider for one in found.upstreams] == ["zai", "kimi"]
    first, second = values["upstream"]
    assert (first["novelty"], first["map"]) == (5, {"claude-*": "glm-5.3"})
    assert second["account"] == [{"auth": "bearer", "name": "k", "max_concurrency": 3, "key_env": "REHEARSAL_KEY_2_1"}]
    assert values["route"] == [{"upstreams": ["b", "a"], "match": {"model": ["claude-*"]}}]


def _empty(folder: Path) -> Path:
    file = folder / "empty.toml"
    file.touch()
    return file


text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
values = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | text
tables = st.dictionaries(text, values | st.lists(values, max_size=3), max_size=4)
documents = st.dictionaries(
    text, values | st.lists(values, max_size=3) | tables | st.lists(tables, min_size=1, max_size=3), max_size=5
)


@given(documents)
def test_what_is_written_as_toml_is_read_back(found: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(found)) == found
