"""Values as people paste them, and as tools pass them on."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from claude_proxy.errors import SettingsError
from claude_proxy.settings import SECRETS, Settings, load, visible

AROUND = ["{}", " {}", "{} ", "\t{}\t", "{}\n", "{}\r\n", "\ufeff{}", "\ufeff{}\r\n"]
AROUND += ['"{}"', "'{}'", ' "{}" ', '" {} "', "'\"{}\"'", '"{}"\r']
PLAIN = {"base_url": "https://h.example/x", "port": "8080", "log_level": "debug", "retry_hints": "false", "ntfy_topic": "abc"}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", PLAIN)
def test_what_stands_around_a_value_is_dropped(name: str, around: str) -> None:
    expected = getattr(load({name.upper(): PLAIN[name]}).settings, name)
    assert expected != getattr(Settings(), name)
    assert getattr(load({name.upper(): around.format(PLAIN[name])}).settings, name) == expected
    assert getattr(load({}, **{name: around.format(PLAIN[name])}).settings, name) == expected


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("label", ["", "Bearer ", "bearer  ", "Authorization: Bearer ", "x-api-key: ", "X-Api-Key:", "BEARER\t"])
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_what_was_copied_with_a_key_is_dropped(name: str, label: str, around: str, tmp_path: Path) -> None:
    text = around.format(label + "sk-1")
    file = tmp_path / "key"
    file.write_text(text, encoding="utf-8", newline="")
    for environ in ({name.upper(): text}, {f"{name.upper()}_FILE": f' "{file}" '}):
        assert getattr(load(environ).settings, name).get_secret_value() == "sk-1"


@pytest.mark.parametrize("key", ["Bearersk-1", "bearer-of-keys", "a:b", "sk\"1'", '"sk', "it's", "pa$$word", "{x}", "a b"])
def test_a_key_that_only_looks_like_more_stays_as_it_is(key: str) -> None:
    assert load({"PROXY_API_KEY": key}).settings.proxy_api_key.get_secret_value() == key  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [" ", '""', "''", '" "', "\ufeff", "\r\n"])
@pytest.mark.parametrize("name", [*PLAIN, "proxy_api_key", "upstream_auth"])
def test_a_variable_with_nothing_in_it_counts_as_not_set(name: str, value: str) -> None:
    loaded = load({name.upper(): value, f"{name.upper()}_FILE": value})
    assert loaded.sources[name] == "default"


@pytest.mark.parametrize("text", ["Bearer", " bearer ", '"Bearer "', "Authorization:", "authorization: bearer", "x-api-key: "])
def test_a_key_of_which_only_the_label_was_copied_is_refused_and_not_taken_for_none(text: str) -> None:
    """Without its key the proxy would serve everybody."""
    with pytest.raises(SettingsError, match=r"PROXY_API_KEY \(env PROXY_API_KEY\): expected one line"):
        load({"PROXY_API_KEY": text})


def test_a_quoted_key_behind_its_label_is_found() -> None:
    assert load({"NTFY_TOKEN": 'Bearer "tk_1"'}).settings.ntfy_token == SecretStr("tk_1")


def test_quotes_that_are_no_pair_are_part_of_the_value() -> None:
    assert load({"ALLOWED_HOSTS": "\"a.example\", 'b.example'"}).settings.allowed_hosts == ("a.example", "b.example")
    with pytest.raises(SettingsError, match='NTFY_TOPIC="abc '):
        load({"NTFY_TOPIC": '"abc'})


INVISIBLE = {
    "\u200b": "U+200B (ZERO WIDTH SPACE)",
    "\u200d": "U+200D (ZERO WIDTH JOINER)",
    "\u2060": "U+2060 (WORD JOINER)",
    "\u202e": "U+202E (RIGHT-TO-LEFT OVERRIDE)",
    "\u00a0": "U+00A0 (NO-BREAK SPACE)",
    "\u3000": "U+3000 (IDEOGRAPHIC SPACE)",
    "\u2028": "U+2028 (LINE SEPARATOR)",
    "\ufeff": "U+FEFF (ZERO WIDTH NO-BREAK SPACE)",
    "\x1b": "U+001B (CONTROL CHARACTER)",
    "\x07": "U+0007 (CONTROL CHARACTER)",
    "\x85": "U+0085 (CONTROL CHARACTER)",
    "\n": "U+000A (CONTROL CHARACTER)",
    "\udcff": "the byte 0xFF, which is not UTF-8",
}


@pytest.mark.parametrize("char", INVISIBLE, ids=lambda char: f"U+{ord(char):04X}")
@pytest.mark.parametrize("name", ["base_url", "port", "host", "data_dir", "allowed_hosts", "log_level", "bind", "root_path"])
def test_an_invisible_character_inside_a_value_is_refused_and_made_visible(name: str, char: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name.upper(): f"12{char}34"})
    escaped = char.encode("unicode_escape").decode()
    assert caught.value.message.startswith(
        f"{name.upper()}=12{escaped}34 (env {name.upper()}): there is an invisible character in it, {INVISIBLE[char]}: "
    )
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("char", ["\u00a0", "\u200b", "\u2060"])
def test_an_invisible_character_at_the_end_is_no_space_that_could_be_dropped(char: str) -> None:
    for text in (f"8080{char}", f"{char}8080"):
        with pytest.raises(SettingsError, match="invisible character"):
            load({"PORT": text})


def test_an_invisible_character_in_a_list_of_the_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('allowed_hosts = ["a.example", "b\\u200b.example"]\n')
    with pytest.raises(SettingsError, match=r"ALLOWED_HOSTS=.*b\\u200b.* U\+200B"):
        load({}, config=file)


@pytest.mark.parametrize("name", ["port", "log_level", "ntfy_topic", "upstream_ca_file"])
@pytest.mark.parametrize("value", ["${PORT}", "$PORT", "$(cat x)", "{{ port }}", "%PORT%", "<your-value>"])
def test_a_placeholder_that_nothing_has_filled_in_is_called_one(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name.upper(): value})
    assert caught.value.message == (
        f"{name.upper()}={value} (env {name.upper()}): this is a placeholder that was never replaced: put the value itself there."
    )


def test_nothing_of_a_setting_steers_the_terminal(tmp_path: Path) -> None:
    """The value, the path of a file and the names in one."""
    file = tmp_path / "a\x1b[2Jb.toml"
    bad = {"CLAUDE_PROXY_CONFIG": str(file)}
    for text in (
        "",
        "port = 'x'",
        '"\x7f" = 1',
        '"a\\u001bb" = 1',
        'port = [\n"\\u001b"]',
        "[[upstream]]\nname = '\\u001b'",
        "[upstream",
    ):
        if text:
            file.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load(bad)
        assert all(line.isprintable() for line in caught.value.message.splitlines())
    with pytest.raises(SettingsError) as caught:
        load({"PROXY_API_KEY_FILE": "/no\x1b[2Jwhere"})
    assert caught.value.message.startswith("PROXY_API_KEY_FILE=/no\\x1b[2Jwhere: the file cannot be read")


@pytest.mark.parametrize(
    ("text", "shown"), [("a\u200bb", "a\\u200bb"), ("\x1b", "\\x1b"), ("é 한", "é 한"), ("\n", "\\n"), ("\udc80", "\\udc80")]
)
def test_what_is_invisible_is_shown_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
