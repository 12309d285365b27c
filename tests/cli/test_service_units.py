"""The files of the service: what stands in them, and that systemd reads them as we mean them."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.cli.service_units import (
    Service,
    env_file,
    hidden,
    launchd_plist,
    read_env,
    read_launchd_plist,
    read_systemd_unit,
    systemd_unit,
)
from claude_proxy.settings import SECRETS, Settings

SHIPPED = Path(__file__).parents[2] / "deploy/systemd/claude-proxy.service"
OPT = Service(
    ("/opt/claude-proxy/bin/claude-proxy",),
    Path("/var/lib/claude-proxy"),
    Path("/etc/claude-proxy/claude-proxy.env"),
    config_home=Path("/etc"),
)
ODD = Service(("/opt/a b/python", "-m", "x$y"), Path('/srv/100% "new"/ü'), Path("/etc/c d/env"), Path("/etc/it's $HOME\\%h.toml"))
names = st.text("ab $%\"'\\;#üé-", min_size=1, max_size=8).map(str.strip).filter(bool)
paths = names.map(lambda name: Path("/srv") / name.replace("..", "x"))


def directives(unit: str) -> list[str]:
    return sorted(line for line in unit.splitlines() if line and not line.startswith("#"))


def test_the_shipped_unit_is_the_one_that_install_writes_for_opt() -> None:
    assert directives(SHIPPED.read_text()) == directives(systemd_unit(OPT, system=True))


@pytest.mark.parametrize("system", [True, False])
def test_it_is_started_again_for_ever_unless_its_settings_are_wrong(system: bool) -> None:
    """systemd.unit(5): StartLimitIntervalSec= belongs into [Unit]; elsewhere it is ignored with a warning."""
    unit, service = systemd_unit(OPT, system=system).split("[Service]")
    assert "\nStartLimitIntervalSec=0\n" in unit
    assert {"Restart=always", "RestartPreventExitStatus=2"} <= set(directives(service))


def test_a_users_unit_asks_for_nothing_that_needs_root() -> None:
    """systemd.exec(5): these need capabilities or namespaces, which a user's manager may not have."""
    unit = systemd_unit(OPT, system=False)
    privileged = ("DynamicUser", "CapabilityBoundingSet", "ProtectSystem", "ProtectHome", "PrivateTmp", "ProtectKernel", "StateD")
    assert [name for name in privileged if f"\n{name}" in unit] == []
    assert "NoNewPrivileges=yes" in unit, "the filters of system calls need it where there is no privilege"
    assert "WantedBy=default.target" in unit
    assert "network-online" not in unit, "a user's systemd has no such target"


@pytest.mark.parametrize("system", [True, False])
def test_systemd_itself_reads_the_unit_without_a_word(tmp_path: Path, system: bool) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    program = tmp_path / "100% a$b" / "claude proxy"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    service = Service((str(program), "x$y"), tmp_path, tmp_path / "e f", tmp_path / 'c "d".toml')
    file = tmp_path / "claude-proxy.service"
    file.write_text(systemd_unit(service, system=system))
    options = [] if system else ["--user"]
    done = subprocess.run(
        [analyze, *options, "verify", file], env={"XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@given(st.lists(names, max_size=2), paths, paths, *[st.none() | paths] * 3)
def test_what_is_written_is_read_back(
    program: list[str], folder: Path, settings: Path, config: Path | None, app: Path | None, config_home: Path | None
) -> None:
    words = ("/usr/bin/" + "".join(program).replace("$", ""), *program)
    service = Service(words, folder, settings, config, app, config_home)
    assert read_systemd_unit(systemd_unit(service, system=False)) == service
    assert read_systemd_unit(systemd_unit(service, system=True)) == service
    assert read_launchd_plist(launchd_plist(service, Path("/log"))) == service


def test_special_characters_are_written_as_systemd_wants_them() -> None:
    unit = systemd_unit(ODD, system=False)
    assert 'ExecStart="/opt/a b/python" -m x$$y serve\n' in unit
    assert 'WorkingDirectory=/srv/100%% "new"/ü\n' in unit
    assert '\nEnvironment="CLAUDE_PROXY_CONFIG=/etc/it\'s $HOME\\\\%%h.toml"\n' in unit


def test_the_agent_starts_at_login_and_again_after_a_failure() -> None:
    job = plistlib.loads(launchd_plist(ODD, Path("/Users/me/Library/Logs/claude-proxy.log")).encode())
    assert job["Label"] == "dev.claude-proxy"
    assert job["RunAtLoad"] is job["KeepAlive"] is True
    assert job["ProgramArguments"] == [*ODD.program, "service", "run", "--env-file", "/etc/c d/env"]
    assert job["ExitTimeOut"] > int(job["EnvironmentVariables"]["GRACEFUL_TIMEOUT"])
    assert job["SoftResourceLimits"]["NumberOfFiles"] > 2 * Settings.model_fields["max_connections"].default
    assert job["Umask"] == 0o077


@pytest.mark.parametrize("read", [read_systemd_unit, read_launchd_plist])
@pytest.mark.parametrize("text", ["", "[Service]\nExecStart=/bin/x\n", "<plist><dict></dict></plist>", "ExecStart=\n"])
def test_another_programs_file_is_told_from_ours(read: Callable[[str], Service], text: str) -> None:
    with pytest.raises(ValueError, match=r"no (unit|agent) of claude-proxy"):
        read(text)


def test_the_settings_file_sets_nothing_and_names_only_settings() -> None:
    text = env_file("systemctl restart x")
    assert read_env(text) == {}
    known = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}
    named = set(re.findall(r"^# ([A-Z_]+)=", text, re.MULTILINE))
    assert {"BASE_URL", "UPSTREAM_API_KEY"} <= named <= known


def test_settings_are_read_as_systemd_reads_them() -> None:
    text = "# A=1\n; B=2\nPORT=3001\n  HOST = '::1' \nNTFY_TOPIC=\"a b\"\nBASE_URL=http://x/?a=b\nEMPTY=\nno line\nQ='\n"
    assert read_env(text) == {
        "PORT": "3001",
        "HOST": "::1",
        "NTFY_TOPIC": "a b",
        "BASE_URL": "http://x/?a=b",
        "EMPTY": "",
        "Q": "'",
    }


@pytest.mark.parametrize(
    ("path", "expected"), [("/home/me/x", True), ("/root", True), ("/tmp/x", True), ("/opt/x", False), ("/homes/x", False)]
)
def test_paths_that_the_hardened_service_cannot_see_are_known(path: str, expected: bool) -> None:
    assert hidden(Path(path)) is expected
