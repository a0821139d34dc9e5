"""Certificates of the hub's own for what it serves to API servers, and when new ones are due. No I/O.

Nobody is cut off by a rotation. A server's certificate is made anew a month before it ends. A new authority is told to
all who must know it a day before anything is signed by it, and the old one is known as long as it is good.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_VALID: Final = timedelta(days=730)
AUTHORITY_RENEWED: Final = timedelta(days=180)
"""Left of an authority when the next one is made."""
ANNOUNCED: Final = timedelta(days=1)
"""How long the next authority is known before it signs."""
SERVER_VALID: Final = timedelta(days=90)
SERVER_RENEWED: Final = timedelta(days=30)
# Clocks differ; a certificate must not be too young for who is behind.
_BACKDATED: Final = timedelta(hours=1)
_KEYS: Final = ("authority.crt", "authority.key", "next.crt", "next.key", "ca.crt", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Material:
    """PEM, all of it. `bundle` are the authorities to be known by; `next_authority` is in it and signs nothing yet."""

    authority: bytes
    authority_key: bytes
    bundle: bytes
    certificate: bytes
    key: bytes
    next_authority: bytes = b""
    next_key: bytes = b""


def from_data(data: Mapping[str, bytes]) -> Material | None:
    """What a Secret holds; None where anything that is needed is missing or is no certificate."""
    found = {name: data.get(name, b"") for name in _KEYS}
    if not all(found[name] for name in _KEYS if not name.startswith("next")):
        return None
    material = Material(
        found["authority.crt"],
        found["authority.key"],
        found["ca.crt"],
        found["tls.crt"],
        found["tls.key"],
        found["next.crt"],
        found["next.key"],
    )
    try:
        for pem in (material.authority, material.certificate, material.next_authority):
            if pem:
                x509.load_pem_x509_certificate(pem)
        x509.load_pem_x509_certificates(material.bundle)
        for pem in (material.authority_key, material.key, material.next_key):
            if pem:
                load_pem_private_key(pem, None)
    except ValueError:
        return None
    return material


def to_data(material: Material) -> dict[str, bytes]:
    """Every key, so that what is not any more is overwritten with nothing."""
    parts = (
        material.authority,
        material.authority_key,
        material.next_authority,
        material.next_key,
        material.bundle,
        material.certificate,
        material.key,
    )
    return dict(zip(_KEYS, parts, strict=True))


def renewed(material: Material | None, names: Sequence[str], now: datetime) -> Material:
    """`material` itself while nothing is due. `names` are what the server is called: DNS names and addresses."""
    if material is None or _left(material.authority, now) <= timedelta(0):
        authority, key = _authority(now)
        certificate, server_key = _server(authority, key, names, now)
        return Material(authority, key, authority, certificate, server_key)
    if material.next_authority and now - _since(material.next_authority) >= ANNOUNCED + _BACKDATED:
        material = replace(
            material,
            authority=material.next_authority,
            authority_key=material.next_key,
            next_authority=b"",
            next_key=b"",
        )
    elif not material.next_authority and _left(material.authority, now) < AUTHORITY_RENEWED:
        authority, key = _authority(now)
        material = replace(
            material, next_authority=authority, next_key=key, bundle=material.bundle.rstrip() + b"\n" + authority
        )
    material = replace(material, bundle=_still_good(material, now))
    if not _serves(material, names, now):
        certificate, key = _server(material.authority, material.authority_key, names, now)
        material = replace(material, certificate=certificate, key=key)
    return material


def _serves(material: Material, names: Sequence[str], now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(material.certificate)
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(material.authority))
    except Exception:  # of another authority: cryptography says so in several ways
        return False
    served = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return certificate.not_valid_after_utc - now > SERVER_RENEWED and {*map(_general, names)} <= set(served)


def _still_good(material: Material, now: datetime) -> bytes:
    known: dict[bytes, None] = {}
    for certificate in x509.load_pem_x509_certificates(material.bundle):
        if certificate.not_valid_after_utc > now:
            known[_pem(certificate)] = None
    return b"".join(known)


def _left(pem: bytes, now: datetime) -> timedelta:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc - now


def _since(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_before_utc


def _authority(now: datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Each has a name of its own: two of one name in a bundle confuse those who look for an issuer by name.
    name = _name(f"quarterdeck-hub {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
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
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_VALID)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _pem(builder.add_extension(usage, critical=True).sign(key, SHA256())), _key_pem(key)


def _server(authority: bytes, authority_key: bytes, names: Iterable[str], now: datetime) -> tuple[bytes, bytes]:
    issuer, signer = x509.load_pem_x509_certificate(authority), load_pem_private_key(authority_key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey), "made here"
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    general = [_general(name) for name in names]
    # Never longer than who vouches for it.
    valid = min(SERVER_VALID, issuer.not_valid_after_utc - now)
    builder = (
        _builder(_name("quarterdeck-hub"), issuer.subject, key.public_key(), now, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return _pem(builder.sign(signer, SHA256())), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, valid: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: Any) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found
