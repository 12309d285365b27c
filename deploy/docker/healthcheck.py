"""Asks the proxy in this container for /health: exits with 0 after a 200, else with 1 and a line that says why.

Plain sockets: it runs every 30 seconds, and http.client would triple its CPU time.
"""

import os
import socket
import sys


def port() -> int:
    """Return the port the proxy listens on: from BIND (host:port), else PORT, else 3000."""
    bound = variable("BIND").rpartition(":")[2]
    return int(bound if bound.isdigit() else variable("PORT") or 3000)


def variable(name: str) -> str:
    """Return its value without surrounding quotes and white space: `docker run --env-file` keeps quotes, the proxy drops them."""
    return os.environ.get(name, "").strip(" \t\r\n\ufeff\"'")


def main() -> int:
    """Return the exit code for Docker: 0 if healthy, else 1."""
    try:
        with socket.create_connection(("127.0.0.1", port()), timeout=4) as peer:
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = peer.recv(64).split(b"\r\n")[0]
    except OSError as error:
        sys.stdout.write(f"no answer on port {port()}: {error}")
        return 1
    sys.stdout.write(status.decode("latin-1"))
    return 0 if status.split(b" ")[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
