from typing import Any

import pytest
from starlette.requests import Request

from claude_proxy.web.address import Address, address_of


def request(host: bytes | None = None, **changes: Any) -> Request:
    headers = [] if host is None else [(b"host", host)]
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "server": ("10.0.0.7", 3000), "root_path": ""}
    return Request({**scope, "query_string": b"", "headers": headers, **changes})


@pytest.mark.parametrize("host", ["localhost:3000", "proxy.example", "[::1]:3000", "[2001:db8::1]", "a_b-c.d:65535"])
def test_the_address_is_the_one_the_client_used(host: str) -> None:
    assert address_of(request(host.encode())).to("/x") == f"http://{host}/x"


@pytest.mark.parametrize(
    "host",
    [
        b"$(reboot)",
        b"a;b",
        b"a`b`",
        b"a'b",
        b'a"b',
        b"<script>",
        b"a b",
        b"a/b",
        b"user@host",
        b"",
        b"a:b",
        b"h\xc3\xa9",
        b"a:1\n",
    ],
)
def test_a_host_that_could_do_harm_in_a_shell_or_page_is_not_repeated(host: bytes) -> None:
    assert address_of(request(host)).origin == "http://10.0.0.7:3000"


def test_without_a_host_the_socket_names_the_address() -> None:
    assert address_of(request()).origin == "http://10.0.0.7:3000"
    assert address_of(request(server=("::1", 3000))).origin == "http://[::1]:3000"
    assert address_of(request(server=("/run/proxy.sock", None))).origin == "http://localhost"
    assert address_of(request(server=None)).origin == "http://localhost"


@pytest.mark.parametrize(("scheme", "shown"), [("https", "https"), ("wss", "https"), ("ws", "http"), ("http", "http")])
def test_the_scheme_is_the_one_that_the_server_trusts(scheme: str, shown: str) -> None:
    assert address_of(request(b"h", scheme=scheme)).origin == f"{shown}://h"


def test_a_known_prefix_stands_in_addresses_and_links() -> None:
    address = address_of(request(b"h", root_path="/any/prefix/"))
    assert address == Address("http://h", "/any/prefix")
    assert address.to("/docs") == "http://h/any/prefix/docs"
    assert address.links == "/any/prefix/"


def test_without_a_known_prefix_links_are_relative() -> None:
    assert address_of(request(b"h")).links == ""


def test_a_prefix_is_percent_encoded() -> None:
    assert address_of(request(b"h", root_path="/a b/'$(x)")).root == "/a%20b/%27%24%28x%29"
