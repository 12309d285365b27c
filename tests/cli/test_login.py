"""`claude-proxy login`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from claude_proxy.access.login_store import FileStore
from claude_proxy.access.logins import Kept, Logins
from claude_proxy.cli.commands import app

runner = CliRunner()


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    """Those of a proxy that runs with this folder."""
    found = Logins(tmp_path)
    found.start(alone=True)
    assert found.kept is Kept.FILES
    return found


def link_of(text: str) -> tuple[str, str]:
    """The address and the code of a printed link."""
    address, _, code = text.strip().partition("/login#code=")
    return address, code


def test_it_prints_a_link_whose_code_works_once(tmp_path: Path, logins: Logins) -> None:
    done = runner.invoke(app, ["login", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    address, code = link_of(done.stdout)
    assert address == "http://localhost:3000"
    assert "works once, within 15 minutes" in done.stderr
    assert [logins.take_code(code) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("environ", "options", "address"),
    [
        ({"PORT": "8080", "ROOT_PATH": "/claude"}, [], "http://localhost:8080/claude"),
        ({"PUBLIC_URL": "https://proxy.example/x"}, [], "https://proxy.example/x"),
        ({"PUBLIC_URL": "https://proxy.example"}, ["--url", "nas:3001/"], "http://nas:3001"),
    ],
)
def test_it_leads_to_where_the_page_is(
    tmp_path: Path, logins: Logins, environ: dict[str, str], options: list[str], address: str
) -> None:
    done = runner.invoke(app, ["login", "--json", *options], env={"DATA_DIR": str(tmp_path), **environ})
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["seconds"] == 900
    found, code = link_of(told["link"])
    assert found == address
    assert logins.take_code(code)


def test_where_no_proxy_has_run_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    done = runner.invoke(app, ["login", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert f"No proxy keeps its logins in {tmp_path / 'logins'}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_it_may_not_write_it_says_as_whom_to_run_it(
    tmp_path: Path, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: FileStore) -> None:  # what another user gets; root may write anywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileStore, "open", refused)
    done = runner.invoke(app, ["login", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "cannot be written (permission denied): run this as the user that runs the proxy" in done.stderr
