"""The way to the upstream: each step fails by itself, with its own fix; no secret is shown, nothing is billed."""

from __future__ import annotations

import datetime
import email.utils
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import trustme

from claude_proxy.cli.doctor import way
from claude_proxy.cli.doctor.check import Check
from claude_proxy.cli.doctor.trust import trust_fix
from claude_proxy.cli.doctor.way import upstream
from claude_proxy.settings import Settings
from claude_proxy.simulator import Recorded, Scenario, Simulator, error, raw
from tests.cli.servers import answering, listening, saying, tunnelling

SECRET = "sk-very-secret-1234"
OURS = {"ANTHROPIC_BASE_URL": "http://localhost:3000/api/anthropic"}


async def look(base_url: str, environ: Mapping[str, str] | None = None, **settings: Any) -> dict[str, Check]:
    """The checks by name; none may show the secret."""
    stated = Settings(base_url=base_url, **settings)
    found = await anyio.to_thread.run_sync(lambda: list(upstream(stated, environ or {})))
    assert all(check.fix for check in found if check.state == "fail")
    assert SECRET not in repr(found)
    return {check.name: check for check in found}


def paths(simulator: Simulator) -> list[str]:
    return [f"{request.method} {request.path.removeprefix('/api/anthropic')}" for request in simulator.requests]


async def test_a_good_upstream_passes_every_step() -> None:
    async with Simulator(keys={SECRET}) as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
    assert {name: check.state for name, check in found.items()} == dict.fromkeys(
        ("dns", "connect", "upstream", "clock", "credential"), "ok"
    )
    assert "127.0.0.1" in found["dns"].detail
    assert found["credential"].detail == "UPSTREAM_API_KEY was accepted"


async def test_nothing_is_asked_that_would_be_billed() -> None:
    async with Simulator() as simulator:  # takes any credential, so both endpoints are tried
        await look(simulator.base_url, upstream_api_key=SECRET)
        asked = paths(simulator)
    assert asked == ["GET /v1/models"] * 2 + ["POST /v1/messages/count_tokens"] * 2


@pytest.mark.parametrize(("auth", "header"), [("bearer", b"authorization"), ("x-api-key", b"x-api-key")])
async def test_the_held_credential_goes_in_its_header(auth: str, header: bytes) -> None:
    async with Simulator(keys={SECRET}) as simulator:
        await look(simulator.base_url, upstream_api_key=SECRET, upstream_auth=auth)
        first, second = simulator.requests
    names = [[name.lower() for name, _ in request.headers] for request in (first, second)]
    assert (header in names[0], header in names[1]) == (False, True)


async def test_a_refused_credential_fails_with_what_the_upstream_says() -> None:
    async with Simulator(keys={"another"}) as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
    assert found["credential"].state == "fail"
    assert found["credential"].detail.startswith("UPSTREAM_API_KEY was refused (401: ")


async def test_a_secret_that_the_upstream_repeats_is_not_passed_on() -> None:
    refusal = error(401, "authentication_error", f"Incorrect API key provided: {SECRET}")
    async with Simulator(refusal) as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
    assert "[redacted]" in found["credential"].detail


async def test_an_accepted_credential_without_quota_is_worth_a_word() -> None:
    def answer(request: Recorded) -> Scenario:
        if any(name.lower() == b"authorization" for name, _ in request.headers):
            return error(429, "rate_limit_error", "[1113][Insufficient balance][x]", error_code="1113")
        return error(401, "authentication_error", "no key")

    async with Simulator(answer) as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
    assert (found["credential"].state, found["credential"].detail) == (
        "warn",
        "UPSTREAM_API_KEY was accepted, but: Insufficient balance",
    )


async def test_a_credential_that_nothing_proves_is_left_open() -> None:
    async with Simulator() as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
    assert found["credential"].state == "warn"
    assert "claude-proxy code" in found["credential"].fix


async def test_count_tokens_proves_it_where_the_models_are_public() -> None:
    def answer(request: Recorded) -> Scenario:
        if request.method == "GET" or any(value == b"Bearer " + SECRET.encode() for _, value in request.headers):
            return Scenario("models") if request.method == "GET" else Scenario("count_tokens")
        return error(401, "authentication_error", "no key")

    async with Simulator(answer) as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
        assert len(simulator.requests) == 4
    assert found["credential"].state == "ok"


async def test_an_upstream_that_dies_in_between_is_a_warning() -> None:
    async with Simulator(lambda request: raw(b"") if request.connection > 1 else Scenario("models")) as simulator:
        found = await look(simulator.base_url, upstream_api_key=SECRET)
    assert (found["upstream"].state, found["credential"].state) == ("ok", "warn")


@pytest.mark.parametrize(
    ("environ", "settings", "tried"),
    [
        ({**OURS, "ANTHROPIC_AUTH_TOKEN": SECRET}, {}, "ANTHROPIC_AUTH_TOKEN"),
        ({**OURS, "ANTHROPIC_API_KEY": SECRET}, {}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_AUTH_TOKEN": SECRET}, {}, None),
        ({"ANTHROPIC_BASE_URL": "https://else.example", "ANTHROPIC_API_KEY": SECRET}, {}, None),
        ({**OURS, "ANTHROPIC_AUTH_TOKEN": "claude-proxy"}, {}, None),
        ({**OURS, "ANTHROPIC_AUTH_TOKEN": SECRET}, {"proxy_api_key": SECRET}, None),
        (OURS, {}, None),
    ],
)
async def test_a_clients_credential_is_only_tried_where_the_client_would_send_it(
    environ: dict[str, str], settings: dict[str, str], tried: str | None
) -> None:
    async with Simulator(keys={SECRET}) as simulator:
        found = await look(simulator.base_url, environ, **settings)
        sent = [value for request in simulator.requests for _, value in request.headers]
    assert any(SECRET.encode() in value for value in sent) is (tried is not None)
    assert found["credential"].state == "ok"
    assert found["credential"].detail.startswith(tried or "the proxy holds none")


async def test_a_name_without_address() -> None:
    found = await look("https://no-such-name.invalid/api")
    assert list(found) == ["dns"]
    assert found["dns"].state == "fail"
    assert "BASE_URL" in found["dns"].fix


async def test_a_port_where_nobody_listens() -> None:
    async with Simulator() as simulator:
        await simulator.refuse()
        found = await look(simulator.base_url)
    assert [check.state for check in found.values()] == ["ok", "fail"]
    assert "connection refused" in found["connect"].detail


@pytest.mark.parametrize("answer", [b"", b"220 mail.example ESMTP\r\n"])
async def test_an_upstream_that_speaks_no_http(answer: bytes) -> None:
    async with listening(saying(answer)) as server:
        found = await look(server.url)
    assert found["upstream"].state == "fail"
    assert found["upstream"].detail.startswith("no HTTP answer from 127.0.0.1")


async def test_a_silent_upstream_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.cli.doctor.wire.STEP_LIMIT", 0.05)
    async with Simulator(raw(b"", then="stall")) as simulator:
        found = await look(simulator.base_url)
    assert "no answer in time" in found["upstream"].detail


async def test_a_redirect_names_the_better_base_url() -> None:
    async with listening(answering(b"", "308 Permanent Redirect", "location: https://new.example/v1/models\r\n")) as server:
        found = await look(server.url, upstream_api_key=SECRET)
        assert len(server.heads) == 1, "the credential must not go to a redirecting host"
    assert found["upstream"].state == "fail"
    assert "https://new.example/v1/models" in found["upstream"].detail


@pytest.mark.parametrize(("status", "words"), [(529, "overloaded"), (503, "status 503")])
async def test_trouble_of_the_upstreams_own_is_a_warning(status: int, words: str) -> None:
    async with Simulator(error(status)) as simulator:
        found = await look(simulator.base_url)
    assert found["upstream"].state == "warn"
    assert words in found["upstream"].detail


@pytest.mark.parametrize(("off", "words"), [(3600, "behind"), (-7200, "ahead of")])
async def test_a_clock_that_is_off(off: int, words: str) -> None:
    date = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=off), usegmt=True)
    async with listening(answering(b"{}", headers=f"date: {date}\r\n")) as server:
        found = await look(server.url)
    assert found["clock"].state == "warn"
    assert f"s {words} the upstream" in found["clock"].detail


@pytest.mark.parametrize("headers", ["", "date: yesterday\r\n"])
async def test_without_a_date_nothing_is_said_of_the_clock(headers: str) -> None:
    async with listening(answering(b"{}", headers=headers)) as server:
        assert "clock" not in await look(server.url)


async def test_the_proxy_as_its_own_upstream() -> None:
    found = await look("http://localhost:3000/api/anthropic")
    assert list(found) == ["upstream"]
    assert found["upstream"].state == "fail"


# TLS


@pytest.fixture
def authority(home: Path) -> tuple[trustme.CA, Path]:
    """An authority of our own, and the file that trusts it."""
    found = trustme.CA()
    found.cert_pem.write_to_path(str(home / "ca.pem"))
    return found, home / "ca.pem"


def served(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def days(count: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=count)


async def test_a_trusted_certificate(authority: tuple[trustme.CA, Path]) -> None:
    ca, file = authority
    async with Simulator(tls=served(ca.issue_cert("localhost", not_after=days(90))), host="localhost") as simulator:
        found = await look(simulator.base_url, upstream_ca_file=file)
    assert (found["tls"].state, found["upstream"].state) == ("ok", "ok")
    assert "TLSv1.3" in found["tls"].detail


async def test_a_certificate_that_ends_soon(authority: tuple[trustme.CA, Path]) -> None:
    ca, file = authority
    async with Simulator(tls=served(ca.issue_cert("localhost", not_after=days(5))), host="localhost") as simulator:
        found = await look(simulator.base_url, upstream_ca_file=file)
    assert (found["tls"].state, found["upstream"].state) == ("warn", "ok")


@pytest.mark.parametrize(
    ("name", "until", "trusted", "said", "fix"),
    [
        ("other.example", 90, True, "mismatch", "BASE_URL"),
        ("localhost", -1, True, "expired", "clock"),
        ("localhost", 90, False, "unable to get local issuer", "UPSTREAM_CA_FILE"),
    ],
)
async def test_a_certificate_that_is_not_trusted(
    authority: tuple[trustme.CA, Path], name: str, until: int, trusted: bool, said: str, fix: str
) -> None:
    ca, file = authority
    certificate = ca.issue_cert(name, not_before=days(-30), not_after=days(until))
    async with Simulator(tls=served(certificate), host="localhost") as simulator:
        found = await look(simulator.base_url, **({"upstream_ca_file": file} if trusted else {}))
    assert list(found)[-1] == "tls"
    assert found["tls"].state == "fail"
    assert said in found["tls"].detail.lower()
    assert fix in found["tls"].fix


@pytest.fixture
def bundles(home: Path) -> Path:
    """A folder with files that a variable may name."""
    trustme.CA().cert_pem.write_to_path(str(home / "other.pem"))
    (home / "notes.txt").write_text("no certificate\n", encoding="utf-8")
    return home


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SSL_CERT_FILE": "other.pem"}, "SSL_CERT_FILE={}/other.pem (authorities in it: 1) is trusted in place"),
        ({"SSL_CERT_FILE": "gone.pem"}, "SSL_CERT_FILE={}/gone.pem (no such file)"),
        ({"SSL_CERT_FILE": "notes.txt"}, "SSL_CERT_FILE={}/notes.txt (no certificates in it)"),
        ({"SSL_CERT_DIR": "gone"}, "SSL_CERT_DIR={}/gone (no such folder)"),
        ({"SSL_CERT_FILE": "other.pem", "SSL_CERT_DIR": "."}, " and SSL_CERT_DIR={}/. (a folder)"),
        ({"REQUESTS_CA_BUNDLE": "other.pem"}, "REQUESTS_CA_BUNDLE is not read by the proxy: set UPSTREAM_CA_FILE={}/other.pem"),
        ({"NODE_EXTRA_CA_CERTS": "other.pem", "SSL_CERT_FILE": "gone.pem"}, "SSL_CERT_FILE={}/gone.pem (no such file)"),
        ({}, "set UPSTREAM_CA_FILE to its PEM file"),
    ],
)
async def test_the_variable_that_says_whom_to_trust_is_named(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], said: str
) -> None:
    stated = {name: f"{bundles}/{file}" for name, file in environ.items()}
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    async with Simulator(tls=served(trustme.CA().issue_cert("localhost")), host="localhost") as simulator:
        found = await look(simulator.base_url, stated)
    assert said.format(bundles) in found["tls"].fix


async def test_a_ca_file_of_another_authority_is_named(bundles: Path) -> None:
    async with Simulator(tls=served(trustme.CA().issue_cert("localhost")), host="localhost") as simulator:
        found = await look(simulator.base_url, {"SSL_CERT_FILE": "x"}, upstream_ca_file=bundles / "other.pem")
    assert found["tls"].fix.startswith(f"UPSTREAM_CA_FILE={bundles}/other.pem lacks its authority")


def test_a_machine_without_authorities_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = ssl.get_default_verify_paths()._replace(cafile=None, capath=None)  # type: ignore[arg-type]
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: nothing)
    assert "install ca-certificates" in trust_fix(None, {})


async def test_https_where_only_http_is_spoken() -> None:
    async with Simulator(host="localhost") as simulator:
        found = await look(simulator.base_url.replace("http://", "https://"))
    assert found["tls"].state == "fail"
    assert found["tls"].detail.startswith("no TLS with localhost")


async def test_an_unencrypted_upstream_elsewhere_is_worth_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "LOOPBACK", ())
    async with Simulator() as simulator:
        found = await look(simulator.base_url)
    assert found["tls"].state == "warn"


# the outbound proxy


async def test_a_tunnel_through_the_outbound_proxy(authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ca, file = authority
    async with Simulator(tls=served(ca.issue_cert("api.example"))) as simulator, listening(tunnelling(simulator.port)) as outer:
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@127.0.0.1:{outer.port}")
        found = await look("https://api.example/api/anthropic", upstream_ca_file=file)
    assert [name for name, check in found.items() if check.state == "ok"] == [
        "dns", "connect", "proxy", "tls", "upstream", "clock", "credential",
    ]  # fmt: skip
    assert outer.heads[0].startswith(b"CONNECT api.example:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " in outer.heads[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 proxy auth"), (b"", "closed the connection")],
)
async def test_an_outbound_proxy_that_refuses(answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(tunnelling(1, answer)) as outer:
        monkeypatch.setenv("https_proxy", outer.url)
        found = await look("https://api.example/api/anthropic")
    assert found["proxy"].state == "fail"
    assert said in found["proxy"].detail


async def test_plain_http_through_the_outbound_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator() as simulator, listening(tunnelling(simulator.port)) as outer:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{outer.port}")
        found = await look("http://api.example/api/anthropic")
    assert found["upstream"].state == "ok"
    assert outer.heads[0].startswith(b"GET http://api.example/api/anthropic/v1/models?limit=1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in outer.heads[0]


async def test_an_outbound_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    found = await look("https://api.example/api/anthropic")
    assert "HTTPS_PROXY" in found["upstream"].detail
