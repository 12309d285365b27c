"""Claude Code's settings files: which one wins, and what we add beside the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.cli.claude_settings import beside_environment, effective, overruled
from claude_proxy.protocol.providers import by_name

GLM = {"ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-5.3", "ANTHROPIC_DEFAULT_HAIKU_MODEL": "glm-5.3-flash"}
ROWS = [{"model": model, "behavesAs": "claude-sonnet-5-5"} for model in ("glm-5.3", "glm-5.3-flash")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"home/settings.json": "not json"}, None),
        ({"home/settings.json": "[]"}, None),
        ({"home/settings.json": '{"env": ["X"]}'}, None),
        ({"home/settings.json": '{"env": {"X": "wanted/"}}'}, None),
        ({"home/settings.json": '{"env": {"X": "a"}}'}, ("a", "home/settings.json")),
        (
            {"home/settings.json": '{"env": {"X": "a"}}', "project/.claude/settings.json": '{"env": {"X": "b"}}'},
            ("b", "project/.claude/settings.json"),
        ),
        (
            {"home/settings.json": '{"env": {"X": "a"}}', "project/.claude/settings.local.json": '{"env": {"X": "wanted"}}'},
            None,
        ),
    ],
)
def test_the_strongest_settings_file_wins(home: Path, files: dict[str, str], expected: tuple[str, str] | None) -> None:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content, encoding="utf-8")
    found = overruled({"CLAUDE_CONFIG_DIR": str(home / "home")}, home / "project", {"X": "wanted"})
    assert [(one.value, str(one.file.relative_to(home))) for one in found] == ([] if expected is None else [expected])


def beside(home: Path, environ: dict[str, str] | None = None, **files: Any) -> dict[str, Any]:
    """What is added for a user and a project with these settings files."""
    names = {
        "user": ".claude/settings.json",
        "project": "work/.claude/settings.json",
        "local": "work/.claude/settings.local.json",
    }
    for name, content in files.items():
        (home / names[name]).parent.mkdir(parents=True, exist_ok=True)
        (home / names[name]).write_text(json.dumps(content), encoding="utf-8")
    return beside_environment({**(GLM if environ is None else environ), "HOME": str(home)}, home / "work")


def test_glm_models_are_said_to_resemble_one_that_claude_code_knows(home: Path) -> None:
    assert beside(home) == {"modelPicker": {"options": ROWS}, "effortLevel": "high"}


@pytest.mark.parametrize("model", by_name("zai").resembles.values())
def test_no_model_resembles_one_that_gives_up_after_three_529s(model: str) -> None:
    assert not any(family in model for family in ("opus", "fable", "mythos"))


@pytest.mark.parametrize(
    ("environ", "models"),
    [
        ({}, []),
        ({"ANTHROPIC_DEFAULT_OPUS_MODEL": "claude-opus-5-5"}, []),
        ({"ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-4.7"}, []),
        ({"ANTHROPIC_DEFAULT_OPUS_MODEL": "glm-5.3[1m]"}, ["glm-5.3"]),
        ({"ANTHROPIC_MODEL": "glm-5.3-flash"}, ["glm-5.3-flash"]),
    ],
)
def test_only_models_in_use_that_we_know_get_a_row(home: Path, environ: dict[str, str], models: list[str]) -> None:
    found = beside(home, environ)
    assert [row["model"] for row in found.get("modelPicker", {"options": []})["options"]] == models
    assert ("effortLevel" in found) is bool(models)


def test_the_users_own_rows_stay_and_come_first(home: Path) -> None:
    own = [{"model": "glm-5.3", "label": "Big"}, {"model": "other", "behavesAs": "claude-opus-5-5"}]
    found = beside(home, user={"modelPicker": {"replaceBuiltInOptions": True, "options": own}})
    assert found["modelPicker"] == {"replaceBuiltInOptions": True, "options": [*own, ROWS[1]]}


@pytest.mark.parametrize("picker", [None, [], "x", {}, {"options": {}}, {"options": ["x", 1, {"behavesAs": "y"}]}])
def test_a_picker_that_claude_code_would_not_read_does_no_harm(home: Path, picker: Any) -> None:
    options = beside(home, user={"modelPicker": picker})["modelPicker"]["options"]
    assert options[-2:] == ROWS


@pytest.mark.parametrize("name", ["project", "local"])
def test_a_projects_picker_is_left_in_force(home: Path, name: str) -> None:
    assert beside(home, **{name: {"modelPicker": {"options": []}}}) == {}


@pytest.mark.parametrize("name", ["user", "project", "local"])
@pytest.mark.parametrize("saved", [{"effortLevel": "low"}, {"modelSettings": {"glm-5.3": {"effortLevel": "max"}}}])
def test_an_effort_that_was_saved_stays(home: Path, name: str, saved: dict[str, Any]) -> None:
    assert "effortLevel" not in beside(home, **{name: saved})


def test_the_strongest_file_decides_what_claude_code_sees(home: Path) -> None:
    beside(home, user={"env": {"A": "user", "B": "user"}}, local={"env": {"B": "local", "C": 1}})
    assert effective({"HOME": str(home), "A": "shell", "D": "shell"}, home / "work") == {
        "HOME": str(home), "A": "user", "B": "local", "D": "shell",
    }  # fmt: skip
