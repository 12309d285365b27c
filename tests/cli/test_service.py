"""`service`: installed, looked at and removed, through a systemctl and a launchctl that only note what they are told."""

from __future__ import annotations

import contextlib
import json
import os
import plistlib
import re
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.cli import service as service_module
from claude_proxy.cli import service_managers
from tests.cli.conftest import Invoke
from tests.cli.test_code import free_port

FAKE = Path(__file__).with_name("fake_manager.py")
USER_UNIT = ".config/systemd/user/claude-proxy.service"
AGENT = "Library/LaunchAgents/dev.claude-proxy.plist"
NO_BUS = "Failed to connect to bus: No medium found"


class Machine:
    """A home directory with a service manager."""

    def __init__(self, home: Path, state: Path, port: int) -> None:
        self.home, self.state, self.port = home, state, port
        self.env_file = home / ".config/claude-proxy/env"

    def set(self, **values: object) -> None:
        """Write the service's settings file; PORT is always in it."""
        self.env_file.parent.mkdir(parents=True, exist_ok=True)
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in {"PORT": self.port, **values}.items()))

    def calls(self) -> list[str]:
        """What was asked of the manager since the last time, without the looks."""
        file = self.state / "calls"
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line.replace(f"gui/{os.getuid()}", "gui/N") for line in found if " show " not in line and " print " not in line]

    def pid(self) -> int:
        return int((self.state / "pid").read_text())

    def answers(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0


@contextlib.contextmanager
def machine(home: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Iterator[Machine]:
    folder, state = home / "bin", home / "state"
    folder.mkdir()
    state.mkdir()
    (folder / program).write_text(f"#!{sys.executable} -S\n{FAKE.read_text()}")
    (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("FAKE_STATE", str(state))
    with free_port() as port:
        monkeypatch.setenv("FAKE_PORT", str(port))
        made = Machine(home, state, port)
        made.set()
        yield made
        if (state / "pid").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(made.pid(), signal.SIGTERM)


@pytest.fixture
def systemd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine(home, monkeypatch, "systemctl") as made:
        yield made


@pytest.fixture
def launchd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine(home, monkeypatch, "launchctl") as made:
        yield made


def status(invoke: Invoke) -> tuple[int, Any]:
    result = invoke("service", "status", "--json")
    return result.exit_code, json.loads(result.stdout)


def test_install_writes_the_unit_starts_it_and_says_where_it_answers(systemd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"Written: {systemd.home / USER_UNIT}\n" in result.stdout
    assert f"claude-proxy 9.9.9 runs at http://127.0.0.1:{systemd.port}" in result.stdout
    assert "loginctl enable-linger" in result.stdout
    unit = (systemd.home / USER_UNIT).read_text()
    assert f"\nWorkingDirectory={systemd.home}\n" in unit
    assert re.search(r"\nExecStart=\S+ serve\n", unit)
    assert f"\nEnvironmentFile=-{systemd.env_file}\n" in unit
    assert systemd.calls() == ["systemctl --user daemon-reload", "systemctl --user enable --now claude-proxy.service"]


def test_a_second_install_changes_and_restarts_nothing(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    unit, pid = (systemd.home / USER_UNIT).stat().st_mtime_ns, systemd.pid()
    result = invoke("service", "install")
    assert result.exit_code == 0
    assert "Written" not in result.stdout
    assert ((systemd.home / USER_UNIT).stat().st_mtime_ns, systemd.pid()) == (unit, pid)
    assert not any("restart" in call for call in systemd.calls())


def test_a_changed_unit_restarts_the_service_that_runs(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    before = systemd.pid()
    (systemd.home / "other.toml").write_text("")
    result = invoke("service", "install", "--config", "other.toml")
    assert result.exit_code == 0, result.stderr
    assert systemd.calls()[-1] == "systemctl --user restart claude-proxy.service"
    assert systemd.pid() != before
    assert f"CLAUDE_PROXY_CONFIG={systemd.home}/other.toml" in (systemd.home / USER_UNIT).read_text()


def test_a_relative_path_in_the_variable_makes_no_service(systemd: Machine, invoke: Invoke) -> None:
    (systemd.home / "other.toml").write_text("")
    result = invoke("service", "install", "--no-start", CLAUDE_PROXY_CONFIG="other.toml")
    assert (result.exit_code, "expected an absolute path" in result.stderr) == (2, True)
    assert not (systemd.home / USER_UNIT).exists()


def test_the_settings_file_is_its_owners_alone_and_never_written_again(systemd: Machine, invoke: Invoke) -> None:
    systemd.env_file.unlink()
    invoke("service", "install", "--no-start")
    assert stat.S_IMODE(systemd.env_file.stat().st_mode) == 0o600
    assert "# UPSTREAM_API_KEY=\n" in systemd.env_file.read_text()
    systemd.set(UPSTREAM_API_KEY="sk-mine")
    result = invoke("service", "install", "--no-start")
    assert "sk-mine" in systemd.env_file.read_text()
    assert "sk-mine" not in (systemd.home / USER_UNIT).read_text() + result.output


def test_no_start_writes_the_files_and_says_how_to_start(systemd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install", "--no-start")
    assert result.exit_code == 0
    assert "systemctl --user daemon-reload && systemctl --user enable --now claude-proxy" in result.stdout
    assert (systemd.home / USER_UNIT).exists()
    assert systemd.calls() == []


@pytest.mark.parametrize("options", [[], ["--system"]])
def test_print_only_prints(systemd: Machine, invoke: Invoke, options: list[str]) -> None:
    result = invoke("service", "install", "--print", *options)
    assert result.exit_code == 0
    assert "\n[Service]\n" in result.stdout
    assert ("DynamicUser=yes" in result.stdout) is bool(options)
    assert not (systemd.home / USER_UNIT).exists()
    assert systemd.calls() == []


def test_a_manager_is_not_needed_to_write_its_file(systemd: Machine, invoke: Invoke) -> None:
    (systemd.home / "bin/systemctl").unlink()
    assert invoke("service", "install", "--print").exit_code == 0
    assert invoke("service", "install", "--no-start").exit_code == 0


@pytest.mark.parametrize("command", ["install", "status", "remove"])
def test_without_a_manager_it_says_so(systemd: Machine, invoke: Invoke, command: str) -> None:
    (systemd.home / "bin/systemctl").unlink()
    result = invoke("service", command)
    assert result.exit_code == 1
    assert result.stderr.startswith("Neither systemctl (systemd) nor launchctl (launchd) is on the PATH")
    assert not (systemd.home / USER_UNIT).exists()


def test_a_manager_that_cannot_be_run_is_a_sentence(systemd: Machine, invoke: Invoke) -> None:
    (systemd.home / "bin/systemctl").write_text("#!/nowhere/at/all\n")
    result = invoke("service", "status")
    assert (result.exit_code, result.stderr) == (1, "systemctl cannot be run: no such file or directory.\n")


def test_a_refusal_stops_before_anything_is_written(systemd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install", FAKE_REFUSE="show", FAKE_WORDS=NO_BUS)
    assert result.exit_code == 1
    assert f"failed: {NO_BUS}. This login has no systemd" in result.stderr
    assert not (systemd.home / USER_UNIT).exists()


def test_another_refusal_is_told_in_the_managers_words(systemd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install", FAKE_REFUSE="enable", FAKE_WORDS="Unit is masked.")
    command = "`systemctl --user enable --now claude-proxy.service`"
    assert (result.exit_code, result.stderr) == (1, f"{command} failed: Unit is masked.\n")


def test_a_port_that_is_taken_is_noticed_before_anything_is_written(systemd: Machine, invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", systemd.port)) as other:
        hanging_up = threading.Thread(target=lambda: other.accept()[0].close())
        hanging_up.start()
        result = invoke("service", "install")
        hanging_up.join()
    assert result.exit_code == 1
    assert f"another program answers at http://127.0.0.1:{systemd.port} already" in result.stderr
    assert not (systemd.home / USER_UNIT).exists()


def test_settings_that_would_stop_its_start_stop_the_installation(systemd: Machine, invoke: Invoke) -> None:
    systemd.set(STREAM_IDLE_TIMEOUT="soon")
    result = invoke("service", "install")
    assert result.exit_code == 2
    assert result.stderr.startswith("STREAM_IDLE_TIMEOUT=soon")
    assert not (systemd.home / USER_UNIT).exists()


def test_a_port_left_to_chance_is_refused(systemd: Machine, invoke: Invoke) -> None:
    systemd.set(PORT=0)
    result = invoke("service", "install")
    assert (result.exit_code, "PORT=0 picks another port at each start" in result.stderr) == (1, True)


def test_settings_of_the_shell_that_the_service_does_not_see_are_named(systemd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install", "--no-start", PORT="1", BASE_URL="https://x.example", UPSTREAM_API_KEY="sk-mine")
    told = "Set in this shell, but not for the service: BASE_URL, UPSTREAM_API_KEY."
    assert told in result.stderr, "PORT is in the settings file"
    assert "sk-mine" not in result.output


def test_a_service_that_does_not_come_up_is_told_with_its_log(
    systemd: Machine, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "START_LIMIT", 0.0)
    with free_port() as another:
        result = invoke("service", "install", FAKE_PORT=str(another))
    assert result.exit_code == 1
    assert f"does not answer at http://127.0.0.1:{systemd.port}: connection refused" in result.stderr
    assert "journalctl --user -u claude-proxy" in result.stderr


def test_on_a_unix_socket_nobody_is_asked(systemd: Machine, invoke: Invoke) -> None:
    systemd.set(BIND="unix:/run/x.sock")
    result = invoke("service", "install")
    assert (result.exit_code, "listens on a Unix socket" in result.stdout) == (0, True)
    assert (status(invoke)[0], status(invoke)[1]["url"]) == (0, None)


def test_a_path_that_no_unit_can_hold_is_refused(systemd: Machine, invoke: Invoke) -> None:
    odd = systemd.home / "two\nlines"
    odd.mkdir()
    (odd / "proxy.py").touch()
    result = invoke("service", "install", "--app", str(odd / "proxy.py"))
    assert (result.exit_code, "two\\nlines" in result.stderr) == (1, True)


def test_status_tells_what_runs_and_what_answers(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    code, found = status(invoke)
    assert code == 0
    assert found == {
        "manager": "systemd",
        "file": str(systemd.home / USER_UNIT),
        "env_file": str(systemd.env_file),
        "installed": True,
        "enabled": True,
        "state": "active (running)",
        "pid": systemd.pid(),
        "url": f"http://127.0.0.1:{systemd.port}",
        "version": "9.9.9",
        "problem": "",
    }
    shown = invoke("service", "status")
    assert f"claude-proxy: active (running), pid {systemd.pid()}, starts by itself\n" in shown.stdout
    assert f"http://127.0.0.1:{systemd.port} answers: 9.9.9\n" in shown.stdout


def test_status_finds_the_address_from_any_directory(systemd: Machine, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd.env_file.write_text("")
    (systemd.env_file.parent / "claude-proxy.toml").write_text(f"port = {systemd.port}\n")
    invoke("service", "install")
    elsewhere = systemd.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "claude-proxy.toml").write_text("port = 1\n")
    monkeypatch.chdir(elsewhere)
    assert status(invoke)[1]["url"] == f"http://127.0.0.1:{systemd.port}"


def test_nothing_of_the_directory_where_install_is_called_becomes_part_of_the_service(
    systemd: Machine, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = systemd.home / "checkout"
    checkout.mkdir()
    for name in ("proxy.py", "claude-proxy.toml"):
        (checkout / name).write_text("import claude_proxy\n")
    monkeypatch.chdir(checkout)
    assert invoke("service", "install").exit_code == 0
    assert "checkout" not in (systemd.home / USER_UNIT).read_text()


def test_a_named_proxy_py_is_what_the_service_runs_with_the_file_beside_it(systemd: Machine, invoke: Invoke) -> None:
    systemd.env_file.write_text("")
    folder = systemd.home / "my app"
    folder.mkdir()
    (folder / "proxy.py").write_text("import claude_proxy\n")
    (folder / "claude-proxy.toml").write_text(f"port = {systemd.port}\n")
    assert invoke("service", "install", "--app", "my app/proxy.py").exit_code == 0
    assert f'serve --app "{folder}/proxy.py"\n' in (systemd.home / USER_UNIT).read_text()
    assert status(invoke)[1]["url"] == f"http://127.0.0.1:{systemd.port}"


def test_the_shells_configuration_folder_is_the_services_too(
    systemd: Machine, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd.env_file.write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(systemd.home / "mine"))
    file = systemd.home / "mine/claude-proxy/claude-proxy.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f"port = {systemd.port}\n")
    assert invoke("service", "install").exit_code == 0
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert f"\nEnvironment=XDG_CONFIG_HOME={systemd.home}/mine\n" in (systemd.home / USER_UNIT).read_text()
    assert status(invoke)[1]["url"] == f"http://127.0.0.1:{systemd.port}"


def test_status_before_the_installation(systemd: Machine, invoke: Invoke) -> None:
    code, found = status(invoke)
    assert (code, found["installed"], found["state"]) == (1, False, "inactive (dead)")
    assert found["problem"] == "not installed: claude-proxy service install"
    assert "(not there)" in invoke("service", "status").stdout


def test_status_of_a_service_that_has_died(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install", "--no-start")
    code, found = status(invoke)
    assert (code, found["installed"], found["pid"]) == (1, True, None)
    assert found["problem"] == "not running; see why: journalctl --user -u claude-proxy -n 20"


def test_status_of_a_unit_that_is_not_ours(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    (systemd.home / USER_UNIT).write_text("[Service]\nExecStart=/bin/true\n")
    code, found = status(invoke)
    assert (code, found["url"]) == (1, None)
    assert found["problem"].startswith("its address is not known: no unit of claude-proxy")


def test_remove_stops_it_and_keeps_the_settings(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    systemd.calls()
    result = invoke("service", "remove")
    assert result.exit_code == 0
    assert systemd.calls() == [
        "systemctl --user disable --now claude-proxy.service",
        "systemctl --user daemon-reload",
        "systemctl --user reset-failed claude-proxy.service",
    ]
    assert not (systemd.home / USER_UNIT).exists()
    assert not systemd.answers()
    assert f"Kept, because it may hold keys: {systemd.env_file}\n" in result.stdout
    assert systemd.env_file.exists()
    again = invoke("service", "remove")
    assert (again.exit_code, "There is no service to remove" in again.stdout) == (0, True)


def test_a_refused_stop_deletes_nothing(systemd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    result = invoke("service", "remove", FAKE_REFUSE="disable", FAKE_WORDS="Access denied")
    assert (result.exit_code, "Access denied" in result.stderr) == (1, True)
    assert (systemd.home / USER_UNIT).exists()


@pytest.fixture
def whole_machine(systemd: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The folders of root in the test's own, and a program that the hardened unit can see."""
    monkeypatch.setattr(service_managers, "SYSTEM_UNITS", systemd.home / "etc/systemd")
    monkeypatch.setattr(service_managers, "SYSTEM_ENV_FILE", systemd.env_file)
    monkeypatch.setattr(service_module, "hidden", lambda path: path.name == "hidden.toml")
    return systemd


def test_for_the_whole_machine_it_is_a_system_unit(whole_machine: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install", "--system")
    assert (result.exit_code, result.stderr) == (0, "")
    unit = (whole_machine.home / "etc/systemd/claude-proxy.service").read_text()
    assert "\nDynamicUser=yes\n" in unit
    assert "\nWorkingDirectory=/var/lib/claude-proxy\n" in unit
    assert f"\nEnvironment=XDG_CONFIG_HOME={whole_machine.env_file.parents[1]}\n" in unit
    assert whole_machine.calls() == ["systemctl daemon-reload", "systemctl enable --now claude-proxy.service"]
    assert invoke("service", "status", "--system").exit_code == 0
    assert invoke("service", "remove", "--system").exit_code == 0


def test_for_the_whole_machine_a_hidden_path_is_refused(whole_machine: Machine, invoke: Invoke) -> None:
    (whole_machine.home / "hidden.toml").write_text("")
    result = invoke("service", "install", "--system", "--config", "hidden.toml")
    assert result.exit_code == 1
    assert "hidden.toml: /home, /root and /tmp are hidden from it" in result.stderr
    assert whole_machine.calls() == []


def test_without_systemd_as_pid_1_the_machine_cannot_have_it(whole_machine: Machine, invoke: Invoke) -> None:
    words = "System has not been booted with systemd as init system (PID 1). Can't operate."
    result = invoke("service", "install", "--system", FAKE_REFUSE="show", FAKE_WORDS=words)
    assert (result.exit_code, "systemd is not running here" in result.stderr) == (1, True)


def test_a_folder_that_cannot_be_written_is_named(whole_machine: Machine, invoke: Invoke) -> None:
    (whole_machine.home / "etc").write_text("a file where a folder should be")
    result = invoke("service", "install", "--system", "--no-start")
    assert result.exit_code == 1
    assert f"{whole_machine.home}/etc/systemd/claude-proxy.service: not a directory." in result.stderr


def test_launchd_loads_the_agent(launchd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"runs at http://127.0.0.1:{launchd.port}" in result.stdout
    assert launchd.calls() == [
        "launchctl enable gui/N/dev.claude-proxy",
        f"launchctl bootstrap gui/N {launchd.home / AGENT}",
    ]
    job = plistlib.loads((launchd.home / AGENT).read_bytes())
    assert job["ProgramArguments"][-2:] == ["--env-file", str(launchd.env_file)]
    assert Path(job["StandardErrorPath"]).parent.is_dir()
    code, found = status(invoke)
    assert (code, found["manager"], found["state"], found["pid"]) == (0, "launchd", "running", launchd.pid())


def test_launchd_loads_a_changed_agent_again_and_leaves_an_unchanged_one(launchd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    pid = launchd.pid()
    launchd.calls()
    invoke("service", "install")
    assert (launchd.pid(), launchd.calls()) == (pid, ["launchctl kickstart gui/N/dev.claude-proxy"])
    (launchd.home / "other.toml").write_text("")
    assert invoke("service", "install", "--config", "other.toml").exit_code == 0
    assert [call.split()[1] for call in launchd.calls()] == ["bootout", "enable", "bootstrap"]
    assert launchd.pid() != pid


def test_launchd_unloads_it(launchd: Machine, invoke: Invoke) -> None:
    invoke("service", "install")
    launchd.calls()
    assert invoke("service", "remove").exit_code == 0
    assert launchd.calls() == ["launchctl bootout gui/N/dev.claude-proxy"]
    assert not (launchd.home / AGENT).exists()
    assert not launchd.answers()
    assert status(invoke)[1]["state"] == "not loaded"


def test_launchd_unloads_nothing_that_is_not_loaded(launchd: Machine, invoke: Invoke) -> None:
    invoke("service", "install", "--no-start")
    assert invoke("service", "remove").exit_code == 0
    assert launchd.calls() == []


@pytest.mark.parametrize(("verb", "hint"), [("print", "a login at the Mac's screen"), ("bootstrap", "")])
def test_launchds_refusal_is_told(launchd: Machine, invoke: Invoke, verb: str, hint: str) -> None:
    result = invoke("service", "install", FAKE_REFUSE=verb, FAKE_WORDS="Domain does not support specified action")
    assert result.exit_code == 1
    assert f"launchctl {verb}" in result.stderr
    assert "failed: Domain does not support specified action." in result.stderr
    assert hint in result.stderr


def test_launchd_has_no_service_for_the_whole_machine(launchd: Machine, invoke: Invoke) -> None:
    result = invoke("service", "install", "--system")
    assert (result.exit_code, "--system is for systemd" in result.stderr) == (1, True)


@pytest.mark.parametrize("program", ["systemctl", "launchctl"])
def test_what_the_files_say_really_runs_and_ends(
    home: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke, program: str
) -> None:
    """The command, folder and settings of the unit, run as the manager would, are a proxy that answers."""
    with machine(home, monkeypatch, program) as made:
        made.set(BASE_URL="https://upstream.example/api", DATA_DIR=home / "data")
        result = invoke("service", "install", FAKE_REAL="1")
        assert result.exit_code == 0, result.stderr + (made.state / "log").read_text()
        code, found = status(invoke)
        assert (code, found["problem"]) == (0, "")
        assert invoke("service", "remove").exit_code == 0
        log = (made.state / "log").read_text()  # only now: a thread writes it, perhaps after the first answer
        assert '"upstream":"https://upstream.example/api"' in log
        assert '"event":"drained"' in log


@pytest.mark.parametrize(("content", "expected"), [("NTFY_TOPIC='from the file'\n", "from the file"), (None, "before")])
def test_the_variables_of_the_file_are_the_proxys(
    home: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, content: str | None, expected: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr("claude_proxy.cli.serving.start", lambda *_: told.append(os.environ["NTFY_TOPIC"]) or 7)
    if content is not None:
        (home / "env").write_text(content)
    result = invoke("service", "run", "--env-file", "env", NTFY_TOPIC="before")
    assert (result.exit_code, told) == (7, [expected])


def test_a_file_of_variables_that_cannot_be_read_stops_the_start(home: Path, invoke: Invoke) -> None:
    (home / "env").mkdir()
    result = invoke("service", "run", "--env-file", "env")
    assert (result.exit_code, result.stderr) == (1, "env: is a directory.\n")
