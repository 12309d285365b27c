"""Which certificate authorities are trusted, and the error message for an untrusted certificate."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from claude_proxy.errors import SettingsError
from claude_proxy.upstream.failures import words

# X509_V_ERR_...: no chain from the certificate to a known authority (openssl-verification-options(1), x509_vfy.h).
_NO_AUTHORITY = frozenset((2, 18, 19, 20, 21))


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a verifying client context; `ca_file` replaces the system's authorities.

    Raises:
        SettingsError: the file holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"UPSTREAM_CA_FILE={ca_file}: expected PEM certificates ({words(error)}).") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def untrusted(
    host: str, error: ssl.SSLCertVerificationError, ca_file: Path | None, environ: Mapping[str, str] = os.environ
) -> str:
    """Say why a certificate was rejected, and which setting is at fault, if any."""
    said = f"The certificate of {host} is not trusted: {error.verify_message.rstrip('.')}. "
    if error.verify_code in _NO_AUTHORITY and (fault := missing_authority(ca_file, environ)):
        return said + fault
    return said + "Check BASE_URL; for a private authority set UPSTREAM_CA_FILE."


def missing_authority(ca_file: Path | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Say which setting hides an authority and what to do about it; None if no setting does.

    OpenSSL does not report an SSL_CERT_FILE that is missing or empty: it just knows fewer authorities, or none.
    """
    if ca_file is not None:
        return f"UPSTREAM_CA_FILE={ca_file} replaces the system's authorities and lacks this one: add it there, or unset it."
    if file := environ.get("SSL_CERT_FILE"):
        if fault := _file_fault(Path(file)):
            return f"SSL_CERT_FILE={file} {fault}, so its authorities are not known: correct or unset it."
        return f"SSL_CERT_FILE={file} replaces the system's file and lacks this authority: add it there, or set UPSTREAM_CA_FILE."
    folders = environ.get("SSL_CERT_DIR")
    if folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        return f"SSL_CERT_DIR={folders} is not a directory, so its authorities are not known: correct or unset it."
    system = ssl.get_default_verify_paths()
    if not folders and not Path(system.openssl_cafile).is_file() and _is_empty(Path(system.openssl_capath)):
        return "This system has no certificate authorities: install them (package ca-certificates), or set UPSTREAM_CA_FILE."
    return None


def _file_fault(file: Path) -> str | None:
    if not file.is_file():
        return "does not exist" if not file.exists() else "is not a file"
    if not os.access(file, os.R_OK):
        return "cannot be read"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError):
        return "holds no whole certificate"
    return None if context.cert_store_stats()["x509"] else "holds no certificate"


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:
        return True
