"""Finds out why a certificate is not trusted: which setting or variable is used, and what is wrong with it.

The proxy trusts only UPSTREAM_CA_FILE if it is set, else what OpenSSL trusts: SSL_CERT_FILE and SSL_CERT_DIR if they are
set, else the system's files (https://docs.openssl.org/master/man3/SSL_CTX_load_verify_locations/). OpenSSL silently ignores
a missing file. Variables of other programs have no effect.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

OTHERS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE")


def trust_fix(ca_file: Path | None, environ: Mapping[str, str]) -> str:
    """Say what to do about an authority that is not trusted."""
    if ca_file is not None:
        return f"UPSTREAM_CA_FILE={ca_file} lacks its authority: add it there, or unset it to trust the system's."
    stated = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)]
    if stated:
        named = " and ".join(f"{name}={environ[name]} ({held(name, environ[name])})" for name in stated)
        return f"{named} is trusted in place of the system's list: correct or unset it, or set UPSTREAM_CA_FILE."
    for name in OTHERS:
        if environ.get(name):
            return f"{name} is not read by the proxy: set UPSTREAM_CA_FILE={environ[name]}"
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath):
        return "This machine has no list of authorities: install ca-certificates, or set SSL_CERT_FILE or UPSTREAM_CA_FILE."
    return "For a private authority, or a company proxy that opens TLS, set UPSTREAM_CA_FILE to its PEM file."


def held(name: str, value: str) -> str:
    """Describe in a few words what is at the path in a variable."""
    place = Path(value)
    if name == "SSL_CERT_DIR":
        return "a folder" if place.is_dir() else "no such folder"
    if not place.is_file():
        return "no such file"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(value)
    except OSError:  # ssl.SSLError is one
        return "no certificates in it"
    return f"authorities in it: {len(context.get_ca_certs())}"
