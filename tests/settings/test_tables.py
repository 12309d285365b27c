"""`[[upstream]]`, `[[upstream.account]]`, `[[route]]`: read whole, and refused where this version serves less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from claude_proxy.errors import SettingsError
from claude_proxy.settings import AccountTable, Loaded, RouteMatch, RouteTable, UpstreamTable, load
from claude_proxy.settings.files import read_toml
from claude_proxy.settings.tables import Tables, parse_tables

WORK = '[[upstream]]\nname = "work"\nbase_url = "https://work.example/api/"\n'
ACCOUNT = '[[upstream.account]]\nname = "mine"\nkey_env = "WORK_KEY"\n'
FULL = """
[[upstream]]
name = "zai"
base_url = "https://api.z.ai/api/anthropic"
provider = "zai"
priority = 1
weight = 3
models = ["glm-*", "claude-*"]
map = { "claude-haiku-*" = "glm-5.3-flash", "claude-*" = "glm-5.3" }

[[upstream.account]]
name = "one"
key_env = "ZAI_ONE"
auth = "Bearer"
max_concurrency = 2

[[upstream.account]]
name = "two"
key_file = "two.key"

[[upstream]]
name = "anthropic"
base_url = "https://api.anthropic.com"

[[route]]
match = { model = "claude-opus-*", class = ["main", "subagent"], agent_type = "Explore" }
upstreams = ["anthropic", "zai"]

[[route]]
upstreams = ["zai"]
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "claude-proxy.toml"
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, text: str, environ: dict[str, str] | None = None, **given: Any) -> Loaded:
    return load(environ or {}, config=written(folder, text), **given)


def refusal(folder: Path, text: str, environ: dict[str, str] | None = None, **given: Any) -> str:
    """The sentences of a refusal, without the path of the file."""
    with pytest.raises(SettingsError) as caught:
        read(folder, text, environ, **given)
    return caught.value.message.replace(f"{folder}/claude-proxy.toml", "FILE")


def parsed(folder: Path, text: str) -> Tables:
    file = written(folder, text)
    return parse_tables(read_toml(file), file)


def test_every_key_is_read(tmp_path: Path) -> None:
    found = parsed(tmp_path, FULL)
    assert found.upstreams == (
        UpstreamTable(
            name="zai",
            base_url="https://api.z.ai/api/anthropic",
            provider="zai",
            priority=1,
            weight=3,
            models=("glm-*", "claude-*"),
            map=(("claude-haiku-*", "glm-5.3-flash"), ("claude-*", "glm-5.3")),
            account=(
                AccountTable(name="one", key_env="ZAI_ONE", auth="bearer", max_concurrency=2),
                AccountTable(name="two", key_file="two.key"),
            ),
        ),
        UpstreamTable(name="anthropic", base_url="https://api.anthropic.com"),
    )
    match = {"model": ("claude-opus-*",), "class": ("main", "subagent"), "agent_type": ("Explore",)}
    assert found.routes == (
        RouteTable(match=RouteMatch(**match), upstreams=("anthropic", "zai")),
        RouteTable(upstreams=("zai",)),
    )
    assert found.routes[1].match == RouteMatch()


def test_tables_cannot_be_changed(tmp_path: Path) -> None:
    found = parsed(tmp_path, FULL)
    for table in (*found.upstreams, *found.routes, found.upstreams[0].account[0], found.routes[0].match):
        assert isinstance(hash(table), int)
        with pytest.raises(ValidationError):
            table.name = "other"  # type: ignore[union-attr] # that is the point


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WORK + "pirority = 1\n", "[[upstream]] \"work\": unknown key 'pirority'; did you mean 'priority'?"),
        (WORK + "zzzz = 1\n", "[[upstream]] \"work\": unknown key 'zzzz'."),
        (
            WORK + ACCOUNT + "key_evn = 'x'\n",
            "[[upstream]] \"work\", [[upstream.account]] 1: unknown key 'key_evn'; did you mean 'key_env'?",
        ),
        (
            WORK + '[[route]]\nupstreams = ["work"]\nmatch = { clas = "x" }\n',
            "[[route]] 1, [route.match]: unknown key 'clas'; did you mean 'class'?",
        ),
        (WORK + '[[route]]\nupstream = ["work"]\n', "[[route]] 1: unknown key 'upstream'; did you mean 'upstreams'?"),
        (WORK + '[[upstream.acount]]\nname = "x"\n', "[[upstream]] \"work\": unknown key 'acount'; did you mean 'account'?"),
        ("[[upstreams]]\nname = 'x'\n", "unknown setting 'upstreams'; did you mean 'upstream'?"),
        ('[[upstream]]\nbase_url = "https://h"\n', "[[upstream]] 1: name is missing."),
        ('[[upstream]]\nname = "x"\n', '[[upstream]] "x": base_url is missing.'),
        (WORK + "[[upstream.account]]\nkey_env = 'X'\n", '[[upstream]] "work", [[upstream.account]] 1: name is missing.'),
        (WORK + "[[route]]\nmatch = {}\n", "[[route]] 1: upstreams is missing."),
        (WORK + "[[route]]\nupstreams = []\n", "[[route]] 1: upstreams=[]: expected the names of upstreams, at least one."),
        (
            WORK + "[[route]]\nmatch = 3\nupstreams = ['work']\n",
            "[[route]] 1, [route.match]: expected a table under [route.match].",
        ),
        (WORK + "account = 3\n", '[[upstream]] "work", [[upstream.account]]: expected a table under [[upstream.account]].'),
        ("[upstream]\nname = 'x'\n", "[[upstream]] is a list of tables: write [[upstream]], in double brackets, above each."),
        ("upstream = 'https://h'\n", "[[upstream]] is a list of tables: write [[upstream]], in double brackets, above each."),
        ("route = [1]\n", "[[route]] is a list of tables: write [[route]], in double brackets, above each."),
        (WORK + "weight = 0\n", '[[upstream]] "work": weight=0: expected a whole number, 1 or more, such as 1000.'),
        (WORK + "priority = 'high'\n", '[[upstream]] "work": priority=high: expected a whole number from 0 to 1000.'),
        (
            WORK + "map = ['a']\n",
            '[[upstream]] "work": map=[\'a\']: expected a table of model names, such as { "claude-*" = "glm-5.3" }.',
        ),
        (
            WORK + ACCOUNT + "auth = 'basic'\n",
            '[[upstream]] "work", [[upstream.account]] 1: auth=basic: expected bearer or x-api-key.',
        ),
        (
            '[[upstream]]\nname = "a b"\nbase_url = "https://h"\n',
            '[[upstream]] "a b": name=a b: expected a name of 1 to 64 letters',
        ),
        (
            '[[upstream]]\nname = "x"\nbase_url = "https://h:0"\n',
            '[[upstream]] "x": base_url=https://h:0: nothing can listen on port 0',
        ),
        (WORK + WORK, '[[upstream]]: two are named "work"; names must be unique.'),
        (WORK + ACCOUNT + ACCOUNT, '[[upstream.account]] of "work": two are named "mine"; names must be unique.'),
        (WORK + "[[route]]\nupstreams = ['home']\n", "[[route]] 1: upstreams names 'home', but no [[upstream]] has that name."),
        (
            '[[upstream]]\nname = "w\\u200b"\nbase_url = "https://h"\n',
            "[[upstream]] 1: name: there is an invisible character in it, U+200B",
        ),
        (WORK + ACCOUNT.replace("WORK_KEY", "${KEY}"), '[[upstream]] "work": key_env: this is a placeholder'),
    ],
)
def test_a_fault_is_a_sentence_with_its_table_and_its_key(text: str, said: str, tmp_path: Path) -> None:
    assert any(line.startswith(f"FILE: {said}") for line in refusal(tmp_path, text, {"WORK_KEY": "k"}).splitlines())


@pytest.mark.parametrize("keys", ["", "key_env = 'A'\nkey_file = 'b'\n"])
def test_an_account_has_exactly_one_place_for_its_key(keys: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK + "[[upstream.account]]\nname = 'x'\n" + keys)
    assert said == (
        'FILE: [[upstream]] "work", [[upstream.account]] 1: expected either key_env, the variable that holds the key, '
        "or key_file, the file that does."
    )


@pytest.mark.parametrize("name", ["key", "api_key", "token"])
def test_a_key_in_the_file_itself_is_refused_and_not_shown(name: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK + f"[[upstream.account]]\nname = 'x'\nkey_env = 'A'\n{name} = 'sk-hush'\n")
    assert said.endswith(f"unknown key {name!r}. Put the key into a variable or a file, and name that with key_env or key_file.")
    assert "hush" not in said


def test_the_password_of_a_refused_url_is_not_shown(tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK.replace("https://", "https://u:hush@"))
    assert "base_url=https://***@work.example/api/: " in said


def test_every_fault_of_a_table_has_its_own_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK + "weight = 0\npriority = -1\nzzzz = 1\n").splitlines()
    assert [line.startswith('FILE: [[upstream]] "work": ') for line in said] == [True] * 3


# -- what is served


@pytest.mark.parametrize(
    ("account", "key", "auth"),
    [
        ("", None, None),
        (ACCOUNT, "sk-1", None),
        (ACCOUNT + 'auth = "x-api-key"\n', "sk-1", "x-api-key"),
        (ACCOUNT.replace('key_env = "WORK_KEY"', 'key_file = "work.key"'), "sk-2", None),
    ],
)
def test_one_upstream_takes_the_place_of_base_url(account: str, key: str | None, auth: str | None, tmp_path: Path) -> None:
    (tmp_path / "work.key").write_bytes(b"\xef\xbb\xbfBearer sk-2\r\n")
    loaded = read(tmp_path, "port = 7\n" + WORK + account, {"WORK_KEY": ' "sk-1"'})
    found = loaded.settings
    assert (found.base_url, found.port, loaded.upstream_name) == ("https://work.example/api", 7, "work")
    assert found.upstream_api_key == (None if key is None else SecretStr(key))
    assert found.upstream_auth == auth
    assert loaded.sources["base_url"] == f'{tmp_path}/claude-proxy.toml [[upstream]] "work"'


def test_what_only_matters_among_several_is_accepted(tmp_path: Path) -> None:
    text = WORK + 'provider = "zai"\npriority = 3\nweight = 2\nmodels = ["*"]\n'
    assert read(tmp_path, text).settings.base_url == "https://work.example/api"


def test_with_a_table_the_constant_of_proxy_py_is_gone(tmp_path: Path) -> None:
    found = read(tmp_path, WORK, defaults={"base_url": "https://proxy.py.example"})
    assert found.settings.base_url == "https://work.example/api"


def test_without_a_table_the_upstream_is_called_default(tmp_path: Path) -> None:
    assert read(tmp_path, "").upstream_name == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WORK + WORK.replace("work", "home"), "[[upstream]]: there are 2, but"),
        (WORK + ACCOUNT + ACCOUNT.replace("mine", "other"), "[[upstream.account]]: there are 2, but"),
        (WORK + "[[route]]\nupstreams = ['work']\n", "nothing to route"),
        (WORK + "map = { a = 'b' }\n", "map has no effect yet"),
        (WORK + "models = ['glm-*']\n", "models has no effect yet"),
        (WORK + ACCOUNT + "max_concurrency = 2\n", "max_concurrency has no effect yet"),
    ],
)
def test_more_than_one_upstream_serves_is_refused(text: str, said: str, tmp_path: Path) -> None:
    sentence = refusal(tmp_path, text, {"WORK_KEY": "k"})
    assert said in sentence
    assert "this version serves one upstream" in sentence


@pytest.mark.parametrize(
    ("environ", "file", "given", "source"),
    [
        ({"BASE_URL": "https://h"}, "", {}, "BASE_URL (env BASE_URL)"),
        ({}, 'base_url = "https://h"\n', {}, "BASE_URL (FILE)"),
        ({}, "", {"base_url": "https://h"}, "BASE_URL (command line)"),
        ({"UPSTREAM_API_KEY": "sk-hush"}, "", {}, "UPSTREAM_API_KEY (env UPSTREAM_API_KEY)"),
        ({}, 'upstream_api_key = "sk-hush"\n', {}, "UPSTREAM_API_KEY (FILE)"),
        ({"UPSTREAM_AUTH": "bearer"}, "", {}, "UPSTREAM_AUTH (env UPSTREAM_AUTH)"),
    ],
)
def test_a_second_answer_to_the_same_question_is_refused(
    environ: dict[str, str], file: str, given: dict[str, Any], source: str, tmp_path: Path
) -> None:
    sentence = refusal(tmp_path, file + WORK, environ, **given)
    assert sentence.startswith(f"{source} is set, and FILE has [[upstream]]: ")
    assert "hush" not in sentence


def test_the_usual_variable_may_hold_the_accounts_key(tmp_path: Path) -> None:
    text = WORK + ACCOUNT.replace("WORK_KEY", "UPSTREAM_API_KEY")
    assert read(tmp_path, text, {"UPSTREAM_API_KEY": "sk-1"}).settings.upstream_api_key == SecretStr("sk-1")


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    where = 'FILE: [[upstream]] "work", [[upstream.account]] "mine"'
    assert refusal(tmp_path, WORK + ACCOUNT) == f"{where}: key_env=WORK_KEY: the variable is not set."
    missing = WORK + ACCOUNT.replace('key_env = "WORK_KEY"', 'key_file = "gone"')
    assert refusal(tmp_path, missing) == f"{where}: key_file=gone: the file cannot be read (no such file or directory)."
