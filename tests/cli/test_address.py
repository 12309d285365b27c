"""Where the proxy is, and whether it answers there."""

from __future__ import annotations

import socket

import anyio.to_thread
import pytest

from claude_proxy.cli.address import Health, probe, proxy_url, same_place
from claude_proxy.settings import Settings
from tests.cli.servers import HEALTHY, answering, listening, saying


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::", "http://[::1]:3000"),
        ("[::1]", "http://[::1]:3000"),
        ("proxy.lan", "http://proxy.lan:3000"),
        ("10.0.0.5, ::1", "http://10.0.0.5:3000"),
    ],
)
def test_the_address_is_one_that_a_client_can_use(host: str, url: str) -> None:
    assert proxy_url(Settings(host=host)) == url


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:3000/api/anthropic", "http://127.0.0.1:3000", True),
        ("http://[::1]:3000", "http://localhost:3000", True),
        ("http://localhost", "http://127.0.0.1:80/x", True),
        ("https://a.example", "https://A.example:443/x", True),
        ("http://localhost:3001", "http://localhost:3000", False),
        ("https://a.example", "https://b.example", False),
    ],
)
def test_names_of_this_machine_are_one_place(one: str, other: str, same: bool) -> None:
    assert same_place(one, other) is same


async def probed(url: str) -> Health:
    return await anyio.to_thread.run_sync(probe, url)


async def test_a_running_proxy_tells_its_version() -> None:
    async with listening(answering(HEALTHY)) as server:
        assert await probed(server.url) == Health("9.9.9")
    assert server.heads[0].startswith(b"GET /health HTTP/1.1\r\n")


async def test_a_proxy_below_a_path_is_asked_there() -> None:
    async with listening(answering(HEALTHY)) as server:
        assert (await probed(f"{server.url}/gw")).version == "9.9.9"
    assert server.heads[0].startswith(b"GET /gw/health ")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (answering(b"<html>", headers="server: nginx\r\n"), "another program answers there (server: nginx)"),
        (answering(b"{}", "404 Not Found"), "another program answers there (status 404)"),
        (answering(b'["status"]'), "another program answers there (status 200)"),
        (saying(b"220 mail.example ESMTP\r\n"), "something listens there, but does not speak HTTP"),
        (saying(b""), "something listens there, but does not speak HTTP"),
    ],
)
async def test_another_program_is_told_apart(answer: object, problem: str) -> None:
    async with listening(answer) as server:  # type: ignore[arg-type]
        found = await probed(server.url)
    assert (found.version, found.listening) == (None, True)
    assert found.problem.startswith(problem)


def test_nobody_listening_is_told_apart() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        found = probe(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert found == Health(None, "connection refused", listening=False)


def test_a_program_that_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = probe(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
    assert found.problem == "something listens there, but does not speak HTTP (no answer in time)"
