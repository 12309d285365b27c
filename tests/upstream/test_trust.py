"""What is said about a certificate that nobody vouches for: the setting that is at fault is named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from claude_proxy.errors import SettingsError
from claude_proxy.upstream.trust import missing_authority, tls_context, untrusted

NO_ISSUER = 20
EXPIRED = 10
GENERAL = "Check BASE_URL; for a private authority set UPSTREAM_CA_FILE."


def refusal(code: int) -> ssl.SSLCertVerificationError:
    """What OpenSSL raises."""
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code, error.verify_message = code, "it is said why."
    return error


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file with an authority."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "good.pem")
    return tmp_path / "good.pem"


def test_an_authority_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"UPSTREAM_CA_FILE=.*empty\.pem"):
        tls_context(tmp_path / "empty.pem")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "does not exist"),
        ("", "holds no whole certificate"),
        ("no certificate", "holds no whole certificate"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n", "holds no whole certificate"),
    ],
)
def test_a_certificate_file_of_the_environment_that_is_no_use_is_named(tmp_path: Path, content: str | None, fault: str) -> None:
    file = tmp_path / "certs.pem"
    if content is not None:
        file.write_text(content)
    assert untrusted("h", refusal(NO_ISSUER), None, {"SSL_CERT_FILE": str(file)}) == (
        f"The certificate of h is not trusted: it is said why. "
        f"SSL_CERT_FILE={file} {fault}, so its authorities are not known: correct or unset it."
    )


def test_a_certificate_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    assert f"SSL_CERT_FILE={tmp_path} is not a file" in untrusted("h", refusal(NO_ISSUER), None, {"SSL_CERT_FILE": str(tmp_path)})


def test_a_certificate_file_that_lacks_the_authority_is_named(good: Path) -> None:
    said = untrusted("h", refusal(NO_ISSUER), None, {"SSL_CERT_FILE": str(good)})
    assert f"SSL_CERT_FILE={good} replaces the system's file and lacks this authority" in said
    assert "UPSTREAM_CA_FILE" in said


def test_a_certificate_folder_that_is_none_is_named(tmp_path: Path) -> None:
    said = untrusted("h", refusal(NO_ISSUER), None, {"SSL_CERT_DIR": str(tmp_path / "none")})
    assert f"SSL_CERT_DIR={tmp_path / 'none'} is not a directory" in said


def test_the_proxys_own_setting_is_named_before_the_environments(good: Path) -> None:
    said = untrusted("h", refusal(NO_ISSUER), good, {"SSL_CERT_FILE": "/nowhere"})
    assert f"UPSTREAM_CA_FILE={good} replaces the system's authorities and lacks this one" in said
    assert "SSL_CERT_FILE" not in said


@pytest.mark.parametrize("environ", [{}, {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}])
def test_without_a_setting_the_remedy_is_general(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(good, good.parent))
    assert untrusted("h", refusal(NO_ISSUER), None, environ).endswith(GENERAL)


def test_an_expired_certificate_is_no_settings_fault(good: Path) -> None:
    assert untrusted("h", refusal(EXPIRED), good, {"SSL_CERT_FILE": "/nowhere"}).endswith(GENERAL)


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_system_without_authorities_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str) -> None:
    """As in a slim container image without ca-certificates."""
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(tmp_path / "none.pem", tmp_path / folder))
    assert "has no certificate authorities" in (missing_authority(None, {}) or "")
    assert missing_authority(None, {"SSL_CERT_DIR": str(tmp_path)}) is None
    (tmp_path / "one.pem").touch()
    assert (missing_authority(None, {}) is None) is (folder == ".")


def paths(file: Path, folder: Path) -> ssl.DefaultVerifyPaths:
    """Where OpenSSL looks if nothing else is set."""
    return ssl.DefaultVerifyPaths(None, None, "SSL_CERT_FILE", str(file), "SSL_CERT_DIR", str(folder))
