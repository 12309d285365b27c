"""Plain English: a short list of words and phrases that source and documents avoid, each with what to write instead."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

ODD = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bearns? (its|their|a) place\b": "is needed for",
    r"\bits office\b": "its task",
    r"\bturns? of the loop\b": "event loop iteration",
    r"\blest\b": "so that ... not",
    r"\bwithout a word\b": "silently",
    r"\bsaid so\b": "reported it",
    r"\bplays? no part\b": "is not used",
    r"\bwho waits\b": "a waiting request",
    r"\b(FACTS|DESIGN) section\b": 'docs/facts.md or docs/design.md, "Heading"',
    r"\bNone if none\b": "None if there is none",
    r"\b(is|are|was|were|be) told of\b|\bwho is told\b": "is notified of; listeners",
    r"\bwhoever\b": "the one who, any",
    r"\bfor good\b": "permanently, from then on",
    r"\bfor ever\b": "forever",
    r"\banew\b": "again",
    r"\bgoes before\b": "overrides, precedes",
    r"\bfiles? of settings\b": "settings file",
    r"\btime-outs?\b": "timeout",
    r"\bclients? (that )?leaves?\b|\bclient's leaving\b": "the client disconnects",
}

SUFFIXES = frozenset({".py", ".md", ".js", ".css", ".html", ".yaml", ".yml", ".toml", ".conf", ".cfg", ".hcl", ".service"})
GENERATED = ("docs/benchmarks.md",)


@cache
def files() -> dict[str, str]:
    """The text of every file that users or colleagues read, by its path."""
    folders = [ROOT / name for name in ("src", "docs", "deploy", "benchmarks")]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES or path.name == "Caddyfile"]
    found += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "gunicorn_conf.py", "proxy.py")]
    names = {path.relative_to(ROOT).as_posix(): path for path in sorted(found) if "vendor" not in path.parts}
    return {name: path.read_text("utf-8") for name, path in names.items() if name not in GENERATED}


def occurrences(pattern: str, texts: dict[str, str]) -> list[str]:
    """Where a phrase is, as `file:line`; it may be broken over two lines."""
    phrase = re.compile(pattern.replace(" ", r"(?:\s|#)+"), re.IGNORECASE)
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}" for name, text in texts.items() for match in phrase.finditer(text)
    ]


@pytest.mark.parametrize(("pattern", "instead"), ODD.items(), ids=lambda words: words)
def test_no_odd_words(pattern: str, instead: str) -> None:
    assert occurrences(pattern, files()) == [], f"write instead: {instead}"


def test_a_phrase_is_found_over_a_line_break_and_in_any_case() -> None:
    text = "# It sends this\n    # Without a\n    # word to anybody."
    assert occurrences(r"\bwithout a word\b", {"a.py": text}) == ["a.py:2"]


def test_source_documents_and_deployment_are_looked_at() -> None:
    wanted = {
        "src/claude_proxy/app.py",
        "docs/design.md",
        "deploy/nginx/claude-proxy.conf",
        "deploy/caddy/Caddyfile",
        "README.md",
    }
    assert wanted <= files().keys()
    assert all(Path(ROOT, name).exists() for name in GENERATED)
