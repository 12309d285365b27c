"""`[[upstream]]`, `[[upstream.account]]`, `[[route]]`: read whole, each mistake named; the keys that they point to."""

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

[[upstream.account]]
name = "console"
key_env = "ANTHROPIC_KEY"

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
        UpstreamTable(
            name="anthropic",
            base_url="https://api.anthropic.com",
            account=(AccountTable(name="console", key_env="ANTHROPIC_KEY"),),
        ),
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


# -- what could never match


def home(models: str = '["*"]') -> str:
    """A second upstream with an account."""
    return WORK.replace("work", "home") + f"models = {models}\n" + ACCOUNT.replace("WORK", "HOME")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WORK + "map = { 'claude-*' = '' }\n", 'expected the name of one model for "claude-*", such as "glm-5.3".'),
        (WORK + "map = { 'claude-*' = 'glm-*' }\n", 'expected the name of one model for "claude-*", such as "glm-5.3".'),
        (WORK + "map = { 'claude opus' = 'glm' }\n", "'claude opus' can match nothing."),
        (WORK + "models = ['claude-[a-z]*']\n", "'claude-[a-z]*' can match nothing."),
        (WORK + "models = []\n", 'expected patterns such as ["claude-*"], at least one.'),
        (
            WORK + "map = { 'claude-*' = 'a', 'claude-opus-*' = 'b' }\n",
            'map: "claude-opus-*" is never used, since "claude-*" above it matches the same names. Put the narrower first.',
        ),
        (
            WORK + "models = ['glm-*']\nmap = { 'claude-*' = 'glm-5.3' }\n",
            'map: "claude-*" matches nothing, since models has no such name: "glm-*".',
        ),
        (
            WORK + ACCOUNT + home('["glm-*"]') + "[[route]]\nupstreams = ['work', 'home']\nmatch = { model = 'claude-*' }\n",
            '[[route]] 1: upstreams names "home", which serves no model that the route is for: its models are "glm-*".',
        ),
        (
            WORK + "models = ['glm-*']\n[[route]]\nupstreams = ['work']\nmatch = { model = ['glm-5*', 'claude-*'] }\n",
            '[[route]] 1: model "claude-*" matches nothing that its upstreams serve: "glm-*".',
        ),
        (WORK + "[[route]]\nupstreams = ['work', 'work']\n", '[[route]] 1: upstreams names "work" twice.'),
        (
            WORK + "[[route]]\nupstreams = ['work']\n[[route]]\nupstreams = ['work']\nmatch = { class = 'main' }\n",
            "[[route]] 2 is never used, since [[route]] 1 above it matches the same requests first.",
        ),
        (
            WORK + "[[route]]\nupstreams = ['work']\nmatch = { class = 'mian' }\n",
            "'mian' is none of them.",
        ),
        (
            WORK + ACCOUNT + WORK.replace("work", "home"),
            '[[upstream]] "home": there is no [[upstream.account]]. With several upstreams each needs one',
        ),
    ],
)
def test_what_could_never_apply_is_refused(text: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, text, {"WORK_KEY": "k", "HOME_KEY": "h"})


@pytest.mark.parametrize(
    "match",
    [
        "{ model = 'glm-*' }",
        "{ class = 'main' }",
        "{ agent_type = 'Explore' }",
        "{ model = 'glm-5*', class = ['main', 'compaction'] }",
    ],
)
def test_a_narrower_route_before_a_wider_one_is_fine(match: str, tmp_path: Path) -> None:
    text = WORK + f"[[route]]\nupstreams = ['work']\nmatch = {match}\n[[route]]\nupstreams = ['work']\n"
    assert len(read(tmp_path, text).tables.routes) == 2


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


def test_every_missing_key_is_named_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK + ACCOUNT + home()).splitlines()
    assert [line.rpartition(": key_env=")[2] for line in said] == [
        "WORK_KEY: the variable is not set.",
        "HOME_KEY: the variable is not set.",
    ]


@pytest.mark.parametrize(
    ("key", "fault"),
    [("k\u00e9y", "expected one line of printable ASCII"), ("k\u200b", "invisible character"), ("${KEY}", "placeholder")],
)
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str, fault: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK + ACCOUNT + home(), {"WORK_KEY": "fine", "HOME_KEY": key})
    assert said.startswith('FILE: [[upstream]] "home", [[upstream.account]] "mine": key_env=HOME_KEY: ')
    assert fault in said
    assert key not in said


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work.key").write_text("\n")
    said = refusal(tmp_path, WORK + ACCOUNT.replace('key_env = "WORK_KEY"', 'key_file = "work.key"'))
    assert said.endswith("key_file=work.key: the file is empty.")


def test_two_accounts_may_not_share_a_key(tmp_path: Path) -> None:
    said = refusal(tmp_path, WORK + ACCOUNT + ACCOUNT.replace("mine", "yours"), {"WORK_KEY": "sk-hush-1"})
    assert (
        said
        == 'FILE: [[upstream]] "work": the accounts "mine" of "work" and "yours" of "work" have the same key. Remove one of them.'
    )
    assert "hush" not in said


def test_several_upstreams_are_read_with_their_keys(tmp_path: Path) -> None:
    loaded = read(tmp_path, FULL, {"ZAI_ONE": "Bearer sk-hush-1", "ANTHROPIC_KEY": "sk-hush-3"} | file_key(tmp_path))
    zai, anthropic = loaded.upstreams
    assert (zai.name, zai.provider, zai.priority, zai.weight, zai.models) == ("zai", "zai", 1, 3, ("glm-*", "claude-*"))
    assert zai.map == (("claude-haiku-*", "glm-5.3-flash"), ("claude-*", "glm-5.3"))
    assert [one.key.get_secret_value() for one in (*zai.accounts, *anthropic.accounts)] == ["sk-hush-1", "sk-hush-2", "sk-hush-3"]
    assert [one.source for one in (*zai.accounts, *anthropic.accounts)] == [
        "env ZAI_ONE",
        f"{tmp_path}/two.key",
        "env ANTHROPIC_KEY",
    ]
    assert (zai.accounts[0].auth, zai.accounts[0].max_concurrency) == ("bearer", 2)
    assert loaded.key_files == (tmp_path / "two.key",)
    assert loaded.upstream_name == "zai"
    assert loaded.settings.base_url == zai.base_url
    assert "hush" not in repr(loaded)


def file_key(folder: Path) -> dict[str, str]:
    (folder / "two.key").write_text("sk-hush-2")
    return {}


def test_without_a_table_the_environments_upstream_is_all_there_is(tmp_path: Path) -> None:
    (upstream,) = read(tmp_path, "", {"UPSTREAM_API_KEY": "sk-hush-1", "UPSTREAM_AUTH": "x-api-key"}).upstreams
    (account,) = upstream.accounts
    assert (upstream.name, upstream.base_url) == ("default", "https://api.z.ai/api/anthropic")
    assert (account.name, account.source, account.auth) == ("default", "env UPSTREAM_API_KEY", "x-api-key")
    assert "hush" not in repr(upstream)
    assert read(tmp_path, "").upstreams[0].accounts == ()
