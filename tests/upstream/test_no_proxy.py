"""NO_PROXY: which hosts are reached without the outbound proxy."""

from __future__ import annotations

import time

import pytest

from claude_proxy.upstream.no_proxy import is_exempt


@pytest.mark.parametrize(
    ("entry", "exempt", "not_exempt"),
    [
        # names
        ("", [], ["api.example", "10.0.0.1"]),
        ("api.example", ["api.example", "API.Example", "v2.api.example", "api.example."], ["example", "myapi.example"]),
        ("API.EXAMPLE", ["api.example"], []),
        ("api.example.", ["api.example", "api.example."], []),
        ("example", ["api.example", "example"], ["example.org", "myexample"]),
        (".api.example", ["api.example", "v2.api.example"], ["myapi.example"]),
        ("*.api.example", ["api.example", "v2.api.example"], ["myapi.example"]),
        ("api.*.example", [], ["api.x.example"]),
        ("bücher.example", ["xn--bcher-kva.example", "a.xn--bcher-kva.example"], ["bucher.example"]),
        ("*", ["api.example", "10.0.0.1", "2001:db8::1"], []),
        # addresses
        ("10.1.2.3", ["10.1.2.3"], ["10.1.2.4", "110.1.2.3", "10.1.2.30"]),
        ("1.2.3", [], ["0.1.2.3", "10.1.2.3"]),
        ("2001:db8::1", ["2001:db8::1", "2001:DB8:0:0:0:0:0:1"], ["2001:db8::11", "2001:db8::2"]),
        ("[2001:db8::1]", ["2001:db8::1"], ["2001:db8::2"]),
        ("fe80::1", ["fe80::1", "fe80::1%eth0"], ["fe80::2%eth0"]),
        ("10.1.2.3", ["::ffff:10.1.2.3"], ["::ffff:10.1.2.4"]),
        # networks
        (
            "10.0.0.0/8",
            ["10.0.0.0", "10.1.2.3", "10.255.255.255", "::ffff:10.1.2.3"],
            ["11.0.0.0", "9.255.255.255", "10.example"],
        ),
        ("10.1.2.3/8", ["10.9.9.9"], ["11.1.2.3"]),
        ("192.168.16.0/20", ["192.168.16.0", "192.168.31.255"], ["192.168.15.255", "192.168.32.0"]),
        ("10.1.2.3/32", ["10.1.2.3"], ["10.1.2.2"]),
        ("0.0.0.0/0", ["10.1.2.3", "203.0.113.7"], ["2001:db8::1", "api.example"]),
        ("fd00::/8", ["fd00::1", "fdff:1::9"], ["fc00::1", "fe00::1", "10.0.0.1"]),
        ("2001:db8::/33", ["2001:db8:7fff::1"], ["2001:db8:8000::1"]),
        # what cannot be read exempts nothing
        ("10.0.0.0/33", [], ["10.0.0.0", "10.1.2.3"]),
        ("10.0.0.0/x", [], ["10.0.0.0"]),
        ("10.0.0.0/8:443", [], ["10.0.0.1"]),
        ("http://api.example", [], ["api.example"]),
        ("/", [], ["api.example", "10.0.0.1"]),
        (".", [], ["api.example"]),
        ("*.", [], ["api.example"]),
        (":443", [], ["api.example", "10.0.0.1"]),
        ("[", [], ["api.example"]),
        ("ü" * 70, [], ["api.example"]),
    ],
)
def test_one_entry(entry: str, exempt: list[str], not_exempt: list[str]) -> None:
    hosts = [*exempt, *not_exempt]
    assert [host for host in hosts if is_exempt(entry, host, 443)] == exempt


@pytest.mark.parametrize(
    ("entry", "host", "ports"),
    [
        ("api.example:8443", "api.example", {8443}),
        ("api.example:8443", "v2.api.example", {8443}),
        (".api.example:8443", "v2.api.example", {8443}),
        ("*.api.example:8443", "api.example", {8443}),
        ("10.1.2.3:443", "10.1.2.3", {443}),
        ("[2001:db8::1]:443", "2001:db8::1", {443}),
        ("2001:db8::443", "2001:db8::", set()),  # an address, not a port behind one
        ("api.example:", "api.example", set()),
        ("api.example:https", "api.example", set()),
        ("api.example:+443", "api.example", set()),
        ("*:443", "api.example", set()),  # neither curl nor Go has it
    ],
)
def test_an_entry_with_a_port_exempts_that_port_only(entry: str, host: str, ports: set[int]) -> None:
    assert {port for port in (80, 443, 8443) if is_exempt(entry, host, port)} == ports


@pytest.mark.parametrize("separator", [",", ", ", " ", " ,\t", ",,", "\n", ",\r\n"])
@pytest.mark.parametrize("around", ["", " ", ","])
def test_any_entry_of_a_list_exempts(separator: str, around: str) -> None:
    no_proxy = around + separator.join(["one.example", "10.0.0.0/8", "two.example:81"]) + around
    hosts = [("one.example", 1), ("10.1.1.1", 1), ("two.example", 81), ("two.example", 1), ("three.example", 1)]
    assert [is_exempt(no_proxy, host, port) for host, port in hosts] == [True, True, True, False, False]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "app.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_this_machine_is_always_exempt(host: str) -> None:
    assert is_exempt("", host, 80)


@pytest.mark.parametrize("host", ["localhost.example", "notlocalhost", "128.0.0.1", "::2", ""])
def test_what_only_looks_like_this_machine_is_not(host: str) -> None:
    assert not is_exempt("", host, 80)


@pytest.mark.parametrize("value", [" " * 2**20, "," * 2**20, "a" * 2**20, "[" * 2**20, ":" * 2**20, "1:" * 2**19, "[]" * 2**19])
def test_a_huge_value_is_read_in_linear_time(value: str) -> None:
    before = time.process_time()
    assert not is_exempt(value, "api.example", 443)
    assert time.process_time() - before < 0.5
