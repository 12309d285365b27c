"""The way to the upstream: name, connection, TLS, an answer, the clock, the credential. Each step needs the one before."""

from __future__ import annotations

import email.utils
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from claude_proxy.cli.address import LOOPBACK, proxy_url, reason, same_place
from claude_proxy.cli.client_env import PLACEHOLDER
from claude_proxy.cli.doctor.check import Check, Checks, fail, ok, warn
from claude_proxy.cli.doctor.wire import Answer, ask, connect, reach, resolve, tunnel
from claude_proxy.errors import SettingsError
from claude_proxy.protocol.judge import judge
from claude_proxy.protocol.providers import Provider, find, find_at
from claude_proxy.protocol.usage import read_answer
from claude_proxy.settings import Settings
from claude_proxy.upstream.dial import Origin, parse_origin, tls_context

CLOCK_LIMIT = 60.0  # seconds off that are worth a word
EXPIRY_NOTICE = 14 * 86_400.0
MODELS = "/v1/models?limit=1"
COUNT_TOKENS = "/v1/messages/count_tokens"  # answered without being billed
QUESTION = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "hi"}]}
REFUSED = (401, 403)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential to try: the header it goes in, and whose it is."""

    header: tuple[str, str]
    owner: str


def upstream(settings: Settings, environ: Mapping[str, str] = os.environ) -> Checks:
    """Go the way to the upstream as far as it leads."""
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
    yield from steps(origin, tls, connected)
    if connected:
        yield from answers(origin, tls, connected[0], credential(settings, environ))


def steps(origin: Origin, tls: ssl.SSLContext | None, connected: list[socket.socket]) -> Checks:
    """Name, connection, tunnel, TLS; the ready socket is put into `connected`."""
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
        fix = "Check that it is up, and whether a firewall is between; a company network may need HTTPS_PROXY."
        yield fail("connect", f"{what}{host}:{port} takes no connection ({words(error)})", fix)
        return
    yield ok("connect", f"{what}{host}:{port} ({spent})")
    yield from secure(origin, tls, sock, connected)


def secure(origin: Origin, tls: ssl.SSLContext | None, sock: socket.socket, connected: list[socket.socket]) -> Checks:
    """The tunnel through an outbound proxy and the TLS handshake, where they are needed."""
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
        yield tls_failure(origin, error)
        return
    connected.append(secured)
    yield certificate(secured, spent)


def tls_failure(origin: Origin, error: OSError) -> Check:
    """Why a handshake failed, and what mends it."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        fix = "Check BASE_URL: is the port right, and is it https there?"
        return fail("tls", f"no TLS with {origin.host}:{origin.port} ({words(error)})", fix)
    said = error.verify_message.rstrip(".")
    if "expired" in said or "not yet valid" in said:
        fix = "Check this machine's clock; else the upstream has to renew its certificate."
    elif "mismatch" in said or "not valid for" in said:
        fix = "Check the host name in BASE_URL."
    else:
        fix = "For a private authority, or a company proxy that opens TLS, set UPSTREAM_CA_FILE to its PEM file."
    return fail("tls", f"the certificate of {origin.host} is not trusted: {said}", fix)


def certificate(sock: ssl.SSLSocket, spent: str) -> Check:
    """What the handshake agreed on, and how long the certificate is good for."""
    found: Any = sock.getpeercert() or {}
    until = str(found.get("notAfter", ""))
    detail = f"{sock.version()}, certificate good until {until or 'unknown'} ({spent})"
    if until and ssl.cert_time_to_seconds(until) - time.time() < EXPIRY_NOTICE:
        return warn("tls", detail, "It ends soon: the upstream has to renew it.")
    return ok("tls", detail)


def answers(origin: Origin, tls: ssl.SSLContext | None, sock: socket.socket, shown: Credential | None) -> Checks:
    """Whether it speaks HTTP and is in order, its clock, and whether it takes the credential."""
    try:
        first, spent = timed(lambda: ask(sock, origin, MODELS, {}))
    except (OSError, http.client.HTTPException) as error:
        fix = "Check BASE_URL: is that an Anthropic-compatible API, and is it https?"
        yield fail("upstream", f"no HTTP answer from {origin.host} ({words(error)})", fix)
        return
    yield judged(first, spent)
    yield from clock(first)
    if not 300 <= first.status < 400:
        provider = find(origin.host, origin.port)
        yield accepted(lambda path, headers, body: ask(connect(origin, tls), origin, path, headers, body), first, shown, provider)


def judged(answer: Answer, spent: str) -> Check:
    """What the first answer, asked for without a credential, says of the upstream."""
    if 300 <= answer.status < 400:
        return fail(
            "upstream",
            f"it redirects ({answer.status}) to {answer.headers.get('location', 'nowhere')}",
            "Set BASE_URL to the address it redirects to, without /v1/models.",
        )
    if answer.status >= 500:
        said = "overloaded" if answer.status == 529 else f"status {answer.status}"
        return warn("upstream", f"it answers, but has trouble of its own ({said})", "Wait, or see the provider's status page.")
    return ok("upstream", f"it answers ({answer.status} without a credential, {spent})")


def clock(answer: Answer) -> Checks:
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
    """The credential that would go upstream: the held one, else the client's of this shell.

    The client's is only tried when this shell's ANTHROPIC_BASE_URL leads to the proxy: a key that is meant for somebody
    else is never sent here.
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
    send: Callable[[str, Mapping[str, str], Any], Answer], first: Answer, shown: Credential | None, provider: Provider
) -> Check:
    """Whether the upstream takes the credential, told from requests that are not billed.

    An answer proves it only where the same request without a credential is refused.
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


def compared(without: Answer, answer: Answer, owner: str, provider: Provider) -> Check | None:
    """Judge `answer`, which had the credential, beside the same request `without` it; None where they prove nothing."""
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
    """What to do about a name without an address."""
    return "Check HTTPS_PROXY." if origin.proxy else "Check the name in BASE_URL, and this machine's network and name servers."


def timed(step: Callable[[], T]) -> tuple[T, str]:
    """The step's result, and how long it took, as text."""
    started = time.perf_counter()
    result = step()
    return result, f"{(time.perf_counter() - started) * 1000:.0f} ms"


def words(error: Exception) -> str:
    """An error in a few words; for TLS its reason."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return reason(error)
