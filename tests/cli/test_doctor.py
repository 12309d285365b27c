"""The doctor as a whole, and what it finds on this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from claude_proxy.cli.doctor import line, local, notices, summary
from claude_proxy.cli.doctor.check import Check, Checks, fail, ok, run_all, warn
from claude_proxy.cli.project import read_settings
from claude_proxy.settings import Settings
from claude_proxy.simulator import Simulator
from tests.cli.conftest import Invoke, Program
from tests.cli.servers import HEALTHY, answering, listening, saying

SECRET = "sk-very-secret-1234"


def states(checks: Checks) -> list[tuple[str, str]]:
    return [(found.name, found.state) for found in checks]


# the run


def test_checks_come_in_the_order_of_their_groups_whoever_is_first() -> None:
    second_is_done = threading.Event()

    def first() -> Checks:
        assert second_is_done.wait(10)
        yield ok("first", "")

    def second() -> Checks:
        yield ok("second", "")
        second_is_done.set()

    assert states(iter(run_all({"first": first, "second": second}, 20))) == [("first", "ok"), ("second", "ok")]


def test_a_group_that_never_ends_is_left_behind_with_what_it_found() -> None:
    end = threading.Event()

    def stuck() -> Checks:
        end.wait(30)
        yield ok("stuck", "")

    found = run_all({"stuck": stuck, "other": lambda: iter([ok("other", "")])}, 0.1)
    end.set()
    assert states(iter(found)) == [("stuck", "fail"), ("other", "ok")]
    assert found[0].detail == "no result within 0.1 s"


def test_a_defect_of_a_check_does_not_hide_the_others() -> None:
    def broken() -> Checks:
        yield warn("broken", "so far")
        raise RuntimeError("a bug")

    found = run_all({"broken": broken, "other": lambda: iter([ok("other", "")])}, 10)
    assert states(iter(found)) == [("broken", "warn"), ("broken", "fail"), ("other", "ok")]
    assert "RuntimeError: a bug" in found[1].detail


# the command


async def test_all_in_order_ends_with_0(program: Program, home: Path) -> None:
    async with Simulator(keys={SECRET}) as simulator:
        environ = {"BASE_URL": simulator.base_url, "UPSTREAM_API_KEY": SECRET, "PORT": "0"}
        done = await anyio.to_thread.run_sync(lambda: program("doctor", environ=environ))
    assert done.returncode == 0, done.stdout
    assert "ok   credential UPSTREAM_API_KEY was accepted\n" in done.stdout
    assert "\nNothing failed" in done.stdout or "\nAll in order" in done.stdout
    assert "\x1b" not in done.stdout
    assert SECRET not in done.stdout + done.stderr


async def test_json_lists_the_checks_and_a_failure_ends_with_1(program: Program) -> None:
    async with Simulator(keys={"another"}) as simulator:
        environ = {"BASE_URL": simulator.base_url, "UPSTREAM_API_KEY": SECRET, "PORT": "0"}
        done = await anyio.to_thread.run_sync(lambda: program("doctor", "--json", environ=environ))
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (1, False)
    failed = [one for one in report["checks"] if one["state"] == "fail"]
    assert [one["name"] for one in failed] == ["credential"]
    assert failed[0]["fix"]
    assert SECRET not in done.stdout + done.stderr


def test_settings_that_cannot_be_read_are_a_failure_with_the_sentence(invoke: Invoke) -> None:
    result = invoke("doctor", PORT="many")
    assert result.exit_code == 1
    assert "PORT=many (env PORT): " in result.stdout
    assert "version" in result.stdout
    assert "dns" not in result.stdout


@pytest.mark.parametrize("name", ["UPSTREAM_CA_FILE", "ALLOWED_ORIGINS", "BASE_URL"])
def test_what_would_only_fail_later_is_a_failure_too(invoke: Invoke, home: Path, name: str) -> None:
    (home / "notes.txt").write_text("no certificate\n", encoding="utf-8")
    value = {"UPSTREAM_CA_FILE": "notes.txt", "ALLOWED_ORIGINS": "app.example", "BASE_URL": "https://api.anthropic.com/v1"}[name]
    result = invoke("doctor", **{name: value})
    assert result.exit_code == 1
    assert f"fail settings   {name}={value} (env {name}): expected " in result.stdout


def test_a_fix_stands_below_its_finding() -> None:
    assert (
        line(fail("dns", "no address", "Check the name.")).plain
        == "fail dns        no address\n                fix: Check the name."
    )
    assert line(ok("dns", "1.2.3.4")).plain == "ok   dns        1.2.3.4"


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([ok("a", "")], "\nAll in order."),
        ([ok("a", ""), warn("b", "")], "\nNothing failed, 1 to note."),
        ([fail("a", "", ""), warn("b", "")], "\n1 failed, 1 to note. Fix the first failure first: others may follow from it."),
    ],
)
def test_the_last_line_sums_up(checks: list[Check], said: str) -> None:
    assert summary(checks) == said


# this machine


def test_versions_are_told() -> None:
    (found,) = local.versions()
    assert "uvicorn" in found.detail
    assert local._version("no-such-package") is None


@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        ("echo '2.1.330 (Claude Code)'", "ok", "Claude Code 2.1.330"),
        ("exit 1", "warn", "--version failed"),
        (None, "warn", "not on the PATH"),
    ],
)
def test_claude_code_is_looked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, state: str, said: str
) -> None:
    monkeypatch.setenv("PATH", str(home))
    if script is not None:
        (home / "claude").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (home / "claude").chmod(stat.S_IRWXU)
    (found,) = local.claude()
    assert found.state == state
    assert said in found.detail


def test_where_the_settings_come_from_is_told(own_file: Path) -> None:
    assert next(local.settings(read_settings(environ={}))).detail == "all defaults"
    own_file.write_text("port = 3001\n", encoding="utf-8")
    found = list(local.settings(read_settings(environ={"LOG_LEVEL": "debug"})))
    assert [one.detail for one in found] == [f"2 set ({own_file}, environment)"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"host": "::1"}, []),
        ({"host": "0.0.0.0"}, ["warn"]),
        ({"host": "0.0.0.0", "upstream_api_key": "u"}, ["warn"]),
        ({"host": "0.0.0.0", "upstream_api_key": "u", "proxy_api_key": "p"}, ["ok"]),
    ],
)
def test_who_can_reach_it_is_told(settings: dict[str, Any], expected: list[str]) -> None:
    assert [found.state for found in local.exposure(Settings(**settings))] == expected


async def test_a_running_proxy_is_found_on_its_port() -> None:
    async with listening(answering(HEALTHY)) as server:
        (found,) = await anyio.to_thread.run_sync(lambda: list(local.port(Settings(port=server.port))))
    assert (found.state, found.detail) == ("ok", f"claude-proxy 9.9.9 answers at {server.url}")


async def test_another_program_on_the_port_is_a_failure() -> None:
    async with listening(saying(b"HTTP/1.1 200 OK\r\nserver: other\r\ncontent-length: 0\r\n\r\n")) as server:
        (found,) = await anyio.to_thread.run_sync(lambda: list(local.port(Settings(port=server.port))))
    assert found.state == "fail"
    assert "server: other" in found.detail


@contextlib.contextmanager
def reserved() -> Iterator[int]:
    """A port bound here without listening, so that nobody else gets it who does not insist."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_a_free_port_is_ok() -> None:
    with reserved() as port:
        (found,) = local.port(Settings(port=port))
    assert found.state == "ok"
    assert "is free" in found.detail
    assert states(local.port(Settings(port=0))) == [("port", "ok")]


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    assert local.free_port("192.0.2.1", 3000).state == "fail"  # TEST-NET-1, RFC 5737


def test_a_port_that_needs_more_rights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local.socket, "socket", Forbidden)  # tests may run as root, to whom all is allowed
    assert "more rights" in local.free_port("127.0.0.1", 80).detail


def test_the_data_folder_is_tried(home: Path) -> None:
    (made,) = local.data_dir(Settings(data_dir=home))
    assert (made.state, made.detail) == ("ok", f"{home} can be written")
    (missing,) = local.data_dir(Settings(data_dir=home / "a" / "b"))
    assert (missing.state, missing.detail) == ("ok", f"{home / 'a' / 'b'} can be created")
    assert not (home / "a").exists()
    (home / "file").touch()
    (blocked,) = local.data_dir(Settings(data_dir=home / "file" / "b"))
    assert blocked.state == "fail"


@pytest.mark.parametrize(
    ("stated", "state", "said"),
    [
        ("", "ok", "is not set in this shell"),
        ("http://127.0.0.1:3000", "fail", "lacks the prefix /api/anthropic"),
        ("https://api.z.ai/api/anthropic", "warn", "does not lead to this proxy"),
    ],
)
def test_the_base_url_of_this_shell_is_judged(stated: str, state: str, said: str) -> None:
    found = list(local.client_side(Settings(), {"ANTHROPIC_BASE_URL": stated, "HOME": "/nonexistent"}))
    assert [one.state for one in found] == [state]
    assert said in found[0].detail


OURS = {"ANTHROPIC_BASE_URL": "http://localhost:3000/api/anthropic/", "HOME": "/nonexistent"}
SET = {
    "API_TIMEOUT_MS": "3000000",
    "CLAUDE_STREAM_IDLE_TIMEOUT_MS": "1800000",
    "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
    "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
    "ANTHROPIC_DEFAULT_SONNET_MODEL": "glm-5.3",
}


@pytest.mark.parametrize(
    ("settings", "changes", "lacking"),
    [
        ({}, {}, []),
        ({}, {"CLAUDE_CODE_AUTO_MODE_SERVER": ""}, ["CLAUDE_CODE_AUTO_MODE_SERVER=0"]),
        ({}, {"CLAUDE_CODE_AUTO_MODE_SERVER": "1"}, ["CLAUDE_CODE_AUTO_MODE_SERVER=0"]),
        ({}, {"CLAUDE_CODE_AUTO_MODE_SERVER": "false"}, []),
        ({}, {"ANTHROPIC_DEFAULT_SONNET_MODEL": ""}, ["ANTHROPIC_DEFAULT_SONNET_MODEL is not set"]),
        ({}, {"API_TIMEOUT_MS": ""}, ["API_TIMEOUT_MS=3000000"]),
        ({}, {"API_TIMEOUT_MS": "600000", "CLAUDE_STREAM_IDLE_TIMEOUT_MS": ""}, ["CLAUDE_STREAM_IDLE_TIMEOUT_MS=1800000"]),
        (
            {"base_url": "https://api.anthropic.com"},
            {"CLAUDE_CODE_AUTO_MODE_SERVER": "", "ANTHROPIC_DEFAULT_SONNET_MODEL": ""},
            [],
        ),
        ({"base_url": "https://llm.example"}, {"CLAUDE_CODE_AUTO_MODE_SERVER": ""}, ["CLAUDE_CODE_AUTO_MODE_SERVER=0"]),
    ],
)
def test_what_claude_code_lacks_behind_this_upstream_is_told(
    settings: dict[str, Any], changes: dict[str, str], lacking: list[str]
) -> None:
    first, *others = local.client_side(Settings(**settings), {**OURS, **SET, **changes})
    assert (first.state, "leads to the proxy" in first.detail) == ("ok", True)
    assert [one.state for one in others] == ["warn"] * len(lacking)
    assert all(words in one.detail for one, words in zip(others, lacking, strict=True))


def test_what_claude_code_has_from_its_settings_file_it_does_not_lack(home: Path) -> None:
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text(json.dumps({"env": {**OURS, **SET}}), encoding="utf-8")
    assert [one.state for one in local.client_side(Settings(), {"HOME": str(home)})] == ["ok"]


def test_a_shell_that_leads_elsewhere_lacks_nothing() -> None:
    found = list(local.client_side(Settings(), {"ANTHROPIC_BASE_URL": "https://else.example", "HOME": "/nonexistent"}))
    assert len(found) == 1


@pytest.mark.parametrize(("value", "noticed"), [("https://else.example", True), ("http://localhost:3000/api/anthropic", False)])
def test_a_settings_file_of_claude_code_that_wins_is_noticed(home: Path, value: str, noticed: bool) -> None:
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": value}}), encoding="utf-8")
    found = list(local.client_side(Settings(), {"HOME": str(home)}))
    assert ("settings.json" in found[0].detail) is noticed


@pytest.mark.parametrize(
    ("environ", "noticed"),
    [
        ({"http_proxy": "http://outer:1"}, True),
        ({"ALL_PROXY": "http://outer:1", "NO_PROXY": "corp.example"}, True),
        ({"HTTP_PROXY": "http://outer:1", "no_proxy": "127.0.0.1,localhost"}, False),
        ({"HTTPS_PROXY": "http://outer:1"}, False),
    ],
)
def test_an_outbound_proxy_that_hides_loopback_is_noticed(environ: dict[str, str], noticed: bool) -> None:
    found = list(local.client_side(Settings(), {**environ, "HOME": "/nonexistent"}))
    assert (len(found) == 2) is noticed


def test_a_free_port_at_each_start_has_no_base_url_to_judge() -> None:
    assert list(local.client_side(Settings(port=0), {})) == []


# notices


async def looked(**settings: Any) -> Check:
    (found,) = await anyio.to_thread.run_sync(lambda: list(notices.ntfy(Settings(**settings))))
    return found


async def test_without_a_topic_nothing_is_asked() -> None:
    assert (await looked()).state == "ok"


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        (answering(b'{"healthy":true}'), "ok", "is healthy"),
        (answering(b'{"healthy":false}'), "warn", "says it is not healthy"),
        (answering(b'{"status":"ok"}'), "fail", "does not answer like an ntfy server"),
        (answering(b'{"healthy":"yes"}'), "warn", "says it is not healthy"),
        (answering(b"<html>Sign in", "403 Forbidden"), "fail", "a health check with 403"),
        (answering(b"", "302 Found\r\nLocation: https://portal.example/"), "fail", "redirects"),
        (answering(b""), "fail", "does not answer like an ntfy server"),
        (answering(b"", "404 Not Found"), "fail", "a health check with 404"),
        (answering(b"<html>"), "fail", "does not answer like an ntfy server"),
        (answering(b"[]"), "fail", "does not answer like an ntfy server"),
    ],
)
async def test_the_ntfy_server_is_asked_for_its_health(answer: Any, state: str, said: str) -> None:
    async with listening(answer) as server:
        found = await looked(ntfy_topic="t", ntfy_server=server.url, ntfy_token=SECRET)
    assert found.state == state
    assert said in found.detail
    assert server.heads[0].startswith(b"GET /v1/health ")
    assert SECRET.encode() not in server.heads[0]


async def test_a_ntfy_server_that_is_not_there() -> None:
    with reserved() as port:
        found = await looked(ntfy_topic="t", ntfy_server=f"http://127.0.0.1:{port}")
    assert (found.state, found.detail) == ("fail", f"http://127.0.0.1:{port} cannot be reached (connection refused)")


async def test_the_ntfy_command_is_looked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    assert (await looked(ntfy_topic="t", ntfy_via="cli")).state == "fail"
    install(home / "ntfy")
    assert (await looked(ntfy_topic="t", ntfy_via="cli")).state == "ok"


def install(file: Path) -> None:
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(stat.S_IRWXU)
