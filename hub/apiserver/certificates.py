"""A certificate authority of the server's own, and the certificate it serves HTTPS with.

kubectl sends no token over plain HTTP, so even on loopback it takes TLS. DIR/tls/ keeps the authority (ca.crt, ca.key)
for good, so that kubeconfigs stay right, and the server's certificate, which is made anew before it runs out or when
the server gets another name. Keys are readable by their owner only. For whom a client's certificate is issued is
decided in certificate_signing.py.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hub.api.errors import StorageError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

_AUTHORITY_DAYS: Final = 3650
_SERVER_DAYS: Final = 365
_RENEW_DAYS: Final = 30
# Clocks differ; a certificate must not be too young for a client that is behind.
_BACKDATED: Final = timedelta(hours=1)
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_EVERY_ADDRESS: Final = ("0.0.0.0", "::", "")


def authority(directory: Path) -> bytes:
    """The authority's certificate (PEM), made on first use. Raises `StorageError`, `UsageError`."""
    certificate, _ = _authority(directory / "tls")
    return _pem(certificate)


def server_context(directory: Path, host: str, more: Iterable[str] = ()) -> ssl.SSLContext:
    """For serving HTTPS as `host` (every address: as this machine), `more`, and every name of loopback.

    Raises as `authority` does.
    """
    tls = directory / "tls"
    names = tuple(dict.fromkeys([*_LOCAL, *(_own_names() if host in _EVERY_ADDRESS else [host]), *more]))
    ca, ca_key = _authority(tls)
    certificate, key = tls / "server.crt", tls / "server.key"
    if not _still_good(certificate, key, ca, names):
        _issue(tls, ca, ca_key, names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StorageError(f"{tls} is damaged: {error}", hint="Remove it; new certificates are made.") from error
    return context


def ask_for_certificates(context: ssl.SSLContext, directory: Path) -> None:
    """Lets clients show a certificate of this directory's authority. Raises as `authority` does."""
    context.load_verify_locations(cadata=authority(directory).decode())
    context.verify_mode = ssl.CERT_OPTIONAL


def issue_from(directory: Path, subject: Any, public_key: Any, seconds: int, alternatives: Any = None) -> bytes:
    """A certificate (PEM) by the directory's authority: a server's for `alternatives`, else a client's.

    Raises as `authority` does.
    """
    x509 = _x509()
    ca, ca_key = _authority(directory / "tls")
    purpose = x509.ExtendedKeyUsageOID.CLIENT_AUTH if alternatives is None else x509.ExtendedKeyUsageOID.SERVER_AUTH
    issuer_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=False,
        crl_sign=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(subject, ca.subject, public_key, seconds=seconds)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return _pem(_signed(builder, ca_key))


def signing_key(directory: Path) -> EllipticCurvePrivateKey:
    """What service accounts' tokens are signed with, made on first use. Raises as `authority` does."""
    _x509()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = directory / "tls" / "tokens.key"
    try:
        return load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]  # what we wrote
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        _write(path, _key_pem(key))
        return key
    except (OSError, ValueError) as error:
        hint = "Remove it; tokens of service accounts that were given out are void then."
        raise StorageError(f"{path} cannot be read: {error}", hint=hint) from error


def _own_names() -> list[str]:
    """This machine's name, and its address on the way to others; nothing is sent."""
    names = [socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        names.append(str(probe.getsockname()[0]))
    return [name for name in names if name]


def _x509() -> Any:
    try:
        from cryptography import x509
    except ImportError as error:
        raise UsageError(
            "serving HTTPS with a certificate of our own needs the package `cryptography`",
            hint="Install quarterdeck[hub], or give a certificate.",
        ) from error
    return x509


def _authority(tls: Path) -> tuple[Certificate, EllipticCurvePrivateKey]:
    x509 = _x509()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificate((tls / "ca.crt").read_bytes())
        key = load_pem_private_key((tls / "ca.key").read_bytes(), None)
        return certificate, key  # type: ignore[return-value]  # what we wrote
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise StorageError(
            f"the certificate authority in {tls} cannot be read: {error}",
            hint="Remove the directory; a new one is made, and kubeconfigs have to be written anew.",
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "quarterdeck")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = _signed(
        _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True),
        key,
    )
    _write(tls / "ca.key", _key_pem(key))
    _write(tls / "ca.crt", _pem(certificate))
    return certificate, key


def _issue(tls: Path, ca: Certificate, ca_key: EllipticCurvePrivateKey, names: tuple[str, ...]) -> None:
    x509 = _x509()
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "quarterdeck-apiserver")])
    issuer_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = _signed(
        _builder(subject, ca.subject, key.public_key(), _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False),
        ca_key,
    )
    _write(tls / "server.key", _key_pem(key))
    _write(tls / "server.crt", _pem(certificate))


def _still_good(certificate: Path, key: Path, ca: Certificate, names: tuple[str, ...]) -> bool:
    x509 = _x509()
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        found.verify_directly_issued_by(ca)
        served = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # absent, damaged or another authority's: made anew
        return False
    left = found.not_valid_after_utc - datetime.now(UTC)
    return key.is_file() and left > timedelta(days=_RENEW_DAYS) and {*map(_general, names)} <= set(served)


def _builder(subject: Any, issuer: Any, public_key: Any, days: int = 0, *, seconds: int = 0) -> Any:
    x509 = _x509()
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days, seconds=seconds))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed(builder: Any, key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    certificate: Certificate = builder.sign(key, SHA256())
    return certificate


def _general(name: str) -> Any:
    x509 = _x509()
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", hint="Check who owns the directory.") from error
