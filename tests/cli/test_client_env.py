"""The environment for Claude Code: what is set, what is left alone, what is undone."""

from __future__ import annotations

from typing import Any

import pytest

from claude_proxy.cli.client_env import Models, applied, missing_credential, removals, variables
from claude_proxy.protocol.claude_code import Variable, model_variables
from claude_proxy.protocol.providers import by_name
from claude_proxy.settings import Settings

GLM_MODELS = model_variables(by_name("zai"))
URL = "http://127.0.0.1:3000"
ANTHROPIC = "https://api.anthropic.com"


def env(
    environ: dict[str, str] | None = None, models: Models | None = None, url: str = URL, **settings: Any
) -> dict[str, str | None]:
    return {found.name: found.value for found in variables(Settings(**settings), environ or {}, url, models)}


def test_every_variable_has_a_reason() -> None:
    settings = Settings(upstream_api_key="u", proxy_api_key="p")
    for found in variables(settings, {"HTTP_PROXY": "http://outer:8080"}, URL, "glm"):
        assert found.why.endswith(".")
        assert "\n" not in found.why


@pytest.mark.parametrize("host", ["api.z.ai", "z.ai", "open.bigmodel.cn"])
def test_glm_upstreams_get_glm_models(host: str) -> None:
    assert env(base_url=f"https://{host}/api/anthropic").items() >= GLM_MODELS.items()


@pytest.mark.parametrize("base_url", [ANTHROPIC, "https://notz.ai.example", "https://xz.ai"])
def test_other_upstreams_get_none(base_url: str) -> None:
    assert not env(base_url=base_url).keys() & GLM_MODELS.keys()


def test_a_model_that_the_user_chose_stays_unless_told_otherwise() -> None:
    chosen = {"ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-4.7"}
    assert "ANTHROPIC_DEFAULT_OPUS_MODEL" not in env(chosen)
    assert env(chosen)["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "glm-5.3-flash"
    assert env(chosen, models="glm")["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "glm-5.3"


def test_glm_names_left_over_are_removed_for_anthropic() -> None:
    left = {"ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-5.3", "ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-haiku-5-5"}
    found = env(left, base_url=ANTHROPIC)
    assert found["ANTHROPIC_DEFAULT_OPUS_MODEL"] is None
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL" not in found
    assert env(left, models="none") == {**env(models="none")}


def test_printing_it_twice_changes_nothing() -> None:
    settings: dict[str, Any] = {"proxy_api_key": "p"}
    once = env({}, **settings)
    again = env({name: value for name, value in once.items() if value is not None}, **settings)
    assert again == once


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        ({}, {}, {}),
        ({}, {"ANTHROPIC_AUTH_TOKEN": "mine"}, {}),
        ({"upstream_api_key": "u"}, {}, {"ANTHROPIC_AUTH_TOKEN": "claude-proxy"}),
        ({"upstream_api_key": "u"}, {"ANTHROPIC_API_KEY": "mine"}, {}),
        ({"upstream_api_key": "u", "proxy_api_key": "p"}, {"ANTHROPIC_AUTH_TOKEN": "mine"}, {"ANTHROPIC_AUTH_TOKEN": "p"}),
        ({"proxy_api_key": "p"}, {"ANTHROPIC_AUTH_TOKEN": "mine"}, {"ANTHROPIC_CUSTOM_HEADERS": "x-api-key: p"}),
        ({"proxy_api_key": "p"}, {"ANTHROPIC_API_KEY": "mine"}, {"ANTHROPIC_AUTH_TOKEN": "p"}),
        ({"proxy_api_key": "p"}, {"ANTHROPIC_API_KEY": "mine", "ANTHROPIC_AUTH_TOKEN": "p"}, {"ANTHROPIC_AUTH_TOKEN": "p"}),
        (
            {"proxy_api_key": "p"},
            {"ANTHROPIC_CUSTOM_HEADERS": "x-team: blue"},
            {"ANTHROPIC_CUSTOM_HEADERS": "x-team: blue\nx-api-key: p"},
        ),
    ],
)
def test_the_credential_is_what_proxy_and_upstream_need(
    settings: dict[str, Any], environ: dict[str, str], expected: dict[str, str]
) -> None:
    found = env(environ, **settings)
    names = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_CUSTOM_HEADERS")
    assert {name: found[name] for name in names if name in found} == expected


@pytest.mark.parametrize(
    ("settings", "environ", "missing"),
    [
        ({}, {}, True),
        ({}, {"ANTHROPIC_API_KEY": "k"}, False),
        ({}, {"ANTHROPIC_AUTH_TOKEN": "claude-proxy"}, True),
        ({"upstream_api_key": "u"}, {}, False),
        ({"proxy_api_key": "p"}, {"ANTHROPIC_AUTH_TOKEN": "p"}, True),
        ({"base_url": ANTHROPIC}, {}, False),
    ],
)
def test_a_credential_that_nobody_holds_is_noticed(settings: dict[str, Any], environ: dict[str, str], missing: bool) -> None:
    assert (missing_credential(Settings(**settings), environ) is not None) is missing


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, URL, None),
        ({"HTTPS_PROXY": "http://outer:1"}, URL, None),
        ({"HTTP_PROXY": "http://outer:1"}, URL, "127.0.0.1,::1,localhost"),
        ({"http_proxy": "http://outer:1", "no_proxy": "corp.example"}, URL, "corp.example,127.0.0.1,::1,localhost"),
        ({"ALL_PROXY": "http://outer:1", "NO_PROXY": "localhost, 127.0.0.1"}, URL, None),
        ({"HTTP_PROXY": "http://outer:1", "NO_PROXY": "*"}, URL, None),
        ({"HTTP_PROXY": "http://outer:1"}, "http://proxy.lan:3000", None),
    ],
)
def test_an_outbound_proxy_is_not_asked_for_this_machine(environ: dict[str, str], url: str, expected: str | None) -> None:
    assert env(environ, url=url).get("NO_PROXY") == expected


def test_what_a_proxy_holds_back_by_default_is_switched_on_for_anthropic() -> None:
    assert env(base_url=ANTHROPIC)["ENABLE_TOOL_SEARCH"] == "true"
    assert "CLAUDE_CODE_ATTRIBUTION_HEADER" not in env(base_url=ANTHROPIC)
    assert env()["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        (ANTHROPIC, None),
        ("https://api.z.ai/api/anthropic", "0"),
        ("http://127.0.0.1:8080", "0"),
        ("https://x.anthropic.com.evil", "0"),
    ],
)
def test_auto_mode_checks_tool_calls_itself_behind_all_but_anthropic(base_url: str, expected: str | None) -> None:
    assert env(base_url=base_url).get("CLAUDE_CODE_AUTO_MODE_SERVER") == expected


def test_both_timeouts_are_set_everywhere() -> None:
    for base_url in (ANTHROPIC, "https://api.z.ai/api/anthropic"):
        found = env(base_url=base_url)
        assert (found["API_TIMEOUT_MS"], found["CLAUDE_STREAM_IDLE_TIMEOUT_MS"]) == ("3000000", "1800000")
        assert found["CLAUDE_CODE_GATEWAY_HINT_HEADERS"] == "1"


@pytest.mark.parametrize(("discovery", "expected"), [("1", "10000"), ("", None), (None, None)])
def test_model_discovery_is_given_time_where_it_is_on(discovery: str | None, expected: str | None) -> None:
    environ = {} if discovery is None else {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": discovery}
    assert env(environ).get("CLAUDE_CODE_GATEWAY_MODEL_DISCOVERY_TIMEOUT_MS") == expected


@pytest.mark.parametrize(
    ("environ", "models", "expected"),
    [
        ({"ANTHROPIC_MODEL": "deepseek-v4"}, None, "deepseek-v4"),
        ({"ANTHROPIC_MODEL": "deepseek-v4[1m]"}, None, "deepseek-v4"),
        ({"ANTHROPIC_MODEL": "deepseek-v4", "ANTHROPIC_DEFAULT_SONNET_MODEL": "deepseek-v4"}, None, "deepseek-v4"),
        ({"ANTHROPIC_MODEL": "deepseek-v4", "ANTHROPIC_DEFAULT_SONNET_MODEL": "small"}, None, None),
        ({"ANTHROPIC_MODEL": "deepseek-v4"}, "none", None),
        ({"ANTHROPIC_MODEL": "opus"}, None, None),
        ({"ANTHROPIC_MODEL": "opus[1m]"}, None, None),
        ({}, None, None),
    ],
)
def test_at_an_unknown_upstream_the_chosen_model_checks_tool_calls(
    environ: dict[str, str], models: Models | None, expected: str | None
) -> None:
    assert env(environ, models, base_url="https://llm.example").get("ANTHROPIC_DEFAULT_SONNET_MODEL") == expected


@pytest.mark.parametrize(
    "settings", [{}, {"upstream_api_key": "u"}, {"upstream_api_key": "u", "proxy_api_key": "p"}, {"proxy_api_key": "p"}]
)
def test_removing_undoes_setting(settings: dict[str, Any]) -> None:
    stated = Settings(**settings)
    before = {"PATH": "/bin", "HTTP_PROXY": "http://outer:1", "NO_PROXY": "localhost,127.0.0.1"}
    during = applied(before, variables(stated, before, URL))
    assert during != before
    assert applied(during, removals(stated, during)) == before


def test_where_nothing_is_set_there_is_nothing_to_remove() -> None:
    assert removals(Settings(proxy_api_key="p"), {"PATH": "/bin"}) == []


def test_a_credential_of_the_users_own_survives_the_removal() -> None:
    environ = {"ANTHROPIC_AUTH_TOKEN": "mine", "ANTHROPIC_BASE_URL": "x"}
    assert applied(environ, removals(Settings(), environ)) == {"ANTHROPIC_AUTH_TOKEN": "mine"}


def test_a_change_without_value_removes() -> None:
    assert applied({"A": "1", "B": "2"}, [Variable("A", None, ""), Variable("C", "3", ""), Variable("D", None, "")]) == {
        "B": "2",
        "C": "3",
    }
