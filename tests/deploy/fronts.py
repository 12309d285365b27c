"""The front proxies of deploy/, as real programs: the shipped files with addresses, ports and paths put in, nothing else."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anyio
import trustme

from tests.deploy.process import Program, free_port, running

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy"
NAME = "proxy.example.com"
FRONTS = ("nginx", "traefik", "caddy", "haproxy")


@dataclass(frozen=True)
class Certificate:
    """A certificate for NAME and localhost from an authority of our own (ca.pem beside it)."""

    cert: Path
    key: Path
    both: Path
    authority: trustme.CA

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Write the files into `folder`."""
        authority = trustme.CA()
        issued = authority.issue_cert(NAME, "localhost", "127.0.0.1")
        made = cls(folder / "cert.pem", folder / "key.pem", folder / "haproxy.pem", authority)
        authority.cert_pem.write_to_path(folder / "ca.pem")
        made.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        made.key.write_bytes(issued.private_key_pem.bytes())
        made.both.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return made

    def trust(self) -> ssl.SSLContext:
        """A client's context that trusts it; a new one each time, because clients set their protocols (ALPN) on it."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@dataclass(frozen=True)
class Place:
    """Where a front listens and what it stands before."""

    folder: Path
    certificate: Certificate
    proxy_port: int
    https: int
    http: int
    name: str


@dataclass(frozen=True)
class Front:
    """A running front proxy."""

    name: str
    https: int
    http: int
    certificate: Certificate
    program: Program


def render(shipped: str, values: Mapping[str, str]) -> str:
    """The text of deploy/`shipped` with each key of `values` replaced.

    Raises:
        AssertionError: when a key does not occur: the file changed and the test would run something else.
    """
    text = (SHIPPED / shipped).read_text()
    for old, new in values.items():
        assert old in text, f"deploy/{shipped} has no {old!r} any more"
        text = text.replace(old, new)
    return text


@cache
def binary(name: str) -> str:
    """The path of a front proxy's program; Traefik is built once by .ci/docker/traefik.sh.

    Raises:
        AssertionError: when it is not on this machine.
    """
    if name == "traefik":
        found = subprocess.run([ROOT / ".ci/docker/traefik.sh"], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        return found.stdout.strip()
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert path is not None, f"{name} is not installed (apt-get install {name})"
    return path


def nginx(place: Place) -> tuple[list[str], dict[str, str]]:
    """deploy/nginx/claude-proxy.conf and upstream.conf inside a bare nginx.conf."""
    folder = place.folder
    site = {
        "listen 443 ssl": f"listen 127.0.0.1:{place.https} ssl",
        "listen 80;": f"listen 127.0.0.1:{place.http};",
        "/etc/ssl/claude-proxy/cert.pem": str(place.certificate.cert),
        "/etc/ssl/claude-proxy/key.pem": str(place.certificate.key),
        f"server_name {NAME};": f"server_name {place.name};",
        "proxy_read_timeout  900s;": f"proxy_read_timeout {SILENCE}s;",
    }
    (folder / "site.conf").write_text(render("nginx/claude-proxy.conf", site))
    upstream = {"127.0.0.1:3000": f"127.0.0.1:{place.proxy_port}"}
    (folder / "upstream.conf").write_text(render("nginx/upstream.conf", upstream))
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;\n"
        f"events {{ worker_connections 512; }}\n"
        f"http {{ access_log off;\n{temporary}include {folder}/site.conf; include {folder}/upstream.conf; }}\n"
    )
    return ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"], {}


def traefik(place: Place) -> tuple[list[str], dict[str, str]]:
    """deploy/traefik/traefik.toml and routes.toml; the proxy's address from the environment, as the file says."""
    folder = place.folder
    certificate = {
        "/etc/ssl/claude-proxy/cert.pem": str(place.certificate.cert),
        "/etc/ssl/claude-proxy/key.pem": str(place.certificate.key),
    }
    (folder / "routes.toml").write_text(render("traefik/routes.toml", certificate))
    static = {
        '":80"': f'"127.0.0.1:{place.http}"',
        '":443"': f'"127.0.0.1:{place.https}"',
        "/etc/traefik/routes.toml": str(folder / "routes.toml"),
    }
    (folder / "traefik.toml").write_text(render("traefik/traefik.toml", static))
    return [f"--configFile={folder / 'traefik.toml'}"], {
        "SERVER_NAME": place.name,
        "CLAUDE_PROXY_URL": f"http://127.0.0.1:{place.proxy_port}",
    }


def caddy(place: Place) -> tuple[list[str], dict[str, str]]:
    """deploy/caddy/Caddyfile; the proxy's address from the environment, as the file says."""
    values = {
        f"https://{NAME} {{": f"https://{place.name}:{place.https} {{\n\tbind 127.0.0.1",
        f"http://{NAME} {{": f"http://{place.name}:{place.http} {{\n\tbind 127.0.0.1",
        "/etc/ssl/claude-proxy/cert.pem": str(place.certificate.cert),
        "/etc/ssl/claude-proxy/key.pem": str(place.certificate.key),
    }
    (place.folder / "Caddyfile").write_text(render("caddy/Caddyfile", values))
    home = {"HOME": str(place.folder), "XDG_DATA_HOME": str(place.folder), "XDG_CONFIG_HOME": str(place.folder)}
    command = ["run", "--config", str(place.folder / "Caddyfile"), "--adapter", "caddyfile"]
    return command, home | {"CLAUDE_PROXY": f"127.0.0.1:{place.proxy_port}"}


def haproxy(place: Place) -> tuple[list[str], dict[str, str]]:
    """deploy/haproxy/haproxy.cfg; the proxy's address from the environment, as the file says."""
    values = {
        "bind :443": f"bind 127.0.0.1:{place.https}",
        "bind :80": f"bind 127.0.0.1:{place.http}",
        "/etc/ssl/claude-proxy/haproxy.pem": str(place.certificate.both),
        "timeout client          900s": f"timeout client {SILENCE}s",
        "timeout server          900s": f"timeout server {SILENCE}s",
    }
    (place.folder / "haproxy.cfg").write_text(render("haproxy/haproxy.cfg", values))
    return ["-db", "-f", str(place.folder / "haproxy.cfg")], {"CLAUDE_PROXY": f"127.0.0.1:{place.proxy_port}"}


SILENCE = 3
"""Seconds of silence that the fronts bear here, instead of 900: the proxy's pings must come sooner."""

RENDER = {"nginx": nginx, "traefik": traefik, "caddy": caddy, "haproxy": haproxy}


@asynccontextmanager
async def front(name: str, folder: Path, certificate: Certificate, proxy_port: int, host: str = NAME) -> AsyncIterator[Front]:
    """Run the front proxy `name` before 127.0.0.1:proxy_port, with its files in `folder`, called as `host`."""
    place = Place(folder, certificate, proxy_port, free_port(), free_port(), host)
    arguments, extra = RENDER[name](place)
    environ = {"PATH": os.environ["PATH"], **extra}
    async with running([binary(name), *arguments], folder, name, environ=environ) as program:
        await program.until(lambda: answers(place))
        await program.until_listening(place.http)
        yield Front(name, place.https, place.http, certificate, program)


async def answers(place: Place) -> bool:
    """Whether the front shows our certificate and has its routes: Traefik listens a moment before it knows either."""
    try:
        stream = await anyio.connect_tcp(
            "127.0.0.1",
            place.https,
            ssl_context=place.certificate.trust(),
            tls_hostname=place.name,
            tls_standard_compatible=False,
        )
        async with stream:
            await stream.send(f"HEAD /health HTTP/1.1\r\nHost: {place.name}\r\nConnection: close\r\n\r\n".encode())
            return b" 404 " not in await stream.receive()
    except (OSError, ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False


def shipped_files() -> Iterator[Path]:
    """The configuration files a user copies."""
    for name in FRONTS:
        yield from sorted((SHIPPED / name).iterdir())
