"""The sample of the documents is a file that works."""

from __future__ import annotations

import re
from pathlib import Path

from claude_proxy.accounts import make_routes, make_upstreams
from claude_proxy.settings import load
from tests.architecture.source import ROOT

SAMPLE = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_sample_of_accounts_can_be_used(tmp_path: Path) -> None:
    (text,) = SAMPLE.findall((ROOT / "docs" / "accounts.md").read_text("utf-8"))
    file = tmp_path / "claude-proxy.toml"
    file.write_text(text, "utf-8")
    (tmp_path / "spare.key").write_text("sk-3")
    loaded = load({"ZAI_WORK_KEY": "sk-1", "ANTHROPIC_KEY": "sk-2"}, config=file)
    made = make_upstreams(loaded.upstreams, make_routes(loaded.tables.routes), loaded.settings)
    assert [account.id for one in made for account in one.accounts] == ["zai/work", "zai/spare", "anthropic/console"]
