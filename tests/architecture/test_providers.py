"""A new provider is one new file, and no other file knows a provider."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.protocol.providers import PROVIDERS
from tests.architecture.source import SRC, Function, modules

NEW_FILE = """
from claude_proxy.protocol.providers.base import Class, Code, Provider, Text

PROVIDERS = (
    Provider(
        name="acme",
        label="Acme",
        domains=("acme.example",),
        auth="x-api-key",
        codes={"7001": Code(Class.STOP_UNTIL, Text("rockets used up", "로켓 소진"), Text("Buy rockets.", "로켓을 사세요."))},
        models={"OPUS": "acme-big"},
        families=("acme-",),
        sample_model="acme-big",
    ),
)
"""
READERS = """
import asyncio, json, tempfile
from pathlib import Path
from claude_proxy.parts import make_upstream
from claude_proxy.cli.client_env import variables
from claude_proxy.cli.doctor.way import credential
from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.notify import Notifier, secrets_of
from claude_proxy.notify.advice import advise
from claude_proxy.protocol.judge import judge, retry_hint
from claude_proxy.protocol.providers import find_at
from claude_proxy.protocol.ruling import rule
from claude_proxy.protocol.usage import ErrorBody
from claude_proxy.settings import Settings
from claude_proxy.web import PageFacts, Upstream

URL = "https://api.acme.example/anthropic"
settings = Settings(base_url=URL, upstream_api_key="the-key", ntfy_topic="t", data_dir=Path(tempfile.mkdtemp()))
anthropic = Settings(base_url="https://api.anthropic.com")
provider = find_at(URL)
ruling = rule(429, ErrorBody("rate_limit_error", "no more", "7001"), provider=provider, now=0.0)
failure = judge(429, ErrorBody("rate_limit_error", "no more", "7001"), provider=provider, credential_held=True)
exchange = Exchange("id", "POST", "/v1/messages", "", 0.0, 0.0, upstream="default", status=429, ended=1.0)
exchange.outcome, exchange.failure = Outcome.COMPLETED, failure
told = []

async def listen():
    notifier = Notifier(settings, clock=lambda: 1.0)
    notifier.publisher.put = told.append
    await notifier.start()
    notifier.on_exchange_end(exchange)
    await notifier.aclose()
asyncio.run(listen())

advice = advise(failure, provider)
page = PageFacts("1", "/api", (Upstream("default", URL),), holds_credential=False, needs_key=False, notices=False)
print(json.dumps({
    "judge": [failure.side, failure.provider_code, failure.provider],
    "hint": retry_hint(failure),
    "ruling": [ruling.group, ruling.code, ruling.account_dead],
    "advice": [advice.name.en, advice.do.en, advice.name.ko, advice.do.ko],
    "notice": [told[0].title, told[0].priority, "Buy rockets." in told[0].message],
    "public": [value for value in secrets_of(settings) if "acme" in value],
    "page": [page.sample_model, page.bearer, page.x_api_key],
    "environment": {found.name: found.value for found in variables(settings, {}, "http://h") if "MODEL" in found.name},
    "left over": [found.name for found in variables(anthropic, {"ANTHROPIC_DEFAULT_OPUS_MODEL": "acme-big"}, "http://h")
                  if not found.value],
    "credential": [str(part, "ascii") for part in make_upstream(settings).credential],
    "doctor": list(credential(settings, {}).header),
}))
"""


def test_a_new_provider_is_one_new_file(tmp_path: Path) -> None:
    shutil.copytree(SRC, tmp_path / "claude_proxy", ignore=shutil.ignore_patterns("__pycache__", "vendor"))
    (tmp_path / "claude_proxy/protocol/providers/acme.py").write_text(NEW_FILE, encoding="utf-8")
    environ = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", READERS], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "judge": ["upstream", "7001", "acme"],
        "hint": False,
        "ruling": ["stop_until", "7001", False],
        "advice": ["rockets used up", "Buy rockets.", "로켓 소진", "로켓을 사세요."],
        "notice": ["Acme: rockets used up (7001)", 4, True],
        "public": [],
        "page": ["acme-big", None, "<your key>"],
        "environment": {"ANTHROPIC_DEFAULT_OPUS_MODEL": "acme-big"},
        "left over": ["ANTHROPIC_DEFAULT_OPUS_MODEL"],
        "credential": ["x-api-key", "the-key"],
        "doctor": ["x-api-key", "the-key"],
    }


# Where a provider may be named, and why; nobody there decides anything by it.
EXAMPLES = {
    "settings/urls.py": "the default BASE_URL",
    "settings/definition.py": "a description for docs/settings.md",
    "cli/settings_docs.py": "an example file for docs/settings.md",
    "cli/commands.py": "an example command in the help",
    "cli/service_units.py": "an example in a comment of a unit file",
    "proxy/attempt.py": "an example in a message",
    "cli/demo/story.py": "the script of the demo",
}
FREE = ("protocol/providers/", "simulator/")
DOMAINS = sorted({domain for provider in PROVIDERS for domain in provider.domains})
CODES = sorted({word for provider in PROVIDERS for word in provider.codes if word.isdigit() and len(word) > 3})
# A documentation page may be linked from anywhere.
LINKED = r"(?:docs|platform|console|support|code)\."
HOST = re.compile(rf"(?<![\w-])(?<!\w\.)(?!{LINKED})(?:[\w-]+\.)*(?:{'|'.join(map(re.escape, DOMAINS))})(?![\w-])")
CODE = re.compile(rf"^(?:{'|'.join(CODES)})$|\[(?:{'|'.join(CODES)})\]")


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every string of a file but the docstrings, with its line."""
    kinds = (ast.Module, ast.ClassDef, *Function.__args__)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, kinds) and is_docstring(node.body)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in docs:
            yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def is_docstring(body: list[Any]) -> bool:
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def knowledge() -> dict[str, list[str]]:
    """The strings with a provider's host or code in them, by file."""
    found: dict[str, list[str]] = {}
    for file, tree in modules().items():
        if not file.startswith(FREE):
            for line, text in strings(tree):
                if HOST.search(text) or CODE.search(text):
                    found.setdefault(file, []).append(f"{line}: {text[:80]}")
    return found


def test_no_other_file_knows_a_providers_host_or_code() -> None:
    found = knowledge()
    assert {file: lines for file, lines in found.items() if file not in EXAMPLES} == {}
    assert set(EXAMPLES) <= found.keys()  # an exception that is not needed any more goes


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("https://api.z.ai/api", True),
        ("z.ai", True),
        (".z.ai", True),
        ("api.anthropic.com", True),
        ("https://docs.anthropic.com/en/api/errors", False),
        ("https://notz.ai/", False),
        ("https://z.aiz", False),
        ("1302", True),
        ("13020", False),
        ("[1302][words]", True),
        ("error 1302", False),
    ],
)
def test_what_counts_as_knowledge(text: str, known: bool) -> None:
    assert bool(HOST.search(text) or CODE.search(text)) is known


def test_a_providers_file_imports_only_what_all_providers_share() -> None:
    """So that each can be read, and added, by itself."""
    package = "claude_proxy.protocol.providers"
    for file, tree in modules().items():
        if re.fullmatch(r"protocol/providers/(?!__init__|base)\w+\.py", file):
            ours = {
                node.module
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("claude_proxy")
            }
            assert ours <= {f"{package}.base", f"{package}.codes"}, file
