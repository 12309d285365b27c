"""Checks the path to the upstream: name, connection, TLS, an answer, the clock, the credential. Each step needs the last."""

from __future__ import annotations

import email.utils
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from claude_proxy.cli.address import LOOPBACK, proxy_url, reason, same_place
from claude_proxy.cli.client_env import PLACEHOLDER
from claude_proxy.cli.doctor.check import Check, Checks, fail, ok, warn
from claude_proxy.cli.doctor.recognise import absent, recognised, speaks_as_api
from claude_proxy.cli.doctor.trust import trust_fix
from claude_proxy.cli.doctor.wire import HttpResponse, ask, connect, reach, resolve, tunnel
from claude_proxy.errors import SettingsError
from claude_proxy.protocol.judge import judge
from claude_proxy.protocol.providers import Provider, find, find_at
from claude_proxy.protocol.usage import read_answer
from claude_proxy.settings import Settings
from claude_proxy.upstream.dial import Origin, parse_origin, tls_context

CLOCK_LIMIT = 60.0  # a larger clock difference (seconds) is reported
EXPIRY_NOTICE = 14 * 86_400.0
MODELS = "/v1/models?limit=1"
COUNT_TOKENS = "/v1/messages/count_tokens"  # answered without being billed
EMPTY: dict[str, Any] = {}  # a body for /v1/messages that every API refuses, so never billed
MESSAGES = "/v1/messages"
QUESTION = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "hi"}]}
REFUSED = (401, 403)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential to try: its header, and whose it is."""

    header: tuple[str, str]
    owner: str


@dataclass(frozen=True, slots=True)
class Way:
    """The upstream's address and how to reach it; each request uses a new connection."""

    origin: Origin
    tls: ssl.SSLContext | None
    base_url: str

    def ask(self, path: str, headers: Mapping[str, str], body: Any) -> HttpResponse:
        """Make one request. Raises OSError or http.client.HTTPException if there is no answer."""
        return ask(connect(self.origin, self.tls), self.origin, path, headers, body)


def upstream(
    settings: Settings,
    environ: Mapping[str, str] = os.environ,
    *,
    held: Sequence[Credential] = (),
    provider: Provider | None = None,
) -> Checks:
    """Check the path to the upstream step by step, until one fails.

    Args:
        held: the credentials of its accounts; by default the one that would be sent there.
        provider: whose API it is; by default derived from the host.
    """
    if settings.port and same_place(settings.base_url, proxy_url(settings)):
        yield fail("upstream", f"BASE_URL={settings.base_url} is this proxy itself", "Set BASE_URL to the API behind it.")
        return
    try:
        origin = parse_origin(settings.base_url)
        tls = tls_context(settings.upstream_ca_file) if origin.tls else None
    except SettingsError as error:
        yield fail("upstream", error.message, "Correct that setting.")
        return
    if not origin.tls and origin.host not in LOOPBACK:
        yield warn("tls", f"BASE_URL={settings.base_url} is not encrypted", "Use https:// if the upstream has it.")
    connected: list[socket.socket] = []
    yield from steps(origin, tls, connected, lambda: trust_fix(settings.upstream_ca_file, environ))
    if connected:
        way = Way(origin, tls, settings.base_url)
        tried = held or (credential(settings, environ),)
        yield from answers(way, connected[0], tried, provider or find(origin.host, origin.port))


def steps(origin: Origin, tls: ssl.SSLContext | None, connected: list[socket.socket], untrusted: Callable[[], str]) -> Checks:
    """Check name, connection, tunnel and TLS; append the ready socket to `connected`.

    Args:
        untrusted: what to do about a certificate of an unknown authority.
    """
    host, port = (origin.proxy.host, origin.proxy.port) if origin.proxy else (origin.host, origin.port)
    what = "outbound proxy " if origin.proxy else ""
    try:
        addresses, spent = timed(lambda: resolve(host, port))
    except (OSError, UnicodeError) as error:
        yield fail("dns", f"{what}{host} has no address ({words(error)})", dns_fix(origin))
        return
    yield ok("dns", f"{what}{host} is {addresses[0][1][0]} ({spent})")
    try:
        sock, spent = timed(lambda: reach(addresses))
    except OSError as error:
        fix = "Check that it is up and that no firewall blocks it; a company network may need HTTPS_PROXY."
        yield fail("connect", f"{what}{host}:{port} does not accept connections ({words(error)})", fix)
        return
    yield ok("connect", f"{what}{host}:{port} ({spent})")
    yield from secure(origin, tls, sock, connected, untrusted)


def secure(
    origin: Origin, tls: ssl.SSLContext | None, sock: socket.socket, connected: list[socket.socket], untrusted: Callable[[], str]
) -> Checks:
    """Check the tunnel through an outbound proxy and the TLS handshake, if needed."""
    try:
        if origin.proxy is not None and origin.tls:
            tunnel(sock, origin)
            yield ok("proxy", f"the outbound proxy {origin.proxy.host}:{origin.proxy.port} opened a tunnel")
    except (OSError, http.client.HTTPException) as error:
        sock.close()
        yield fail("proxy", f"the outbound proxy refused a tunnel ({words(error)})", "Check HTTPS_PROXY and its credentials.")
        return
    if tls is None:
        connected.append(sock)
        return
    try:
        secured, spent = timed(lambda: tls.wrap_socket(sock, server_hostname=origin.host))
    except OSError as error:
        sock.close()
        yield tls_failure(origin, error, untrusted)
        return
    connected.append(secured)
    yield certificate(secured, spent)


def tls_failure(origin: Origin, error: OSError, untrusted: Callable[[], str]) -> Check:
    """Say why a handshake failed, and how to fix it."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        fix = "Check BASE_URL: is the port right, and does it speak https?"
        return fail("tls", f"no TLS with {origin.host}:{origin.port} ({words(error)})", fix)
    said = error.verify_message.rstrip(".")
    if "expired" in said or "not yet valid" in said:
        fix = "Check this machine's clock; else the upstream has to renew its certificate."
    elif "mismatch" in said or "not valid for" in said:
        fix = "Check the host name in BASE_URL."
    else:
        fix = untrusted()
    return fail("tls", f"the certificate of {origin.host} is not trusted: {said}", fix)


def certificate(sock: ssl.SSLSocket, spent: str) -> Check:
    """Report the TLS version, and how long the certificate is valid."""
    found: Any = sock.getpeercert() or {}
    until = str(found.get("notAfter", ""))
    detail = f"{sock.version()}, certificate valid until {until or 'unknown'} ({spent})"
    if until and ssl.cert_time_to_seconds(until) - time.time() < EXPIRY_NOTICE:
        return warn("tls", detail, "It expires soon: the upstream has to renew it.")
    return ok("tls", detail)


def answers(way: Way, sock: socket.socket, tried: Sequence[Credential | None], provider: Provider) -> Checks:
    """Check whether a working Anthropic API answers, its clock, and whether it accepts each credential.

    A credential is only sent to what was recognised as an API.
    """
    try:
        first, spent = timed(lambda: ask(sock, way.origin, MODELS, {}))
    except (OSError, http.client.HTTPException) as error:
        fix = "Check BASE_URL: is that an Anthropic-compatible API, and is it https?"
        yield fail("upstream", f"no HTTP answer from {way.origin.host} ({words(error)})", fix)
        return
    found = judged(way, first, spent)
    yield found
    yield from clock(first)
    if found.state == "ok" or (found.state == "warn" and speaks_as_api(first)):
        for shown in tried:
            yield accepted(way.ask, first, shown, provider)


def judged(way: Way, first: HttpResponse, spent: str) -> Check:
    """Judge the upstream by answers without a credential; make a second request if the first is inconclusive."""
    found = recognised(first, way.base_url, spent)
    if found is not None:
        return found
    try:
        second = way.ask(MESSAGES, {}, EMPTY)
    except (OSError, http.client.HTTPException) as error:
        return warn("upstream", f"it answered {first.status}, then not at all ({words(error)})", "Try again.")
    return recognised(second, way.base_url, spent) or absent(second, way.base_url)


def clock(answer: HttpResponse) -> Checks:
    """Compare this machine's clock with the upstream's Date header."""
    try:
        theirs = email.utils.parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return
    off = time.time() - theirs
    if abs(off) > CLOCK_LIMIT:
        side = "ahead of" if off > 0 else "behind"
        yield warn("clock", f"this machine is {abs(off):.0f} s {side} the upstream", "Switch on time synchronisation (NTP).")
    else:
        yield ok("clock", "agrees with the upstream's")


def credential(settings: Settings, environ: Mapping[str, str]) -> Credential | None:
    """Return the credential that would be sent upstream: the held one, else the one in this shell.

    The shell's is only tried if its ANTHROPIC_BASE_URL leads to the proxy, because it may otherwise be meant for somebody
    else.
    """
    if settings.upstream_api_key is not None:
        value = settings.upstream_api_key.get_secret_value()
        bearer = (settings.upstream_auth or find_at(settings.base_url).auth) == "bearer"
        return Credential(("Authorization", f"Bearer {value}") if bearer else ("x-api-key", value), "UPSTREAM_API_KEY")
    stated = environ.get("ANTHROPIC_BASE_URL", "")
    if settings.proxy_api_key is not None or not settings.port or not stated or not same_place(stated, proxy_url(settings)):
        return None
    if token := environ.get("ANTHROPIC_AUTH_TOKEN"):
        return None if token == PLACEHOLDER else Credential(("Authorization", f"Bearer {token}"), "ANTHROPIC_AUTH_TOKEN")
    if key := environ.get("ANTHROPIC_API_KEY"):
        return Credential(("x-api-key", key), "ANTHROPIC_API_KEY")
    return None


def accepted(
    send: Callable[[str, Mapping[str, str], Any], HttpResponse], first: HttpResponse, shown: Credential | None, provider: Provider
) -> Check:
    """Check whether the upstream accepts the credential, with requests that are not billed.

    An answer proves it only if the same request without a credential is refused.
    """
    if shown is None:
        return ok("credential", "the proxy holds none: each client sends its own")
    try:
        for path, body in ((MODELS, None), (COUNT_TOKENS, QUESTION)):
            without = first if path == MODELS else send(path, {}, body)
            answer = send(path, dict([shown.header]), body)
            verdict = compared(without, answer, shown.owner, provider)
            if verdict is not None:
                return verdict
    except (OSError, http.client.HTTPException) as error:
        return warn("credential", f"no answer to the request with {shown.owner} ({words(error)})", "Try again.")
    fix = 'One billed request tells: claude-proxy code -p "say hi"'
    return warn("credential", f"{shown.owner} cannot be checked for free at this upstream", fix)


def compared(without: HttpResponse, answer: HttpResponse, owner: str, provider: Provider) -> Check | None:
    """Compare `answer`, to a request with the credential, to the one `without` it; None if they prove nothing."""
    failure = judge(answer.status, read_answer(answer.body).error, provider=provider, credential_held=True)
    if failure is not None and failure.side == "proxy":
        fix = f"Check {owner}: is it complete, of this provider, and still valid?"
        return fail("credential", f"{owner} was refused ({answer.status}: {failure.message})", fix)
    if without.status not in REFUSED or answer.status >= 500:
        return None
    if failure is not None and failure.side == "upstream":
        return warn("credential", f"{owner} was accepted, but: {failure.message}", "See the provider's console.")
    return ok("credential", f"{owner} was accepted")


def dns_fix(origin: Origin) -> str:
    """Say what to do about a name without an address."""
    return "Check HTTPS_PROXY." if origin.proxy else "Check the name in BASE_URL, and this machine's network and name servers."


def timed(step: Callable[[], T]) -> tuple[T, str]:
    """Return the step's result, and how long it took, as text."""
    started = time.perf_counter()
    result = step()
    return result, f"{(time.perf_counter() - started) * 1000:.0f} ms"


def words(error: Exception) -> str:
    """Describe an error in a few words; for TLS its reason."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return reason(error)
