"""A client in a network namespace of its own, and the upstream in another: the cable between them is pulled.

Run in a new namespace by `test_liveness.py`; prints the error's code (or -) and the seconds until it was noticed.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the tests' own helpers

from claude_proxy.errors import ConnectionLost
from claude_proxy.upstream.dial import Dialer, parse_origin
from claude_proxy.upstream.liveness import Probing
from claude_proxy.upstream.pool import Pool
from tests.integration.leftovers import until

OURS, THEIRS = "192.0.2.1", "192.0.2.2"
SHORT = Probing(idle=1, interval=1, count=2, unacknowledged=2.0)
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def upstream() -> None:
    """Accept one connection, read, and never answer. Started before its address is there."""
    say("ready")
    sys.stdin.readline()
    with socket.create_server((THEIRS, 8080)) as server:
        say("listening")
        conn, _ = server.accept()
        with conn:
            while conn.recv(65536):
                pass


def plug_in() -> subprocess.Popen[str]:
    """Start the upstream at the other end of a cable."""
    command = ["unshare", "--net", sys.executable, __file__, "upstream"]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert peer.stdin is not None
    assert peer.stdout is not None
    assert peer.stdout.readline() == "ready\n"
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(peer.pid))
    run("ip", "address", "add", f"{OURS}/30", "dev", "near")
    run("ip", "link", "set", "near", "up")
    there = ("nsenter", "--target", str(peer.pid), "--net")
    run(*there, "ip", "address", "add", f"{THEIRS}/30", "dev", "far")
    run(*there, "ip", "link", "set", "far", "up")
    peer.stdin.write("go\n")
    peer.stdin.flush()
    assert peer.stdout.readline() == "listening\n"
    return peer


async def client(peer: subprocess.Popen[str], sent: str, probing: Probing) -> None:
    loop = asyncio.get_running_loop()
    origin = parse_origin(f"http://{THEIRS}:8080", {})
    pool = Pool(origin, connect_timeout=5, expiry=3600, limit=1, dialer=Dialer(origin, probing=probing))
    connection = await pool.connect(loop)
    pulled = time.monotonic()
    run("nsenter", "--target", str(peer.pid), "--net", "ip", "link", "set", "far", "down")
    code = "-"
    if sent == "nothing":
        await until(lambda: connection.closed, within=60)
    else:
        body = b"x" * (5_000_000 if sent == "large" else 100)
        connection.send(HEAD % len(body), body)
        try:
            await connection.head()
        except ConnectionLost as error:
            code = error.code
    say(f"{code} {time.monotonic() - pulled:.1f}")
    pool.close()


def main() -> None:
    """`upstream`; or what has been sent when the cable is pulled, and `real` for the real figures (half a minute)."""
    if sys.argv[1] == "upstream":
        upstream()
        return
    peer = plug_in()
    try:
        asyncio.run(client(peer, sys.argv[1], Probing() if "real" in sys.argv else SHORT))
    finally:
        peer.kill()
        peer.wait()


main()
