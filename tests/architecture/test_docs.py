"""What the documents promise can be found: links, settings."""

import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from claude_proxy.cli.settings_docs import render
from claude_proxy.settings import SECRETS, GunicornSettings
from tests.architecture.source import ROOT

FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(
    r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)"  # [text](place "title")
    r"|^\[[^\]]+\]:\s*(\S+)"  # [text]: place
    r"|(?:href|src)=\"([^\"]+)\"",
    re.MULTILINE,
)
SETTINGS_PAGE = ROOT / "docs" / "settings.md"


@cache
def documents() -> list[Path]:
    """Every Markdown file of ours."""
    folders = [ROOT, ROOT / "docs", ROOT / "deploy"]
    found = {path for folder in folders for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))}
    return sorted(found)


@cache
def text(path: Path) -> str:
    """A document without its fenced code."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors GitHub makes of a document's headings, and those written out."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", text(path), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count, unique = 0, slug
        while unique in found:
            count += 1
            unique = f"{slug}-{count}"
        found.add(unique)
    found |= set(re.findall(r"(?:id|name)=\"([^\"]+)\"", text(path)))
    return frozenset(found)


def links(path: Path) -> list[str]:
    found = ("".join(groups) for groups in LINK.findall(text(path)))
    return [link for link in found if not re.match(r"[a-z][a-z0-9+.-]*:|//", link)]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for link in links(path):
        place, _, anchor = link.partition("#")
        target = path if not place else (path.parent / unquote(place)).resolve()
        if not target.exists() or (anchor and target.suffix == ".md" and unquote(anchor) not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_links_lead_to_files_that_are_checked_in() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    ours = {ROOT / name for name in listed.stdout.splitlines()}
    folders = {parent for path in ours for parent in path.parents}
    loose = {
        f"{path.relative_to(ROOT)}: {link}"
        for path in documents()
        if path in ours
        for link in links(path)
        if (place := link.partition("#")[0])
        for target in [(path.parent / unquote(place)).resolve()]
        if target not in ours | folders
    }
    assert loose == set()


@pytest.mark.parametrize("name", GunicornSettings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    row = re.search(rf"^\| `{name.upper()}`.*$", SETTINGS_PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert row is not None
    assert (f"`{name.upper()}_FILE`" in row[0]) is (name in SECRETS)


def test_the_settings_page_is_made_from_the_definition() -> None:
    assert SETTINGS_PAGE.read_text(encoding="utf-8") == render()


# Names in the documents that are not settings of the proxy's own, by whose they are. One that no document names any more goes.
OF_OTHERS = {
    "the server (docs/serve.md)": """
        ACCESS_LOG APP_MODULE ERROR_LOG FORWARDED_ALLOW_IPS GUNICORN_CMD_ARGS GUNICORN_CONF KEEP_ALIVE MAX_WORKERS MODULE_NAME
        PRE_START_PATH ROOT_PATH VARIABLE_NAME WEB_CONCURRENCY WORKERS_PER_CORE WORKER_CLASS""",
    "Claude Code and Node": "API_TIMEOUT_MS CLAUDE_STREAM_IDLE_TIMEOUT_MS ENABLE_TOOL_SEARCH NODE_EXTRA_CA_CERTS",
    "every program": "ALL_PROXY HTTPS_PROXY HTTP_PROXY NO_COLOR NO_PROXY SSL_CERT_DIR SSL_CERT_FILE XDG_CONFIG_HOME",
    "Docker Compose, our file": """
        FRONT_NET PROMETHEUS_KEEP PUBLISH_GRAFANA PUBLISH_NGINX PUBLISH_NTFY PUBLISH_PROMETHEUS PUBLISH_TRAEFIK SERVER_NAME
        STOP_GRACE_PERIOD""",
    "the command line": "CLAUDE_PROXY_CONFIG",
}
OF_CLIENTS = ("ANTHROPIC_", "CLAUDE_CODE_")  # what Claude Code and the SDKs call theirs
NAME = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`|(?<![\w$-])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)=")


@cache
def names() -> dict[str, str]:
    """Every `FOO_BAR` and FOO_BAR=value of the documents, with one that has it."""
    found = {}
    for path in documents():
        for code, assigned in NAME.findall(path.read_text(encoding="utf-8")):
            found[code or assigned] = str(path.relative_to(ROOT))
    return found


def test_no_document_names_a_setting_that_is_none() -> None:
    ours = {name.upper() for name in GunicornSettings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}
    known = ours.union(*(text.split() for text in OF_OTHERS.values()))
    assert len(names()) > 50
    assert {name: where for name, where in names().items() if name not in known and not name.startswith(OF_CLIENTS)} == {}


def test_every_name_that_is_excused_is_still_in_a_document() -> None:
    assert {name for text in OF_OTHERS.values() for name in text.split()} - names().keys() == set()


def test_both_readmes_name_the_same_settings() -> None:
    """They are one document in two languages."""
    english, korean = (
        {a or b for a, b in NAME.findall((ROOT / file).read_text("utf-8"))} for file in ("README.md", "README.ko.md")
    )
    assert english == korean
