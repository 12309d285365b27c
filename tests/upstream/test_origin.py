"""Where an upstream lives, and which outbound proxy is on the way."""

from __future__ import annotations

import base64

import pytest

from claude_proxy.errors import SettingsError
from claude_proxy.upstream.origin import OutboundProxy, parse_origin

PROXY = "http://p.example:3128"


def proxy_of(url: str, **environ: str) -> str | None:
    """Which proxy `url` is reached through, as host:port."""
    proxy = parse_origin(url, environ).proxy
    return None if proxy is None else f"{proxy.host}:{proxy.port}"


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path", "header", "authority"),
    [
        ("https://api.z.ai/api/anthropic", "api.z.ai", 443, True, b"/api/anthropic", b"api.z.ai", b"api.z.ai:443"),
        ("http://localhost:11434", "localhost", 11434, False, b"", b"localhost:11434", b"localhost:11434"),
        ("http://[::1]:8080/x", "::1", 8080, False, b"/x", b"[::1]:8080", b"[::1]:8080"),
        ("https://[::1]", "::1", 443, True, b"", b"[::1]", b"[::1]:443"),
        ("https://h:443", "h", 443, True, b"", b"h:443", b"h:443"),
    ],
)
def test_a_base_url_is_read(url: str, host: str, port: int, tls: bool, path: bytes, header: bytes, authority: bytes) -> None:
    origin = parse_origin(url, {})
    assert (origin.host, origin.port, origin.tls, origin.base_path, origin.host_header) == (host, port, tls, path, header)
    assert (origin.proxy, origin.target_prefix, origin.authority) == (None, path, authority)
    assert origin.first_hop == ("upstream", host, port)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://p.example:3128", OutboundProxy("p.example", 3128, None)),
        ("HTTP://p.example:3128/", OutboundProxy("p.example", 3128, None)),
        (" http://p.example:3128 ", OutboundProxy("p.example", 3128, None)),
        ("p.example:3128", OutboundProxy("p.example", 3128, None)),
        ("http://p.example", OutboundProxy("p.example", 80, None)),
        ("http://[2001:db8::1]:3128", OutboundProxy("2001:db8::1", 3128, None)),
        ("http://me:p%40ss@p.example:1", OutboundProxy("p.example", 1, b"Basic " + base64.b64encode(b"me:p@ss"))),
    ],
)
def test_a_proxy_is_read(variable: str, url: str, expected: OutboundProxy) -> None:
    origin = parse_origin("https://api.example", {variable: url})
    assert origin.proxy == expected
    assert origin.first_hop == ("outbound proxy", expected.host, expected.port)


@pytest.mark.parametrize(
    ("environ", "https", "http"),
    [
        ({"HTTPS_PROXY": PROXY}, "p.example:3128", None),
        ({"HTTP_PROXY": PROXY}, None, "p.example:3128"),
        ({"http_proxy": PROXY}, None, "p.example:3128"),
        ({"ALL_PROXY": PROXY}, "p.example:3128", "p.example:3128"),
        ({"ALL_PROXY": PROXY, "HTTPS_PROXY": "http://s:1"}, "s:1", "p.example:3128"),
        ({"https_proxy": "http://small:1", "HTTPS_PROXY": PROXY}, "small:1", None),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY, "ALL_PROXY": PROXY}, None, "p.example:3128"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": PROXY}, None, "p.example:3128"),
        ({"ALL_PROXY": "socks5://127.0.0.1:1080"}, None, None),
        ({"ALL_PROXY": "socks5h://127.0.0.1:1080", "HTTPS_PROXY": PROXY}, "p.example:3128", None),
    ],
)
def test_which_variable_counts(environ: dict[str, str], https: str | None, http: str | None) -> None:
    assert (proxy_of("https://api.example", **environ), proxy_of("http://api.example", **environ)) == (https, http)


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("exempt", ["10.0.0.0/8", "10.1.2.3", "10.1.2.3:8443", "*"])
def test_an_upstream_that_no_proxy_names_is_reached_directly(variable: str, exempt: str) -> None:
    assert proxy_of("https://10.1.2.3:8443", HTTPS_PROXY=PROXY, **{variable: exempt}) is None
    assert proxy_of("https://10.1.2.3:8443", HTTPS_PROXY=PROXY, **{variable: "192.168.0.0/16"}) == "p.example:3128"


def test_an_http_upstream_on_the_usual_port_is_exempt_by_that_port() -> None:
    assert proxy_of("http://api.example", HTTP_PROXY=PROXY, NO_PROXY="api.example:80") is None
    assert proxy_of("https://api.example", HTTPS_PROXY=PROXY, NO_PROXY="api.example:80") == "p.example:3128"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("socks5://p:1", "socks5://p:1"),
        ("https://me:secret@p:1", "https://***@p:1"),
        ("http://me:secret@p:http", "http://***@p:http"),
        ("me:secret@p:99999", "http://***@p:99999"),
        ("http://p:0", "http://p:0"),
        ("http://", "http://"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused(variable: str, url: str, shown: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_origin("https://api.example", {variable: url})
    assert caught.value.message == (
        f"HTTPS_PROXY={shown}: expected an http:// proxy, such as http://proxy.example:3128. "
        "For an upstream that needs none, name it in NO_PROXY."
    )
    assert proxy_of("https://api.example", **{variable: url, "NO_PROXY": "api.example"}) is None


def test_an_all_proxy_that_is_broken_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match=r"^ALL_PROXY=http://p:x: expected"):
        parse_origin("https://api.example", {"all_proxy": "http://p:x"})


def test_the_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert parse_origin("https://api.example").proxy == OutboundProxy("p.example", 3128, None)
