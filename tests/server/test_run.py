"""`serve` as a process: start, signals, exit codes."""

import signal
import socket
import threading
from pathlib import Path

import pytest

from claude_proxy.server.limits import Limits
from claude_proxy.server.worker import Worker, WorkerConfig
from tests.server.apps import Recorder
from tests.server.process import Process, serving, start
from tests.server.wire import HOST, Wire, connect, get

pytestmark = pytest.mark.system  # each starts processes of its own

GATED = b"POST /gated HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n"
STOPS = [signal.SIGTERM, signal.SIGINT]


async def gated(wire: Wire) -> None:
    """Begin a stream that goes on when one more byte is sent."""
    await wire.send(GATED)
    await wire.head()
    assert await wire.chunk() == b"first"


async def is_refused(process: Process) -> bool:
    try:
        async with connect(process.port):
            return False
    except ConnectionRefusedError:
        return True


@pytest.mark.parametrize("number", STOPS)
async def test_a_stop_signal_ends_an_idle_server_with_0(number: int) -> None:
    async with serving() as process:
        async with connect(process.port) as idle:
            await idle.send(get())
            assert (await idle.response()).status == 200
            process.signal(number)
            assert await idle.rest() == b""
        assert await process.end() == (0, "down draining\n")
        assert [line["event"] for line in process.log] == ["listening", "draining", "drained"]


@pytest.mark.parametrize("number", STOPS)
async def test_a_stream_in_flight_finishes_before_the_end(number: int) -> None:
    async with serving() as process:
        async with connect(process.port) as wire:
            await gated(wire)
            process.signal(number)
            await process.event("draining")
            assert await is_refused(process)
            await wire.send(b"x")
            assert await wire.chunk() == b"last"
            assert await wire.chunk() == b""
            assert await wire.rest() == b""
        assert await process.end() == (0, "down draining\n")


async def test_a_request_that_is_running_at_the_stop_is_answered_with_connection_close() -> None:
    async with serving() as process:
        async with connect(process.port) as wire:
            await wire.send(b"POST /echo HTTP/1.1\r\n", HOST, b"Content-Length: 1\r\n\r\n")
            async with connect(process.port) as other:  # once it is answered, the first is surely being worked on
                await other.send(get())
                await other.response()
            process.signal(signal.SIGTERM)
            await process.event("draining")
            await wire.send(b"x")
            response = await wire.response()
            assert (response.body, response.all("connection")) == (b"POST /echo x", ["close"])
        assert (await process.end())[0] == 0


async def test_what_outlasts_the_grace_time_is_cut_and_the_app_still_closes() -> None:
    async with serving(GRACEFUL_TIMEOUT="0.1") as process:
        async with connect(process.port) as wire:
            await wire.send(get("/stuck"))
            await wire.head()
            assert await wire.chunk() == b"first"
            process.signal(signal.SIGTERM)
            assert await wire.rest() == b""  # no final chunk
        assert await process.end() == (0, "written down\ndown draining\n")
        assert process.events("grace_over")[0]["aborted"] == 1
        assert process.events("app_failed") == []


async def test_a_body_that_stops_coming_does_not_hold_up_the_end() -> None:
    async with serving(GRACEFUL_TIMEOUT="0.1") as process, connect(process.port) as wire:
        await gated(wire)
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 0


@pytest.mark.parametrize("number", STOPS)
async def test_a_second_signal_ends_at_once(number: int) -> None:
    async with serving() as process, connect(process.port) as wire:
        await gated(wire)
        process.signal(signal.SIGTERM)
        await process.event("draining")
        process.signal(number)
        assert await process.end() == (128 + number, "")


async def test_only_the_parser_that_serves_is_loaded() -> None:
    async with serving() as process, connect(process.port) as wire:
        await wire.send(get("/modules"))
        assert (await wire.response()).body == b""


# Addresses


async def test_several_hosts_are_listened_on() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with start(HOST="127.0.0.1,::1") as process:
        v4, v6 = (await process.event("listening"))["on"]
        assert v4.startswith("http://127.0.0.1:")
        assert v6.startswith("http://[::1]:")


async def test_a_unix_socket_is_listened_on_and_removed(tmp_path: Path) -> None:
    import asyncio

    path = tmp_path / "proxy.sock"
    async with serving(BIND=f"unix:{path}") as process:
        assert path.stat().st_mode & 0o777 == 0o660
        reader, writer = await asyncio.open_unix_connection(str(path))
        wire = Wire(reader, writer)
        await wire.send(get())
        assert (await wire.response()).status == 200
        writer.close()
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 0
    assert not path.exists()


async def test_a_dead_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(BIND=f"unix:{path}"):
        async with start(BIND=f"unix:{path}") as second:
            assert (await second.end())[0] == 1
            assert second.words[0].startswith(f"claude-proxy: Cannot listen on the Unix socket {path}")
        assert path.exists()


async def test_a_taken_port_is_one_sentence_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with start(PORT=str(port)) as process:
            assert await process.end() == (1, "")
            assert process.words == [
                f"claude-proxy: Port {port} on 127.0.0.1 is taken: stop what listens there, "
                "or choose another with PORT or --port."
            ]


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("203.0.113.1", "No interface of this machine has the address"),
        ("nowhere.invalid", "neither an address nor a name"),
        ("a" * 64, "(no valid name)"),
    ],
)
async def test_a_host_that_cannot_be_listened_on_is_one_sentence(host: str, part: str) -> None:
    async with start(HOST=host) as process:
        assert (await process.end())[0] == 1
        (sentence,) = process.words
        assert part in sentence
        assert "HOST or --host" in sentence
        assert "Errno" not in sentence


async def test_a_value_that_cannot_be_used_names_itself() -> None:
    async with start(PORT="http") as process:
        assert (await process.end())[0] == 1
        assert process.words == ["PORT=http (env PORT): expected a whole number from 0 to 65535, such as 3000."]


# Apps that do not start


@pytest.mark.parametrize(
    ("name", "sentence", "traceback", "code"),
    [
        ("broken_factory", "claude-proxy: BASE_URL=x is not a URL.", False, 2),
        ("buggy_factory", "claude-proxy: The app failed to load; the log above says where.", True, 1),
        ("missing", "claude-proxy: The app tests.server.program:missing cannot be loaded:", False, 1),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_app_that_does_not_load_is_a_sentence_and_exit_1_or_2_for_a_setting(
    name: str, sentence: str, traceback: bool, code: int, workers: str
) -> None:
    async with start(TEST_APP=name, WEB_CONCURRENCY=workers) as process:
        assert (await process.end())[0] == code
        assert process.words[0].startswith(sentence)
        assert bool(process.events("app_failed_to_load")) is traceback


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_app_whose_lifespan_fails_is_exit_1(workers: str) -> None:
    async with start(TEST_LIFESPAN="fails", WEB_CONCURRENCY=workers) as process:
        assert await process.end() == (1, "")
        assert "claude-proxy: The app failed to start; the log above says why." in process.words
        assert process.events("no ledger")


async def test_notes_about_foreign_names_are_logged() -> None:
    async with serving(WORKER_CLASS="uvicorn.workers.UvicornWorker") as process:
        (line,) = process.events("option")
        assert line["note"].startswith("WORKER_CLASS=uvicorn.workers.UvicornWorker has no effect under serve:")


def test_a_worker_in_a_thread_is_stopped_by_its_stop() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    app = Recorder()
    config = WorkerConfig(app, factory=False, limits=Limits(), grace=1, root_path="", trusted="")
    worker = Worker(config, on_ready=ready.set)
    thread = threading.Thread(target=worker.run, args=([listener],))
    thread.start()
    assert ready.wait(30)
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert app.lifespan == ["up", "down"]
